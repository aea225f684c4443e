// Peers that do not read, and peers that are gone (net/send_watch.h, net/tcp_info.h).
#include "net/send_watch.h"

#include <linux/filter.h>

#include "support/stream.h"

using namespace sluice;
using namespace sluice::test;

namespace {

constexpr std::uint64_t timeout_ms = 500;

// As if the host were gone: its kernel gets to see no segment any more.
void vanish(int fd) {
  sock_filter drop_all = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog program{.len = 1, .filter = &drop_all};
  REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
}

struct Stream : ServerEnd {
  Stream() : Stream(tcp_pair()) {}
  explicit Stream(std::pair<int, int> ends) : client(ends.second), server_fd(ends.first) {
    transport = std::make_unique<net::PlainTransport>(loop.loop, buffers, ends.first,
                                                      static_cast<Recorder&>(owner));
    transport->read(true);
    ticks.start(20, 20);
  }
  ~Stream() { transport.reset(); }  // before the wheel
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // More than the peer's kernel takes: its window closes.
  void fill() {
    send(numbered(16 * 1024 * 1024));
    REQUIRE(transport->blocked());
  }

  ClientEnd client;
  int server_fd;
  TimerWheel wheel{uv::now_ns() / 1'000'000};
  uv::Timer ticks{loop.loop, [this] { wheel.advance(uv::now_ns() / 1'000'000); }};
};

}  // namespace

TEST_CASE("send watch: a peer that does not read, and whose kernel answers, is not given up") {
  Stream stream;
  stream.transport->set_user_timeout(stream.wheel, timeout_ms);
  stream.fill();
  stream.loop.run_for(5 * timeout_ms);
  CHECK(stream.owner.told().empty());
  const net::SendProgress progress = stream.transport->progress();
  CHECK(progress.outstanding);
  CHECK_FALSE(progress.unanswered);
  CHECK(stream.wheel.size() == 1);
}

TEST_CASE("send watch: a peer that has vanished with its window open is given up") {
  Stream stream;
  stream.transport->set_user_timeout(stream.wheel, timeout_ms);
  vanish(stream.client.fd());
  stream.send("Hello?");
  stream.loop.run_for(timeout_ms);
  CHECK(stream.owner.told().empty());
  stream.loop.run_until([&] { return !stream.owner.told().empty(); });
  CHECK(stream.transport->progress().unanswered);
  CHECK(stream.owner.told() == "failure reset");
  CHECK(stream.owner.why.find("keepalive.tcp_user_timeout") != std::string::npos);
  CHECK(stream.wheel.size() == 0);
}

TEST_CASE("send watch: a peer that has vanished with its window closed is given up") {
  Stream stream;
  stream.transport->set_user_timeout(stream.wheel, timeout_ms);
  stream.fill();
  stream.loop.run_for(300);
  vanish(stream.client.fd());
  stream.loop.run_until([&] { return !stream.owner.told().empty(); });
  CHECK(stream.owner.told() == "failure reset");
}

TEST_CASE("send watch: an idle connection is not looked at, and is again once something is sent") {
  Stream stream;
  stream.transport->set_user_timeout(stream.wheel, timeout_ms);
  stream.loop.run_until([&] { return stream.wheel.size() == 0; });  // nothing was outstanding
  stream.send("Hello");
  CHECK(stream.wheel.size() == 1);
  stream.loop.run_until([&] { return stream.wheel.size() == 0; });
  vanish(stream.client.fd());
  stream.send("Hello?");
  stream.loop.run_until([&] { return !stream.owner.told().empty(); });
  CHECK(stream.owner.told() == "failure reset");
}

TEST_CASE("send watch: without a timeout nothing is watched, and the kernel's own is left alone") {
  Stream stream;
  stream.transport->set_user_timeout(stream.wheel, 0);
  vanish(stream.client.fd());
  stream.send("Hello?");
  stream.loop.run_for(2 * timeout_ms);
  CHECK(stream.owner.told().empty());
  CHECK(stream.wheel.size() == 0);
}
