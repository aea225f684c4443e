#include "net/resolver.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netdb.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "support/stream.h"

using namespace sluice;
using namespace sluice::test;

namespace {

using Answer = Result<std::vector<net::Address>>;

struct Asking {
  ~Asking() {
    resolver.reset();
    CHECK(loop.loop.close().has_value());
  }
  void ask(const std::string& host, std::uint16_t port = 80) {
    resolver = std::make_unique<net::Resolver>(loop.loop, host, port, [this](Answer found) {
      ++told;
      answer = std::move(found);
      if (then) then();
    });
  }
  // The answer to `host`, as text.
  std::string resolve(const std::string& host) {
    ask(host);
    CHECK_MESSAGE(told == 0, "told from inside of the constructor");
    loop.run_until([this] { return told > 0; });
    if (!*answer) return answer->error().message;
    std::string text;
    for (const auto& address : **answer) text += address.to_string() + " ";
    return text;
  }

  TestLoop loop;
  int told = 0;
  std::optional<Answer> answer;
  std::function<void()> then;
  std::unique_ptr<net::Resolver> resolver;
};

// The list that getaddrinfo(3) makes.
class Found {
 public:
  Found& v4(const char* ip) {
    auto& made = add(AF_INET, sizeof(sockaddr_in));
    inet_pton(AF_INET, ip, &reinterpret_cast<sockaddr_in&>(made).sin_addr);
    return *this;
  }
  Found& v6(const char* ip) {
    auto& made = add(AF_INET6, sizeof(sockaddr_in6));
    inet_pton(AF_INET6, ip, &reinterpret_cast<sockaddr_in6&>(made).sin6_addr);
    return *this;
  }
  Found& other() {
    add(AF_UNIX, sizeof(sockaddr_un));
    return *this;
  }
  const addrinfo* list() const { return &items_.front()->info; }

 private:
  struct Item {
    addrinfo info{};
    sockaddr_storage address{};
  };
  sockaddr_storage& add(int family, socklen_t size) {
    items_.push_back(std::make_unique<Item>());
    Item& item = *items_.back();
    item.address.ss_family = static_cast<sa_family_t>(family);
    item.info.ai_family = family;
    item.info.ai_addr = reinterpret_cast<sockaddr*>(&item.address);
    item.info.ai_addrlen = size;
    if (items_.size() > 1) items_[items_.size() - 2]->info.ai_next = &item.info;
    return item.address;
  }
  std::vector<std::unique_ptr<Item>> items_;
};

}  // namespace

TEST_CASE("resolver: numbers need no asking, and get the port") {
  CHECK(Asking().resolve("127.0.0.1") == "127.0.0.1:80 ");
  CHECK(Asking().resolve("::1") == "[::1]:80 ");
}

TEST_CASE("resolver: a name becomes the addresses that the system knows") {
  CHECK(Asking().resolve("localhost").find("127.0.0.1:80 ") != std::string::npos);
}

TEST_CASE("resolver: what is no name fails, in words, and from the loop") {
  CHECK(Asking().resolve("") == "resolve : the name is empty");
  CHECK(Asking().resolve(std::string(254, 'a')).ends_with("the name is longer than 253 bytes"));
  CHECK(Asking()
            .resolve(std::string("127.0.0.1\0.example", 18))
            .ends_with("the name has a zero byte"));
  CHECK(Asking().resolve("\xFF") == "resolve \xFF: invalid argument");
  // The longest label has 63 bytes, so that nobody has to be asked.
  const std::string label(64, 'a');
  CHECK(Asking().resolve(label).starts_with("resolve " + label + ": "));
}

TEST_CASE("resolver: it may be destroyed while it asks, and while it tells") {
  Asking early;
  early.ask("localhost");
  early.resolver.reset();
  early.ask("");
  early.resolver.reset();
  early.loop.run_for(20);
  CHECK(early.told == 0);

  for (const char* host : {"localhost", ""}) {
    Asking inside;
    inside.then = [&] { inside.resolver.reset(); };
    inside.resolve(host);
    CHECK(inside.told == 1);
  }
}

TEST_CASE("resolver: a loop that closes waits for a forgotten question, and none is lost") {
  TestLoop loop;
  int told = 0;
  std::vector<std::unique_ptr<net::Resolver>> many;
  for (int i = 0; i < 16; ++i) {  // more than libuv has threads
    many.push_back(std::make_unique<net::Resolver>(loop.loop, "localhost", std::uint16_t{80},
                                                   [&](const Answer&) { ++told; }));
  }
  many.clear();
  CHECK(loop.loop.close().has_value());
  CHECK(told == 0);
}

TEST_CASE("resolver: addresses keep the system's order, none comes twice, others are left out") {
  Found found;
  found.v6("2001:db8::1").v4("192.0.2.1").other().v6("2001:db8::1").v4("192.0.2.1").v4("192.0.2.2");
  const auto addresses = net::addresses_of(found.list(), 443);
  REQUIRE(addresses.has_value());
  REQUIRE(addresses->size() == 3);
  CHECK((*addresses)[0].to_string() == "[2001:db8::1]:443");
  CHECK((*addresses)[1].to_string() == "192.0.2.1:443");
  CHECK((*addresses)[2].to_string() == "192.0.2.2:443");
  CHECK_FALSE(net::addresses_of(Found().other().list(), 443).has_value());
}

TEST_CASE("resolver: a name with very many addresses is cut off") {
  Found found;
  for (int i = 0; i < 100; ++i) found.v4(("192.0.2." + std::to_string(i)).c_str());
  CHECK(net::addresses_of(found.list(), 443)->size() == net::addresses_max);
}
