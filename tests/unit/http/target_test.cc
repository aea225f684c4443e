#include "http/target.h"

#include <doctest/doctest.h>

#include <ostream>
#include <vector>

namespace sluice::http {
namespace {

struct Row {
  const char* sent;
  const char* normal;  // nullptr: refused
};

void check_rows(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    CAPTURE(row.sent);
    const Result<std::string> path = normalise_path(row.sent);
    CHECK(path.has_value() == (row.normal != nullptr));
    if (!path || row.normal == nullptr) continue;
    CHECK(*path == row.normal);
    CHECK(normalise_path(*path) == *path);
  }
}

TEST_CASE("escapes have one spelling (RFC 3986 6.2.2)") {
  check_rows({
      {"/", "/"},
      {"/echo", "/echo"},
      {"/ECHO", "/ECHO"},
      {"/%65%63ho", "/echo"},
      {"/%7Euser%2D%5F", "/~user-_"},
      {"/a%20b", "/a%20b"},
      {"/%3b%3a", "/%3B%3A"},
      {"/a;v=1", "/a;v=1"},
      {"/a!$&'()*+,;=:@", "/a!$&'()*+,;=:@"},
      {"/a|b<c>[d]{e}^`\"", "/a%7Cb%3Cc%3E%5Bd%5D%7Be%7D%5E%60%22"},
      {"/%25", "/%25"},
      {"/%252e%252e/", "/%252e%252e/"},
      {"/%3F", "/%3F"},
      {"/%23", "/%23"},
      {"/%e4%bd%a0", "/%E4%BD%A0"},
      {"/%F0%9F%98%80", "/%F0%9F%98%80"},
  });
}

TEST_CASE("dot segments and empty segments are resolved (RFC 3986 5.2.4)") {
  check_rows({
      {"//admin", "/admin"},
      {"/a//b///c", "/a/b/c"},
      {"//", "/"},
      {"/a//", "/a/"},
      {"/chat/../admin", "/admin"},
      {"/chat/..", "/"},
      {"/a/b/..", "/a/"},
      {"/a/b/.", "/a/b/"},
      {"/./a", "/a"},
      {"/a/%2e%2E/b", "/b"},
      {"/%2e/a", "/a"},
      {"/a/.%2e/b", "/b"},
      {"/a//../b", "/b"},
      {"/...", "/..."},
      {"/..a/b..", "/..a/b.."},
  });
}

TEST_CASE("what has two readings is refused") {
  check_rows({
      {"", nullptr},           {"a", nullptr},
      {"/..", nullptr},        {"/%2e%2e/", nullptr},
      {"/a/../../b", nullptr}, {"//..", nullptr},
      {"/..;/admin", nullptr}, {"/a/..;x=1/admin", nullptr},
      {"/.;/admin", nullptr},  {"/%2e%2e;/admin", nullptr},
      {"/a%2Fb", nullptr},     {"/a%2fb", nullptr},
      {"/a%5Cb", nullptr},     {"/a%5cb", nullptr},
      {"/a\\b", nullptr},      {"/a#b", nullptr},
      {"/%00", nullptr},       {"/a b", nullptr},
      {"/%", nullptr},         {"/%4", nullptr},
      {"/%4g", nullptr},       {"/%g4", nullptr},
      {"/%u0041", nullptr},    {"/\xe4\xbd\xa0", nullptr},
  });
}

TEST_CASE("control characters never pass, escaped or not") {
  check_rows({
      {"/a%0d%0aX:b", nullptr},
      {"/a%0A", nullptr},
      {"/%7f", nullptr},
      {"/%1b", nullptr},
      {"/%09", nullptr},
      {"/a\r\nb", nullptr},
      {"/\x7f", nullptr},
  });
}

TEST_CASE("escapes are UTF-8 (RFC 3629 3)") {
  check_rows({
      {"/%c0%ae%c0%ae/", nullptr},         // overlong dots
      {"/%c0%af", nullptr},                // overlong slash
      {"/%c1%bf", nullptr},                //
      {"/%e0%80%af", nullptr},             //
      {"/%f0%80%80%af", nullptr},          //
      {"/%ed%a0%80", nullptr},             // surrogates
      {"/%ed%bf%bf", nullptr},             //
      {"/%f4%90%80%80", nullptr},          // over U+10FFFF
      {"/%f5%80%80%80", nullptr},          //
      {"/%80", nullptr},                   // no lead byte
      {"/%e4%bd", nullptr},                // cut
      {"/%e4/%bd%a0", nullptr},            //
      {"/%ff", nullptr},                   //
      {"/%ed%9f%bf", "/%ED%9F%BF"},        // the last before the surrogates
      {"/%ee%80%80", "/%EE%80%80"},        // the first behind them
      {"/%f4%8f%bf%bf", "/%F4%8F%BF%BF"},  // U+10FFFF
      {"/%e0%a0%80", "/%E0%A0%80"},        //
      {"/%f0%90%80%80", "/%F0%90%80%80"},  //
      {"/%c2%80", "/%C2%80"},              //
  });
}

TEST_CASE("a target is split into path, query and authority (RFC 9112 3.2)") {
  CHECK(parse_target("/a/../b?c=/../%0a?d")->path == "/b");
  CHECK(parse_target("/a/../b?c=/../%0a?d")->query == "c=/../%0a?d");
  CHECK(parse_target("/a?")->query == "");
  CHECK(parse_target("http://h:1/a?q")->authority == "h:1");
  CHECK(parse_target("http://h:1/a?q")->path == "/a");
  CHECK(parse_target("http://h")->path == "/");
  CHECK(parse_target("//h/a")->path == "/h/a");
  CHECK(parse_target("//h/a")->authority == "");
  for (const char* refused : {"", "?a", "a", "http:/a", "http://", "http://?", "ws://h/", "/a?#",
                              "/a#", "/a?\x7f", "/a?\x80", "/a? ", "http://h\\a"}) {
    CAPTURE(refused);
    CHECK_FALSE(parse_target(refused).has_value());
  }
}

}  // namespace
}  // namespace sluice::http
