#include "net/listener.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "support/certificate.h"
#include "support/stream.h"

using namespace sluice;
using namespace sluice::test;
using net::Address;
using net::Listener;

namespace {

struct Accepted {
  int fd;
  std::string peer;
};

struct Door final : Listener::Owner {
  ~Door() { close_all(); }
  void on_accept(Listener&, int fd, const net::Endpoint& peer) override {
    accepted.push_back({fd, peer.to_string()});
  }
  void on_accept_error(Listener&, int error, std::size_t count) override {
    errors.push_back(error);
    shed += count;
  }
  void close_all() {
    for (const Accepted& one : accepted) ::close(one.fd);
    accepted.clear();
  }
  std::vector<Accepted> accepted;
  std::vector<int> errors;
  std::size_t shed = 0;
};

Result<std::unique_ptr<Listener>> open(TestLoop& loop, const std::string& address, Door& door,
                                       const Listener::Options& options = {.backlog = 16}) {
  return Listener::open(loop.loop, Address::parse(address).value(), options, 7, door);
}

int connect_to(const Address& address) {
  const int fd = ::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(fd, address.raw(), address.raw_size()) != 0) {
    ::close(fd);
    return -1;
  }
  return fd;
}

int highest_descriptor() {
  int highest = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (const dirent* entry = ::readdir(folder))
    highest = std::max(highest, std::atoi(entry->d_name));
  ::closedir(folder);
  return highest;
}

}  // namespace

TEST_CASE("port 0 becomes the port that the kernel chose, and clients are handed out") {
  for (const char* address : {"127.0.0.1:0", "[::1]:0"}) {
    CAPTURE(address);
    TestLoop loop;
    Door door;
    auto listener = open(loop, address, door);
    REQUIRE(listener.has_value());
    CHECK((*listener)->address().port() != 0);
    CHECK((*listener)->index() == 7);
    (*listener)->start();
    ClientEnd client(connect_to((*listener)->address()));
    const std::string self = Address::of_socket(client.fd())->to_string();
    loop.run_until([&] { return door.accepted.size() == 1; });
    CHECK(door.accepted[0].peer == self);
    CHECK((::fcntl(door.accepted[0].fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK((::fcntl(door.accepted[0].fd, F_GETFD) & FD_CLOEXEC) != 0);
    listener->reset();
    CHECK(loop.loop.close().has_value());
  }
}

TEST_CASE("its sockets do not hold small messages back, nor much that cannot be sent yet") {
  TestLoop loop;
  Door door;
  auto listener = open(loop, "127.0.0.1:0", door);
  REQUIRE(listener.has_value());
  (*listener)->start();
  const int client = connect_to((*listener)->address());
  loop.run_until([&] { return door.accepted.size() == 1; });
  for (const int option : {TCP_NODELAY, TCP_NOTSENT_LOWAT}) {
    int value = 0;
    socklen_t size = sizeof value;
    CHECK(::getsockopt(door.accepted[0].fd, IPPROTO_TCP, option, &value, &size) == 0);
    CHECK(value == (option == TCP_NODELAY ? 1 : 512 * 1024));
  }
  ::close(client);
}

TEST_CASE("clients wait in the queue until start(), and nobody is let in after the end") {
  TestLoop loop;
  Door door;
  auto listener = open(loop, "127.0.0.1:0", door);
  REQUIRE(listener.has_value());
  const Address address = (*listener)->address();
  ClientEnd early(connect_to(address));
  CHECK(early.fd() >= 0);
  loop.run_for(20);
  CHECK(door.accepted.empty());
  (*listener)->start();
  loop.run_until([&] { return door.accepted.size() == 1; });
  listener->reset();
  CHECK(connect_to(address) < 0);
  CHECK(loop.loop.close().has_value());
}

TEST_CASE("an address in use is an error that names it") {
  TestLoop loop;
  Door door;
  auto first = open(loop, "127.0.0.1:0", door);
  REQUIRE(first.has_value());
  const std::string address = (*first)->address().to_string();
  const auto second = open(loop, address, door);
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().message == "listen on " + address + ": Address already in use");
}

TEST_CASE("an address is shared by those who all want it shared, and its clients are too") {
  TestLoop loop;
  Door first_door, second_door;
  const Listener::Options shared{.backlog = 64, .reuse_port = true};
  auto first = open(loop, "127.0.0.1:0", first_door, shared);
  REQUIRE(first.has_value());
  const Address address = (*first)->address();
  CHECK_FALSE(open(loop, address.to_string(), second_door).has_value());
  auto second = open(loop, address.to_string(), second_door, shared);
  REQUIRE(second.has_value());
  (*first)->start();
  (*second)->start();

  // The kernel chooses by a hash of the client's port: that 64 of them all fall to one has a chance
  // of 2 to the power of -63.
  std::vector<std::unique_ptr<ClientEnd>> clients;
  for (int i = 0; i < 64; ++i) clients.push_back(std::make_unique<ClientEnd>(connect_to(address)));
  loop.run_until([&] { return first_door.accepted.size() + second_door.accepted.size() == 64; });
  CHECK(!first_door.accepted.empty());
  CHECK(!second_door.accepted.empty());
}

TEST_CASE("IPv4 and IPv6 may have the same port side by side") {
  TestLoop loop;
  Door door;
  bool both = false;
  // Somebody else on this machine may have the port that the kernel chooses.
  for (int i = 0; i < 20 && !both; ++i) {
    const auto v6 = open(loop, "[::]:0", door);
    REQUIRE(v6.has_value());
    both = open(loop, "0.0.0.0:" + std::to_string((*v6)->address().port()), door).has_value();
  }
  CHECK(both);
}

TEST_CASE("a unix socket is served, and its file is gone at the end") {
  TestLoop loop;
  Door door;
  const TemporaryFolder folder;
  const std::string path = folder / "sluice.sock";
  auto listener = open(loop, "unix:" + path, door);
  REQUIRE(listener.has_value());
  CHECK((*listener)->address().to_string() == "unix:" + path);
  (*listener)->start();
  ClientEnd client(connect_to((*listener)->address()));
  loop.run_until([&] { return door.accepted.size() == 1; });
  CHECK(door.accepted[0].peer == "unix");
  listener->reset();
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("another's socket that was moved over ours stays at the end") {
  TestLoop loop;
  Door door;
  const TemporaryFolder folder;
  const std::string path = folder / "sluice.sock";
  auto old = open(loop, "unix:" + path, door);
  REQUIRE(old.has_value());
  auto next = open(loop, "unix:" + path + ".new", door);
  REQUIRE(next.has_value());
  std::filesystem::rename(path + ".new", path);
  old->reset();
  CHECK(std::filesystem::is_socket(path));
}

TEST_CASE("the socket file of a process that was killed is replaced, one in use is not") {
  TestLoop loop;
  Door door;
  const TemporaryFolder folder;
  const std::string path = folder / "sluice.sock";
  {
    const Address address = Address::parse("unix:" + path).value();
    const int left_over = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(left_over, address.raw(), address.raw_size()) == 0);
    REQUIRE(::listen(left_over, 1) == 0);
    ::close(left_over);
  }
  auto listener = open(loop, "unix:" + path, door);
  REQUIRE(listener.has_value());

  const auto second = open(loop, "unix:" + path, door);
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().message == "listen on unix:" + path + ": Address already in use");
  // The first still serves.
  ClientEnd client(connect_to((*listener)->address()));
  CHECK(client.fd() >= 0);
}

TEST_CASE("a listener that refuses is closed to all, whatever its loop is at, and fails nobody") {
  TestLoop loop;
  Door door;
  const TemporaryFolder folder;
  const std::string path = folder / "sluice.sock";
  for (const std::string& where : {std::string("127.0.0.1:0"), "unix:" + path}) {
    CAPTURE(where);
    auto listener = open(loop, where, door);
    REQUIRE(listener.has_value());
    const Address address = (*listener)->address();
    (*listener)->start();
    ClientEnd client(connect_to(address));
    loop.run_until([&] { return door.accepted.size() == 1; });
    std::thread([&] { (*listener)->refuse(); }).join();
    CHECK(connect_to(address) == -1);
    CHECK_FALSE(std::filesystem::exists(path));
    loop.run_for(5);
    CHECK(door.errors.empty());
    // Whoever listens there next is left alone when the first one ends.
    auto next = open(loop, address.to_string(), door, {.backlog = 16, .reuse_port = false});
    REQUIRE(next.has_value());
    listener->reset();
    ClientEnd other(connect_to(address));
    CHECK(other.fd() >= 0);
    door.close_all();
  }
}

TEST_CASE("a file that is no socket is not removed, whatever its name") {
  TestLoop loop;
  Door door;
  const TemporaryFolder folder;
  const std::string path = folder / "precious";
  std::ofstream(path) << "data";
  CHECK_FALSE(open(loop, "unix:" + path, door).has_value());
  CHECK(std::filesystem::file_size(path) == 4);
}

TEST_CASE("out of descriptors, those who wait are shed, and the listener rests and goes on") {
  TestLoop loop;
  Door door;
  auto listener = open(loop, "127.0.0.1:0", door);
  REQUIRE(listener.has_value());
  ClientEnd first(connect_to((*listener)->address()));
  ClientEnd second(connect_to((*listener)->address()));
  ClientEnd third(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  loop.run_for(5);

  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  // Every descriptor up to the limit is taken.
  std::vector<int> gaps;
  const int highest = highest_descriptor();
  do {
    gaps.push_back(::fcntl(0, F_DUPFD_CLOEXEC, 0));
  } while (gaps.back() >= 0 && gaps.back() <= highest);
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(gaps.back()) + 1;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
  (*listener)->start();
  loop.run_until([&] { return !door.errors.empty(); });
  ::setrlimit(RLIMIT_NOFILE, &before);
  for (const int fd : gaps) ::close(fd);

  CHECK(door.errors == std::vector<int>{EMFILE});
  CHECK(door.shed == 2);
  CHECK(door.accepted.empty());
  CHECK(first.read(1).empty());
  CHECK(second.read(1).empty());
  // It rests: no busy loop over an error that does not go away by itself.
  const Address& address = (*listener)->address();
  REQUIRE(::connect(third.fd(), address.raw(), address.raw_size()) == 0);
  const std::uint64_t start = uv::now_ns();
  loop.run_until([&] { return door.accepted.size() == 1; });
  CHECK(uv::now_ns() - start > 50'000'000);
  CHECK(door.errors.size() == 1);
}
