// The plugin bridge: events to the plugin, calls from it, and what a bad plugin cannot do.
#include "bridges/plugin_bridge.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "plugin_fixture.h"

namespace sluice::bridges {
namespace {

using Sent = test::FakeWebSocket::Sent;
using Sents = std::vector<Sent>;

TEST_CASE("echo accepts with the route's subprotocol and sends each message back as it came") {
  Plugin plugin("echo");
  Client client(plugin);
  client.open();
  CHECK(client.socket.accepted == "");
  CHECK(client.say("h\xC3\xA9") == Sents{{MessageType::text, "h\xC3\xA9"}});
  const std::string bytes("\x00\xFF", 2);
  CHECK(client.say(bytes, MessageType::binary) == Sents{{MessageType::binary, bytes}});
  CHECK(client.say("", MessageType::binary) == Sents{{MessageType::binary, ""}});
  client.bridge->on_drain();
  client.close();
  CHECK_FALSE(client.socket.failed);
}

TEST_CASE("a plugin in C with only what is required accepts everyone") {
  Plugin plugin("c_echo");
  Client client(plugin);
  client.open();
  CHECK(client.socket.accepted == "");
  CHECK(client.say("hello") == Sents{{MessageType::text, "hello"}});
  client.bridge->on_drain();
  client.close();
}

TEST_CASE("the request can be read in on_open, also after accept()") {
  Plugin plugin("probe");
  Client client(plugin);
  client.request.query_ = "a=b";
  client.request.headers_["X-One"] = "1";
  client.request.parameters_["room"] = "kitchen";
  client.request.offered_ = {"one", "two"};
  client.open();
  CHECK(client.socket.accepted == "two");
  CHECK(
      client.ask("notes") ==
      "/echo a=b example.org https://example.org 192.0.2.1:49152 echo 1 kitchen two [] 0 -2 /echo");
}

TEST_CASE(
    "a subprotocol that the client does not offer is not accepted; the plugin may then reject") {
  Plugin plugin("probe");
  Client client(plugin);
  client.socket.not_offered = "two";
  client.open();
  CHECK_FALSE(client.socket.accepted);
  CHECK(client.socket.rejected == test::FakeWebSocket::Closed{400, "not two"});
  CHECK_FALSE(client.socket.failed);
  client.close(1006);
}

TEST_CASE("a C++ plugin fails the socket that it accepts with a subprotocol of its own") {
  Plugin plugin("thrower");
  Client client(plugin);
  client.request.query_ = "protocol";
  client.socket.not_offered = "not offered";
  client.open();
  CHECK(client.socket.failed == "it accepted a subprotocol that the client did not offer");
  client.close(1006);
}

TEST_CASE("a C++ plugin fails the socket that it rejects with a status that refuses nothing") {
  Plugin plugin("thrower");
  Client client(plugin);
  client.request.query_ = "status";
  client.open();
  CHECK(client.socket.failed == "it rejected with a status that is not 400 to 599");
  CHECK_FALSE(client.socket.rejected);
  client.close(1006);
}

TEST_CASE("a C++ plugin that rejects a client that is in already does nothing") {
  Plugin plugin("thrower");
  Client client(plugin);
  client.open();
  CHECK(client.say("reject") == Sents{{MessageType::text, "reject"}});
  CHECK_FALSE(client.socket.failed);
  CHECK_FALSE(client.socket.rejected);
  client.close(1006);
}

TEST_CASE("a plugin may accept after on_open; then the request is gone") {
  Plugin plugin("probe");
  Client first(plugin);
  first.open();
  Client later(plugin);
  later.request.path_ = "/later";
  later.open();
  CHECK(later.socket.state == ReadyState::connecting);
  const std::string id = first.ask("last");
  first.say("accept last");
  CHECK(later.socket.accepted == "one");
  CHECK(later.say("last") == Sents{{MessageType::text, id}});
  CHECK(later.ask("path") == "NULL");
}

TEST_CASE("on_close tells code, reason and was_clean, and nothing can be sent any more") {
  Plugin plugin("probe");
  Client gone(plugin);
  gone.open().close(4001, "enough", true);
  Client client(plugin);
  client.request.path_ = "/later";  // leaves the notes of on_close alone
  client.open().socket.state = ReadyState::open;
  CHECK(client.ask("notes") == "1 4001 enough 1 3 -2");
}

TEST_CASE("pause, resume, close, drain, the loop and bufferedAmount go through") {
  Plugin plugin("probe");
  Client client(plugin);
  client.open();
  client.say("pause");
  CHECK(client.socket.paused);
  client.say("resume");
  CHECK_FALSE(client.socket.paused);
  client.socket.buffered = 12345;
  CHECK(client.ask("buffered") == "12345");
  CHECK(client.ask("loop") == "loop");
  client.socket.sent.clear();
  client.bridge->on_drain();
  CHECK(client.socket.sent == Sents{{MessageType::text, "drained"}});
  client.say("close");
  CHECK(client.socket.closed == test::FakeWebSocket::Closed{3000, "bye"});
  CHECK(client.say("after") == Sents{});
}

TEST_CASE("arguments that are not allowed do nothing and say so") {
  Plugin plugin("probe");
  Client client(plugin);
  client.open();
  const auto answers = client.say("invalid");
  REQUIRE(answers.size() == 2);
  CHECK(answers[0] == Sent{MessageType::binary, ""});
  CHECK(answers[1].payload == "-3 -3 -3 -3 -2 -2 0 ");
  CHECK_FALSE(client.socket.closed);
  CHECK_FALSE(client.socket.rejected);
}

TEST_CASE("calls with the id of a socket that has ended do nothing") {
  const std::string gone = "-1 -1 -1 -1 -1 -1 -1 -1 3 0 nothing";
  Plugin plugin("probe");
  Client client(plugin);
  client.open();
  auto ended = std::make_unique<Client>(plugin);
  ended->open();
  const std::string id = client.ask("last");
  ended->socket.state = ReadyState::closed;
  ended->bridge->on_close({1000, {}, true});
  CHECK(client.ask("use " + id) == gone);  // from on_close on, not from the bridge's end on
  ended.reset();                           // to touch it now would be a use after free
  CHECK(client.ask("use " + id) == gone);

  // The next socket takes the slot, but the old id does not reach it.
  Client next(plugin);
  next.open();
  CHECK(client.ask("last") != id);
  CHECK(client.ask("use " + id) == gone);
  CHECK(next.socket.sent.empty());
  CHECK_FALSE(next.socket.failed);

  // Ids that never were.
  CHECK(client.ask("use 0") == gone);
  CHECK(client.ask("use 18446744073709551615") == gone);
}

TEST_CASE("a bridge that is destroyed before on_open leaves no socket behind") {
  Plugin plugin("probe");
  Client client(plugin);
  client.open();
  const std::string id = client.ask("last");
  client.bridge.reset();
  Client other(plugin);
  other.open();
  CHECK(other.ask("last") != id);
  CHECK(other.ask("use " + id) == "-1 -1 -1 -1 -1 -1 -1 -1 3 0 nothing");
}

TEST_CASE("calls from another thread are refused and logged, never a race") {
  Plugin plugin("probe");
  Client client(plugin);
  client.open();
  const auto answers = client.say("thread");
  REQUIRE(answers.size() == 2);
  CHECK(answers[0].payload == "meanwhile");
  CHECK(answers[1].payload == "-4 -4 -4 -4 -4 -4 -4 -4 3 0 nothing");
  CHECK_FALSE(client.socket.failed);
  CHECK_FALSE(client.socket.closed);
  CHECK_FALSE(client.socket.paused);
  // Fifteen calls: the 1st, 2nd, 4th and 8th are told. log() is allowed.
  const std::vector<std::string> lines = {
      "3 probe: accept() refused: not on the worker's thread (1 such calls so far)",
      "3 probe: reject() refused: not on the worker's thread (2 such calls so far)",
      "3 probe: close() refused: not on the worker's thread (4 such calls so far)",
      "3 probe: set_user_data() refused: not on the worker's thread (8 such calls so far)",
      "2 probe: from another thread"};
  CHECK(plugin.log.lines == lines);
}

TEST_CASE("two instances of one plugin know nothing of each other") {
  {
    Plugin first("chat");
    Plugin second("chat");
    Client a(first), b(first), c(second);
    for (Client* client : {&a, &b, &c}) {
      client->request.parameters_["room"] = "kitchen";
      client->open();
    }
    CHECK(a.say("hello") == Sents{{MessageType::text, "hello"}});
    CHECK(b.socket.sent == Sents{{MessageType::text, "hello"}});
    CHECK(c.socket.sent.empty());
    for (Client* client : {&a, &b, &c}) client->close();
  }
  Plugin probe("probe");
  Plugin other("probe");
  probe.instance.reset();
  CHECK(probe.log.lines == std::vector<std::string>{"1 probe: destroy"});
  CHECK(other.log.lines.empty());
  Client client(other);
  client.open();
  CHECK(client.ask("loop") == "loop");
}

TEST_CASE("chat keeps rooms apart, forgets who left, and turns away who names no room") {
  Plugin plugin("chat");
  Client a(plugin), b(plugin), c(plugin), nowhere(plugin);
  a.request.parameters_["room"] = b.request.parameters_["room"] = "kitchen";
  c.request.parameters_["room"] = "cellar";
  for (Client* client : {&a, &b, &c, &nowhere}) client->open();
  CHECK(nowhere.socket.rejected == test::FakeWebSocket::Closed{404, "no room"});
  nowhere.close(1006, {}, false);

  const std::string bytes("\x00\x01", 2);
  CHECK(a.say(bytes, MessageType::binary) == Sents{{MessageType::binary, bytes}});
  CHECK(b.socket.sent == Sents{{MessageType::binary, bytes}});
  CHECK(c.socket.sent.empty());
  b.close();
  b.socket.sent.clear();
  CHECK(a.ask("still here") == "still here");
  CHECK(b.socket.sent.empty());
  a.close();
  c.close();
}

TEST_CASE("an exception in a plugin's event fails this one connection") {
  Plugin plugin("thrower");
  Client other(plugin);
  other.open();
  Client client(plugin);

  SUBCASE("in the constructor") {
    other.say("next");
    client.open();
    CHECK(client.socket.failed == "thrown by the constructor");
    CHECK_FALSE(client.socket.accepted);
    CHECK(client.say("hello") == Sents{});  // there is no object to hear it
    client.bridge->on_drain();
  }
  SUBCASE("in on_open") {
    client.request.query_ = "open";
    client.open();
    CHECK(client.socket.failed == "thrown by on_open");
    CHECK_FALSE(client.socket.accepted);
  }
  SUBCASE("in on_open after accept()") {
    client.request.query_ = "accepted";
    client.open();
    CHECK(client.socket.failed == "thrown after accept()");
  }
  SUBCASE("in on_message") {
    client.open().say("throw");
    CHECK(client.socket.failed == "thrown by on_message");
  }
  SUBCASE("of another type") {
    client.open().say("throw 42");
    CHECK(client.socket.failed == "an exception that is no std::exception");
  }
  SUBCASE("in on_drain") {
    client.open().bridge->on_drain();
    CHECK(client.socket.failed == "thrown by on_drain");
  }
  client.close(1011, {}, false);
  CHECK_FALSE(other.socket.failed);
  CHECK(other.ask("hello") == "hello");
  other.close();
}

TEST_CASE("a C++ plugin may keep a handle; when the socket has ended it does nothing") {
  Plugin plugin("thrower");
  Client client(plugin), kept(plugin);
  CHECK(client.open().ask("use handle") == "closed, not sent");
  kept.open().say("keep handle");
  kept.socket.buffered = 7;
  kept.socket.sent.clear();
  CHECK(client.ask("use handle") == "open, sent, 7 buffered");
  CHECK(kept.socket.sent == Sents{{MessageType::binary, std::string("\1\0\2\0", 4)}});
  kept.close();
  CHECK(client.ask("use handle") == "closed, not sent");
  client.close();
}

TEST_CASE("an exception in on_close is logged, and the object is deleted all the same") {
  Plugin plugin("thrower");
  Client client(plugin);
  client.open().close(1000, "throw");
  CHECK_FALSE(client.socket.failed);
  CHECK(plugin.log.lines ==
        std::vector<std::string>{"3 thrower: thrown by on_close", "1 thrower: destroyed"});
}

TEST_CASE("an exception that crosses the C interface costs its own client only") {
  Plugin plugin("raw_thrower");
  Client client(plugin);
  client.open().say("hello");
  CHECK(client.socket.failed == "an exception left the plugin");
  client.close(1011, {}, false);
}

TEST_CASE("ten thousand sockets come and go and each id is new") {
  Plugin plugin("probe");
  Client witness(plugin);
  witness.open();
  std::vector<std::string> ids;
  for (int i = 0; i < 10'000; ++i) {
    Client client(plugin);
    client.open();
    ids.push_back(witness.ask("last"));
    client.close();
  }
  std::sort(ids.begin(), ids.end());
  CHECK(std::adjacent_find(ids.begin(), ids.end()) == ids.end());
}

}  // namespace
}  // namespace sluice::bridges
