#include "router.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

using sluice::Router;

namespace {

// "3 room=42 user=li", or "none".
std::string found(const Router& router, std::string_view host, std::string_view path) {
  const auto match = router.match(host, path);
  if (!match) return "none";
  std::string text = std::to_string(match->route);
  for (const auto& [name, value] : match->parameters) {
    text += " " + std::string(name) + "=" + std::string(value);
  }
  return text;
}

std::string add_error(std::string_view host, std::string_view pattern) {
  Router router;
  const auto added = router.add(host, pattern, 0);
  return added ? "added" : added.error().message;
}

struct Entry {
  const char* host;
  const char* pattern;
};

const std::vector<Entry> entries = {
    {"", "/*"},                       // 0
    {"", "/chat/*"},                  // 1
    {"", "/chat/{room}"},             // 2
    {"", "/chat/lobby"},              // 3
    {"", "/chat/{room}/log"},         // 4
    {"", "/chat/lobby/{day}"},        // 5
    {"Chat.Example.com", "/chat/*"},  // 6
};

struct Expectation {
  const char* host;
  const char* path;
  const char* found;
};

const std::vector<Expectation> expectations = {
    {"", "/", "0"},
    {"", "/chat", "0"},
    {"", "/chat/", "1"},
    {"", "/chat/lobby", "3"},
    {"", "/chat/LOBBY", "2 room=LOBBY"},
    {"", "/chat/%E8%81%8A", "2 room=%E8%81%8A"},
    {"", "/chat/42/log", "4 room=42"},
    {"", "/chat/42/other", "1"},
    {"", "/chat/lobby/log", "5 day=log"},
    {"", "/chat/lobby/log/x", "1"},
    {"", "/chat/lobby/", "1"},
    {"other.example.com", "/chat/lobby", "3"},
    {"chat.example.com", "/chat/lobby", "6"},
    {"chat.example.com", "/echo", "0"},
};

void add_in_order(Router& router, const std::vector<std::size_t>& order) {
  for (const std::size_t i : order) {
    REQUIRE(router.add(entries[i].host, entries[i].pattern, static_cast<std::uint32_t>(i)));
  }
}

}  // namespace

TEST_CASE("the most specific pattern wins in every order of insertion") {
  std::vector<std::size_t> order = {0, 1, 2, 3, 4, 5, 6};
  std::string wrong;
  do {
    Router router;
    add_in_order(router, order);
    for (const auto& expected : expectations) {
      const auto actual = found(router, expected.host, expected.path);
      if (actual != expected.found) wrong += std::string(expected.path) + " -> " + actual + "; ";
    }
  } while (wrong.empty() && std::next_permutation(order.begin(), order.end()));
  CHECK(wrong == "");
}

TEST_CASE("without a route of its own a path matches nothing") {
  Router router;
  CHECK(found(router, "", "/") == "none");
  REQUIRE(router.add("", "/echo", 7));
  CHECK(found(router, "", "/echo") == "7");
  for (const char* path : {"/", "/ech", "/echo/", "/echoo", "/echo/x", "/Echo", "", "echo", "*"}) {
    CAPTURE(path);
    CHECK(found(router, "", path) == "none");
  }
}

TEST_CASE("a suffix matches the folder and everything below, but not its name alone") {
  Router router;
  REQUIRE(router.add("", "/app/*", 1));
  CHECK(found(router, "", "/app/") == "1");
  CHECK(found(router, "", "/app/x") == "1");
  CHECK(found(router, "", "/app/x/y/") == "1");
  CHECK(found(router, "", "/app") == "none");
  CHECK(found(router, "", "/apple") == "none");
}

TEST_CASE("parameters are the raw segments, in the order of the pattern") {
  Router router;
  REQUIRE(router.add("", "/{a}/x/{b}", 1));
  REQUIRE(router.add("", "/{c}/*", 2));
  CHECK(found(router, "", "/1/x/2") == "1 a=1 b=2");
  CHECK(found(router, "", "/a%20b/x/c%2Cd") == "1 a=a%20b b=c%2Cd");
  CHECK(found(router, "", "/1/x/") == "2 c=1");
  CHECK(found(router, "", "//x/2") == "none");
}

TEST_CASE("a literal that leads nowhere gives way to a parameter") {
  Router router;
  REQUIRE(router.add("", "/a/b/c", 1));
  REQUIRE(router.add("", "/{x}/b/d", 2));
  REQUIRE(router.add("", "/a/{y}/e", 3));
  CHECK(found(router, "", "/a/b/c") == "1");
  CHECK(found(router, "", "/a/b/d") == "2 x=a");
  CHECK(found(router, "", "/a/b/e") == "3 y=b");
  CHECK(found(router, "", "/a/b/f") == "none");
}

TEST_CASE("literals match in the normal form of RFC 3986 6.2.2, however they are written") {
  for (const char* pattern : {"/聊天", "/%E8%81%8A%E5%A4%A9", "/%e8%81%8a%e5%a4%a9"}) {
    CAPTURE(pattern);
    Router router;
    REQUIRE(router.add("", pattern, 1));
    CHECK(found(router, "", "/%E8%81%8A%E5%A4%A9") == "1");
  }
  Router router;
  REQUIRE(router.add("", "/%61%2d%7E%2c x|", 1));
  CHECK(found(router, "", "/a-~%2C%20x%7C") == "1");
  CHECK_FALSE(router.add("", "/a-~%2C%20x%7C", 2));
}

TEST_CASE("two patterns that match the same requests are an error") {
  Router router;
  REQUIRE(router.add("", "/chat/{room}", 1));
  CHECK(router.add("", "/chat/{name}", 2).error().message ==
        "another route matches the same requests as /chat/{name}");
  CHECK(router.add("a.example", "/chat/{room}", 3));
  CHECK_FALSE(router.add("A.EXAMPLE", "/chat/{x}", 4));
  CHECK(router.add("", "/chat/{room}/*", 5));
  CHECK_FALSE(router.add("", "/chat/{x}/*", 6));
  CHECK(found(router, "", "/chat/1") == "1 room=1");
}

TEST_CASE("malformed patterns say what is wrong with them") {
  CHECK(add_error("", "") == "a path begins with \"/\"");
  CHECK(add_error("", "echo") == "a path begins with \"/\"");
  CHECK(add_error("", "//") == "\"//\" is not allowed");
  CHECK(add_error("", "/a//b") == "\"//\" is not allowed");
  CHECK(add_error("", "/a*") == "\"*\" stands only alone at the end, as in /app/*");
  CHECK(add_error("", "/*/a") == "\"*\" stands only alone at the end, as in /app/*");
  CHECK(add_error("", "/a{b}") == "braces must enclose a whole segment, as in /chat/{room}");
  CHECK(add_error("", "/{b") == "braces must enclose a whole segment, as in /chat/{room}");
  CHECK(add_error("", "/{}").starts_with("a parameter's name is letters"));
  CHECK(add_error("", "/{a-b}").starts_with("a parameter's name is letters"));
  CHECK(add_error("", "/{a}/{a}") == "two parameters have the same name");
  CHECK(add_error("", "/a?b") == "\"?\" begins a query, and routes match the path only");
  CHECK(add_error("", "/a#b") == "\"#\" begins a fragment, which no request carries");
  CHECK(add_error("", "/a\\b") == "write \"/\" between segments, not \"\\\"");
  CHECK(add_error("", "/a%2fb") == "\"%2f\" never reaches a route");
  CHECK(add_error("", "/a%00") == "\"%00\" never reaches a route");
  CHECK(add_error("", "/a%5C") == "\"%5C\" never reaches a route");
  CHECK(add_error("", "/a%ff") == "escapes that are not UTF-8 never reach a route");
  CHECK(add_error("", "/100%").starts_with("\"%\" must be followed by two hexadecimal digits"));
  CHECK(add_error("", "/a/../b") == "\".\" and \"..\" are not allowed as segments");
  CHECK(add_error("", "/%2e%2E") == "\".\" and \"..\" are not allowed as segments");
  CHECK(add_error("", "/..;x/a") == "\".\" and \"..\" are not allowed as segments");
  CHECK(add_error("", "/a\nb") == "control characters are not allowed");
  CHECK(add_error("", "/" + std::string(1024, 'a')) == "longer than 1024 bytes");
}

TEST_CASE("malformed hosts say what is wrong with them") {
  CHECK(add_error("example.com:80", "/").starts_with("a host has no port"));
  CHECK(add_error("http://example.com", "/").starts_with("a host has no port"));
  CHECK(add_error("*.example.com", "/") == "a host has no wildcards");
  CHECK(add_error("例子.测试", "/").starts_with("write an international name"));
  for (const char* host : {"-a.b", "a..b", ".", "a.", "a b", "a/b", "a_-"}) {
    CAPTURE(host);
    CHECK(add_error(host, "/") == "not a host name");
  }
  CHECK(add_error("[::g]", "/") == "not an IPv6 address in brackets");
  CHECK(add_error("[::1", "/") == "not an IPv6 address in brackets");
}

TEST_CASE("hosts are compared without case, and may be addresses") {
  Router router;
  REQUIRE(router.add("10.0.0.1", "/", 1));
  REQUIRE(router.add("[2001:DB8::1]", "/", 2));
  CHECK(found(router, "10.0.0.1", "/") == "1");
  CHECK(found(router, "[2001:db8::1]", "/") == "2");
  CHECK(found(router, "", "/") == "none");
}

TEST_CASE("a pattern has at most 32 segments and 8 parameters, and a long path costs no more") {
  std::string pattern;
  for (int i = 0; i < 32; ++i) pattern += "/s";
  CHECK(add_error("", pattern) == "added");
  CHECK(add_error("", pattern + "/s") == "more than 32 segments");
  CHECK(add_error("", "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}") == "added");
  CHECK(add_error("", "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}") == "more than 8 parameters");

  Router router;
  REQUIRE(router.add("", pattern + "/*", 1));
  std::string path;
  for (int i = 0; i < 1'000'000; ++i) path += "/s";
  CHECK(found(router, "", path) == "1");
}

TEST_CASE("100,000 routes are matched as fast as ten") {
  using Clock = std::chrono::steady_clock;
  auto time_of = [](std::uint32_t routes) {
    Router router;
    for (std::uint32_t i = 0; i < routes; ++i) {
      const auto name = std::to_string(i);
      REQUIRE(router.add("", "/rooms/" + name + "/{user}", i));
    }
    const std::string path = "/rooms/" + std::to_string(routes - 1) + "/li";
    CHECK(found(router, "", path) == std::to_string(routes - 1) + " user=li");
    std::size_t matched = 0;
    auto best = Clock::duration::max();  // of several rounds, so that a busy machine does not count
    for (int round = 0; round < 5; ++round) {
      const auto begin = Clock::now();
      for (int i = 0; i < 2'000; ++i) matched += router.match("", path).has_value();
      best = std::min(best, Clock::now() - begin);
    }
    CHECK(matched == 10'000);
    return best;
  };
  const auto few = time_of(10);
  const auto many = time_of(100'000);
  CHECK(many < 20 * few);  // a linear search would take 10,000 times as long
}

TEST_CASE("backtracking enters no node twice") {
  // Every combination of literal and parameter in six segments: the worst there is, 64 patterns.
  Router router;
  for (std::uint32_t bits = 0; bits < 64; ++bits) {
    std::string pattern;
    for (std::uint32_t i = 0; i < 6; ++i) {
      pattern += (bits >> i) & 1 ? "/{p" + std::to_string(i) + "}" : "/a";
    }
    REQUIRE(router.add("", pattern + "/end", bits));
  }
  CHECK(found(router, "", "/a/a/a/a/a/a/end") == "0");
  CHECK(found(router, "", "/a/b/a/a/a/a/end") == "2 p1=b");
  CHECK(found(router, "", "/a/a/a/a/a/a/nowhere") == "none");
}
