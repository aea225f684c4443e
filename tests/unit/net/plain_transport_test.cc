#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <atomic>
#include <thread>

#include "support/stream.h"

using namespace sluice;
using namespace sluice::test;

namespace {

struct Stream : ServerEnd {
  explicit Stream(std::pair<int, int> ends) : client(ends.second), server_fd(ends.first) {
    transport = std::make_unique<net::PlainTransport>(loop.loop, buffers, ends.first,
                                                      static_cast<Recorder&>(owner));
  }

  ClientEnd client;
  int server_fd;
};

// A pair whose kernel may hold more for the server than one read brings.
std::pair<int, int> tcp_pair_with_room() {
  const auto ends = tcp_pair();
  const int many = 400'000;
  ::setsockopt(ends.first, SOL_SOCKET, SO_RCVBUF, &many, sizeof many);
  return ends;
}

void until_arrived(Stream& stream, std::size_t size) {
  stream.loop.run_until([&] {
    int arrived = 0;
    return ::ioctl(stream.server_fd, FIONREAD, &arrived) == 0 && arrived == static_cast<int>(size);
  });
}

}  // namespace

TEST_CASE("plain: bytes go both ways, over TCP and over a unix socket") {
  for (const auto& ends : {tcp_pair(), unix_pair()}) {
    Stream stream(ends);
    stream.owner.receive_then = [&](std::string_view bytes) { stream.send(bytes); };
    stream.transport->read(true);
    stream.client.send("Hello");
    stream.loop.run_until([&] { return stream.owner.received.size() == 5; });
    CHECK(stream.client.read(5) == "Hello");
    CHECK_FALSE(stream.transport->blocked());
    CHECK_FALSE(stream.transport->secure());
    CHECK(stream.owner.told().empty());
  }
}

TEST_CASE("plain: what the kernel refuses stays in output(), and leaves by itself, in order") {
  Stream stream(tcp_pair());
  const std::string text = numbered(32 * 1024 * 1024);
  stream.send(text);
  REQUIRE(stream.transport->blocked());
  const std::size_t left = stream.transport->buffered_bytes();
  CHECK(left > 0);
  CHECK(left < text.size());
  stream.loop.run_for(20);
  CHECK(stream.owner.sent == 0);  // nobody has read

  std::string got;
  std::atomic<bool> done{false};
  std::thread reader([&] {
    got = stream.client.read(text.size());
    done = true;
  });
  stream.loop.run_until([&] { return done.load(); });
  reader.join();
  CHECK(got == text);
  CHECK(stream.owner.sent > 0);
  CHECK_FALSE(stream.transport->blocked());
  CHECK(stream.transport->buffered_bytes() == 0);
}

TEST_CASE("plain: what is appended while blocked leaves behind the rest, without a flush()") {
  Stream stream(unix_pair());
  const std::string text = numbered(4 * 1024 * 1024);
  stream.send(text);
  REQUIRE(stream.transport->blocked());
  stream.transport->output().append(as_bytes("tail"));
  std::string got;
  std::atomic<bool> done{false};
  std::thread reader([&] {
    got = stream.client.read(text.size() + 4);
    done = true;
  });
  stream.loop.run_until([&] { return done.load(); });
  reader.join();
  CHECK(got == text + "tail");
}

TEST_CASE("plain: what is sent on is borrowed from the receive buffer, and kept if it is refused") {
  Stream from(tcp_pair());
  ServerEnd& shared = from;
  const auto ends = unix_pair();
  Recorder owner;
  ClientEnd client(ends.second);
  net::PlainTransport to(shared.loop.loop, shared.buffers, ends.first, owner);
  from.owner.receive_then = [&](std::string_view bytes) {
    to.output().append_lent(as_bytes(bytes));
    to.flush_soon();
  };
  from.transport->read(true);
  const std::string text = numbered(4 * 1024 * 1024);
  std::thread writer([&] { from.client.send(text); });
  from.loop.run_until([&] { return from.owner.received.size() == text.size(); });
  writer.join();
  CHECK(to.blocked());  // by then; and the buffer has been read into many times
  std::atomic<bool> done{false};
  std::string got;
  std::thread reader([&] {
    got = client.read(text.size());
    done = true;
  });
  from.loop.run_until([&] { return done.load(); });
  reader.join();
  CHECK(got == text);
}

TEST_CASE("plain: what is lent in an event takes the place of what was received, and goes again") {
  Stream stream(tcp_pair());
  const std::string size(ByteQueue::borrowed_bytes_min, ' ');
  std::string expected;
  stream.owner.receive_then = [&](std::string_view received) {
    net::Transport& transport = *stream.transport;
    const auto answer = [&](std::string_view bytes) {
      transport.output().append_lent(as_bytes(bytes));
      CHECK(transport.output().front().data() == as_bytes(bytes).data());
      transport.flush_soon();
      expected += bytes;
    };
    std::string message(size.size(), 'm');
    answer(received);
    const Bytes before = transport.lend(as_bytes(message));
    CHECK(before.data() == as_bytes(received).data());
    CHECK(transport.output().empty());  // it has left
    answer(message);
    transport.lend(before);
    CHECK(transport.output().empty());
    message.assign(message.size(), '?');
    answer(received);
  };
  stream.transport->read(true);
  stream.client.send(size);
  stream.loop.run_until([&] { return stream.owner.received.size() == size.size(); });
  CHECK(stream.client.read(3 * size.size()) == expected);
}

TEST_CASE("plain: read(false) leaves bytes in the kernel until read(true)") {
  Stream stream(tcp_pair());
  stream.transport->read(true);
  stream.owner.receive_then = [&](std::string_view) { stream.transport->read(false); };
  stream.client.send("one");
  stream.loop.run_until([&] { return stream.owner.received == "one"; });
  stream.client.send("two");
  int turns = 0;
  stream.loop.at_turn_end = [&] { ++turns; };
  stream.loop.run_for(20);
  CHECK(stream.owner.received == "one");
  CHECK(turns < 200);  // and the loop does not spin over them
  stream.transport->read(true);
  stream.loop.run_until([&] { return stream.owner.received == "onetwo"; });
}

TEST_CASE("plain: while nothing is read a reset is told at once, if that was asked for") {
  for (const auto& act : std::initializer_list<std::function<void(Stream&)>>{
           [](Stream&) {},
           [](Stream& stream) { stream.client.send("unread"); },
           [](Stream& stream) { stream.client.shutdown(); },
           [](Stream& stream) { stream.transport->read(true), stream.transport->read(false); },
       }) {
    Stream stream(tcp_pair());
    stream.transport->tell_resets_at_once();
    act(stream);
    stream.loop.run_for(5);
    CHECK(stream.owner.told().empty());
    stream.client.reset();
    stream.loop.run_until([&] { return !stream.owner.told().empty(); });
    CHECK(stream.owner.told() == "failure reset");
    CHECK(stream.owner.received.empty());
  }
}

TEST_CASE("plain: if it was not, what came before a reset is there for whoever reads later") {
  Stream stream(tcp_pair());
  stream.client.send("last words");
  stream.client.reset();
  stream.loop.run_for(20);
  CHECK(stream.owner.told().empty());
  stream.transport->read(true);
  stream.loop.run_until([&] { return stream.owner.told("failure reset"); });
  CHECK(stream.owner.received == "last words");
}

TEST_CASE("plain: nor is it lost for whoever pauses while it is read") {
  Stream stream(tcp_pair_with_room());
  const std::string text = numbered(150'000);
  stream.client.send(text);
  until_arrived(stream, text.size());
  stream.client.reset();
  stream.owner.receive_then = [&](std::string_view) { stream.transport->read(false); };
  stream.transport->read(true);
  stream.loop.run_until([&] { return !stream.owner.received.empty(); });
  stream.loop.run_for(5);
  CHECK(stream.owner.told().empty());
  stream.owner.receive_then = {};
  stream.transport->read(true);
  stream.loop.run_until([&] { return stream.owner.told("failure reset"); });
  CHECK(stream.owner.received == text);
}

TEST_CASE("plain: neither a FIN nor urgent data is told while nothing is read, and neither spins") {
  const std::function<void(Stream&)> acts[] = {
      [](Stream& stream) { stream.client.shutdown(); },
      [](Stream& stream) { stream.client.shutdown(), stream.transport->shutdown(); },
      [](Stream& stream) {
        for (int i = 0; i < 3; ++i) REQUIRE(::send(stream.client.fd(), "!", 1, MSG_OOB) == 1);
      },
      [](Stream& stream) {
        REQUIRE(::send(stream.client.fd(), "!", 1, MSG_OOB) == 1);
        stream.client.shutdown();
      },
  };
  for (const auto& act : acts) {
    Stream stream(tcp_pair());
    stream.transport->tell_resets_at_once();
    act(stream);
    int turns = 0;
    stream.loop.at_turn_end = [&] { ++turns; };
    stream.loop.run_for(20);
    CHECK(turns < 200);
    CHECK(stream.owner.told().empty());
    CHECK(stream.owner.received.empty());
  }
  Stream closed(unix_pair());
  closed.transport->tell_resets_at_once();
  closed.client.close();
  int turns = 0;
  closed.loop.at_turn_end = [&] { ++turns; };
  closed.loop.run_for(20);
  CHECK(turns < 200);
  CHECK(closed.owner.told().empty());
}

TEST_CASE("plain: a reset behind urgent data is told as well") {
  Stream stream(tcp_pair());
  stream.transport->tell_resets_at_once();
  REQUIRE(::send(stream.client.fd(), "!", 1, MSG_OOB) == 1);
  stream.loop.run_for(5);
  stream.client.reset();
  stream.loop.run_until([&] { return stream.owner.told() == "failure reset"; });
}

TEST_CASE("plain: what is there already is read in one turn") {
  Stream stream(tcp_pair_with_room());
  const std::string text = numbered(150'000);
  stream.client.send(text);
  until_arrived(stream, text.size());
  std::size_t reads = 0;
  std::size_t turns = 0;
  stream.owner.receive_then = [&](std::string_view) { ++reads; };
  stream.loop.at_turn_end = [&] { turns += reads == 0 ? 0 : 1; };
  stream.transport->read(true);
  stream.loop.run_until([&] { return turns != 0; });
  CHECK(stream.owner.received == text);
  CHECK(reads == 3);
}

TEST_CASE("plain: no more than four reads a turn: a busy peer does not starve the others") {
  Stream stream(tcp_pair());
  std::thread writer([&] { stream.client.send(numbered(2'000'000)); });
  std::size_t reads = 0;
  std::size_t reads_of_turn = 0;
  std::size_t reads_of_turn_max = 0;
  stream.owner.receive_then = [&](std::string_view bytes) {
    ++reads;
    reads_of_turn_max = std::max(reads_of_turn_max, ++reads_of_turn);
    CHECK(bytes.size() <= net::IoBuffers::receive_bytes);
  };
  stream.loop.at_turn_end = [&] { reads_of_turn = 0; };
  stream.transport->read(true);
  stream.loop.run_until([&] { return stream.owner.received.size() == 2'000'000; });
  writer.join();
  CHECK(stream.owner.received == numbered(2'000'000));
  CHECK(reads >= 2'000'000 / net::IoBuffers::receive_bytes);
  CHECK(reads_of_turn_max <= 4);
}

TEST_CASE("plain: who does not take what it is sent is read in small pieces") {
  Stream stream(tcp_pair());
  std::size_t piece_max = 0;
  stream.owner.receive_then = [&](std::string_view bytes) {
    piece_max = std::max(piece_max, bytes.size());
  };
  stream.transport->read(true);
  const auto receive = [&] {
    piece_max = 0;
    const std::size_t size = stream.owner.received.size() + 100'000;
    stream.client.send(std::string(100'000, 'x'));
    stream.loop.run_until([&] { return stream.owner.received.size() == size; });
    return piece_max;
  };
  CHECK(receive() > 8192);
  const std::string text = numbered(32 * 1024 * 1024);
  stream.send(text);
  REQUIRE(stream.transport->blocked());
  CHECK(receive() <= 4096);
  std::atomic<bool> done{false};
  std::thread reader([&] {
    stream.client.read(text.size());
    done = true;
  });
  stream.loop.run_until([&] { return done.load(); });
  reader.join();
  REQUIRE_FALSE(stream.transport->blocked());
  CHECK(receive() > 8192);
}

TEST_CASE("plain: the peer's FIN is told once, after its bytes, and we may still send") {
  Stream stream(tcp_pair());
  stream.transport->read(true);
  stream.client.send("last");
  stream.client.shutdown();
  stream.loop.run_until([&] { return stream.owner.told("end"); });
  CHECK(stream.owner.received == "last");
  stream.send("answer");
  stream.loop.run_for(20);
  CHECK(stream.client.read(6) == "answer");
  CHECK(stream.owner.told() == "end");
}

TEST_CASE("plain: shutdown() ends our direction once everything has left, and no other") {
  Stream stream(tcp_pair());
  const std::string text = numbered(16 * 1024 * 1024);
  stream.send(text);
  REQUIRE(stream.transport->blocked());
  stream.transport->shutdown();
  stream.transport->read(true);
  std::string got;
  std::atomic<bool> done{false};
  std::thread reader([&] {
    got = stream.client.read(text.size() + 1);  // until the FIN
    stream.client.send("still here");
    done = true;
  });
  stream.loop.run_until([&] { return done && stream.owner.received == "still here"; });
  reader.join();
  CHECK(got == text);
  CHECK(stream.client.error == 0);
}

TEST_CASE("plain: a reset is a failure, once, and what came before it is delivered first") {
  Stream stream(tcp_pair());
  stream.transport->read(true);
  stream.client.send("last words");
  stream.client.reset();
  stream.loop.run_until([&] { return stream.owner.told("failure"); });
  CHECK(stream.owner.received == "last words");
  stream.send("too late");
  stream.loop.run_for(20);
  CHECK(stream.owner.told() == "failure reset");
}

TEST_CASE("plain: a write that fails lets what the peer had sent be read first") {
  Stream stream(tcp_pair());
  stream.transport->read(true);
  stream.client.send("last words");
  stream.client.reset();
  stream.send("nobody takes this");
  CHECK(stream.owner.told().empty());
  CHECK(stream.transport->buffered_bytes() == 0);
  stream.loop.run_until([&] { return !stream.owner.told().empty(); });
  CHECK(stream.owner.received == "last words");
  CHECK(stream.owner.told() == "failure reset");  // and not the end of an orderly stream
}

TEST_CASE("plain: a write that fails leaves it to whoever pauses, and reads later") {
  Stream stream(tcp_pair());
  stream.transport->read(true);
  stream.client.send("last words");
  stream.client.reset();
  stream.send("nobody takes this");
  stream.transport->read(false);
  stream.loop.run_for(5);
  CHECK(stream.owner.told().empty());
  stream.transport->read(true);
  stream.loop.run_until([&] { return !stream.owner.told().empty(); });
  CHECK(stream.owner.received == "last words");
  CHECK(stream.owner.told() == "failure reset");
}

TEST_CASE("plain: a write that fails while nothing is read is a failure at once") {
  Stream stream(tcp_pair());
  stream.client.reset();
  stream.loop.run_for(5);
  stream.send("nobody takes this");
  CHECK(stream.owner.told() == "failure reset");
  CHECK(stream.owner.why.starts_with("send: "));
}

TEST_CASE("plain: a peer that goes away while we wait to write is told") {
  Stream stream(tcp_pair());
  stream.send(numbered(16 * 1024 * 1024));
  REQUIRE(stream.transport->blocked());
  stream.client.reset();
  stream.loop.run_until([&] { return stream.owner.told("failure reset"); });
}

TEST_CASE("plain: reset_on_close() makes the close an RST, and a close without it does not") {
  for (const bool reset : {true, false}) {
    CAPTURE(reset);
    Stream stream(tcp_pair());
    if (reset) stream.transport->reset_on_close();
    stream.transport.reset();
    CHECK(stream.client.read(1).empty());
    CHECK(stream.client.error == (reset ? ECONNRESET : 0));
  }
}
