// Pings, idle sockets, slow messages, and Close frames that are not answered.
#include "scene.h"

using namespace sluice;
using namespace sluice::test;

namespace {

// Deadlines fire up to a tick late (base/timer_wheel.h).
constexpr std::uint64_t tick = TimerWheel::tick_ms;

void ping_every_30s(config::Route& route) {
  route.keepalive.ping_interval_ms = 30'000;
  route.keepalive.pong_timeout_ms = 15'000;
}

}  // namespace

TEST_CASE("a ping goes out after the interval and not before") {
  Scene scene(ping_every_30s);
  scene.wait(30'000 - tick);
  CHECK(scene.client_got().empty());
  scene.wait(2 * tick);
  CHECK(scene.client_got() == "ping");
  CHECK(scene.out().ping_frames.get() == 1);
}

TEST_CASE("an idle socket that answers its pings is never cut") {
  Scene scene(ping_every_30s);
  for (int i = 0; i < 100; ++i) {
    scene.wait(30'000 + tick);
    REQUIRE(scene.client_got() == "ping");
    scene.receive(scene.client.pong(scene.client.last_ping));
  }
  CHECK(scene.end() == "open");
  CHECK(scene.in().pong_frames.get() == 100);
}

TEST_CASE("the round trip of a ping is observed once, by the pong that answers it") {
  Scene scene(ping_every_30s);
  const auto observed = [&] {
    std::uint64_t count = 0;
    for (const auto& bucket : scene.counters.ping_rtt.buckets) count += bucket.get();
    return count;
  };
  scene.receive(scene.client.pong("unasked"));
  scene.receive(scene.client.pong({"\0\0\0\0", 4}));
  CHECK(observed() == 0);
  scene.wait(30'000 + tick);
  REQUIRE(scene.client_got() == "ping");
  scene.receive(scene.client.pong("wrong"));
  scene.receive(scene.client.pong("bad!"));
  CHECK(observed() == 0);
  scene.receive(scene.client.pong(scene.client.last_ping));
  scene.receive(scene.client.pong(scene.client.last_ping));
  CHECK(observed() == 1);
}

TEST_CASE("a peer that gives no sign of life is cut, without a Close frame that nobody reads") {
  Scene scene(ping_every_30s);
  scene.wait(30'000 + tick);
  REQUIRE(scene.client_got() == "ping");
  scene.wait(15'000 - tick);
  CHECK(scene.end() == "open");
  scene.wait(2 * tick);
  CHECK(scene.end() == "gateway pong_timeout 1006 '' unclean");
  CHECK(scene.detail() == "keepalive.pong_timeout");
  CHECK(scene.told() == "end");
  CHECK(scene.client_got().empty());
  CHECK(scene.counters.pong_timeouts.get() == 1);
}

TEST_CASE("any byte is a sign of life: a pong may stand behind a large message") {
  Scene scene(ping_every_30s);
  scene.wait(30'000 + tick);
  const std::string large = scene.client.text(letters(1000));
  for (std::size_t i = 0; i < 10; ++i) {
    scene.wait(14'000);
    scene.receive(large.substr(i, 1));
  }
  CHECK(scene.end() == "open");
  CHECK(scene.client_got() == "ping");  // one at a time: an unanswered one says all there is to say
  scene.wait(2 * 15'000 + 2 * tick);
  CHECK(scene.end() == "gateway pong_timeout 1006 '' unclean");
}

TEST_CASE("a peer that takes what waits for it is alive: the ping may stand behind it") {
  Scene scene(ping_every_30s);
  scene.client_stops_reading();
  scene.send(letters(200'000));
  scene.turn();
  for (int i = 0; i < 10; ++i) {
    scene.wait(14'000);
    scene.client_reads(1000);
  }
  CHECK(scene.end() == "open");
}

TEST_CASE("a peer that takes nothing of what waits for it is slow, while its kernel answers") {
  Scene scene(ping_every_30s);
  scene.client_stops_reading();
  scene.send(letters(200'000));
  scene.transport.sending = {.acknowledged_bytes = 1000, .outstanding = true};
  scene.wait(600'000);
  CHECK(scene.end() == "open");
  CHECK(scene.counters.pong_timeouts.get() == 0);
  // It reads it all, and answers.
  scene.transport.sending = {.acknowledged_bytes = 201'000};
  scene.client_reads();
  REQUIRE(scene.client_got() == "text (200000 bytes); ping");
  scene.receive(scene.client.pong(scene.client.last_ping));
  scene.wait(15'000 + tick);
  CHECK(scene.end() == "open");
}

TEST_CASE("a peer that has not read what the kernel holds for it is slow as well") {
  Scene scene(ping_every_30s);
  scene.transport.sending = {.acknowledged_bytes = 1000, .outstanding = true};
  scene.wait(600'000);
  CHECK(scene.end() == "open");
}

TEST_CASE("a peer whose kernel does not answer either is cut, whatever waits for it") {
  Scene scene(ping_every_30s);
  scene.client_stops_reading();
  scene.send(letters(200'000));
  scene.transport.sending = {.outstanding = true, .unanswered = true};
  scene.wait(30'000 + 2 * 15'000 + 3 * tick);
  CHECK(scene.end() == "gateway pong_timeout 1006 '' unclean");
}

TEST_CASE("a peer whose kernel has taken our ping, and what came before it, has to answer") {
  Scene scene(ping_every_30s);
  scene.transport.sending = {.acknowledged_bytes = 1000, .outstanding = true};
  scene.wait(60'000);
  CHECK(scene.end() == "open");
  scene.transport.sending = {.acknowledged_bytes = 2000};
  scene.wait(15'000 + tick);  // it has taken some of it since the last look
  CHECK(scene.end() == "open");
  scene.wait(15'000 + tick);
  CHECK(scene.end() == "gateway pong_timeout 1006 '' unclean");
}

TEST_CASE(
    "a peer that takes what the kernel holds for it is alive: the ping stands behind that too") {
  Scene scene(ping_every_30s);
  scene.transport.sending = {.acknowledged_bytes = 1000, .outstanding = true};
  scene.wait(30'000 + tick);
  REQUIRE(scene.client_got() == "ping");
  for (int i = 0; i < 10; ++i) {
    scene.transport.sending.acknowledged_bytes += 1;
    scene.wait(15'000);
  }
  CHECK(scene.end() == "open");
  scene.transport.sending.outstanding = false;
  scene.wait(2 * 15'000 + 2 * tick);
  CHECK(scene.end() == "gateway pong_timeout 1006 '' unclean");
}

TEST_CASE("a peer whose kernel acknowledges the ping itself has answered nothing") {
  Scene scene(ping_every_30s);
  scene.wait(30'000 + tick);
  REQUIRE(scene.client_got() == "ping");
  scene.transport.sending.acknowledged_bytes += 6;
  scene.wait(15'000 + tick);
  CHECK(scene.end() == "gateway pong_timeout 1006 '' unclean");
}

TEST_CASE("while we do not read and nothing waits, silence means nothing") {
  Scene scene(ping_every_30s);
  scene.pause();
  scene.wait(600'000);
  CHECK(scene.end() == "open");
  scene.resume();
  scene.turn();
  scene.wait(2 * 15'000 + 2 * tick);
  CHECK(scene.end() == "gateway pong_timeout 1006 '' unclean");
}

TEST_CASE("while we do not read, pings go on: to write to a peer that has gone fails in the end") {
  Scene scene(ping_every_30s);
  scene.pause();
  scene.wait(180'000);
  CHECK(scene.end() == "open");
  CHECK(scene.out().ping_frames.get() >= 3);
}

TEST_CASE("a stall of the whole process cuts nobody: the deadlines move with it") {
  Scene scene(ping_every_30s);
  scene.wait(30'000 + tick);
  scene.clock_ms += 60'000;  // a stopped container
  scene.wheel.advance(scene.clock_ms);
  scene.turn();
  CHECK(scene.end() == "open");
  REQUIRE(scene.client_got() == "ping");
  scene.receive(scene.client.pong(scene.client.last_ping));
  scene.wait(15'000);
  CHECK(scene.end() == "open");
}

TEST_CASE("an interval of 0 means no pings") {
  Scene scene;
  scene.wait(600'000);
  CHECK(scene.client_got().empty());
  CHECK(scene.end() == "open");
}

TEST_CASE("a ping is answered with its payload (RFC 6455 5.5.2, 5.5.3)") {
  Scene scene;
  scene.receive(scene.client.ping("are you there?") + scene.client.ping());
  CHECK(scene.client_got() == "pong 'are you there?'; pong ''");
  CHECK(scene.in().ping_frames.get() == 2);
  CHECK(scene.out().pong_frames.get() == 2);
}

TEST_CASE("while the client reads nothing, only its latest ping keeps an answer (RFC 6455 5.5.3)") {
  Scene scene;
  scene.client_stops_reading();
  scene.send("wait");
  scene.turn();
  const std::size_t buffered = scene.session->buffered_amount();
  for (const char* payload : {"1", "2", "3"}) scene.receive(scene.client.ping(payload));
  CHECK(scene.session->buffered_amount() == buffered);
  scene.client_reads();
  CHECK(scene.client_got() == "text 'wait'; pong '3'");
}

TEST_CASE("the kernel's answers are watched where pings cannot tell, and nowhere else") {
  const auto with_pings = [](config::Route& route) {
    route.keepalive = {
        .ping_interval_ms = 30'000, .pong_timeout_ms = 15'000, .tcp_user_timeout_ms = 7'000};
  };
  Scene idle(with_pings);
  idle.send("taken at once");
  idle.turn();
  CHECK(idle.transport.user_timeout_ms == 0);
  Scene slow(with_pings);
  slow.client_stops_reading();
  slow.send("waits");
  slow.turn();
  CHECK(slow.transport.user_timeout_ms == 7'000);
  Scene paused(with_pings);
  paused.session->pause(Session::asked);
  CHECK(paused.transport.user_timeout_ms == 7'000);
  Scene without_pings([](config::Route& route) { route.keepalive.tcp_user_timeout_ms = 7'000; });
  CHECK(without_pings.transport.user_timeout_ms == 7'000);
}

TEST_CASE("a flood of control frames is closed with 1008") {
  Scene scene([](config::Route& route) { route.limits.control_frames_per_second = 3; });
  for (int second = 0; second < 3; ++second) {
    for (int i = 0; i < 3; ++i) scene.receive(scene.client.ping());
    scene.wait(1000);
  }
  CHECK(scene.end() == "open");
  scene.client_got();
  // Pongs count as well as pings.
  scene.receive(scene.client.ping() + scene.client.pong("") + scene.client.pong("") +
                scene.client.ping());
  CHECK(scene.client_got() == "pong ''; close 1008 'rate limit'");
  CHECK(scene.end() == "gateway rate_limited 1008 'rate limit' unclean");
  CHECK(scene.detail() == "limits.control_frames_per_second");
  CHECK(scene.rejections(metrics::Limit::control_frames) == 1);
}

TEST_CASE("a socket without messages in either direction is closed with 1001") {
  Scene scene([](config::Route& route) {
    ping_every_30s(route);
    route.timeouts.idle_ms = 60'000;
  });
  // Pings and pongs are no messages.
  scene.wait(30'000 + tick);
  CHECK(scene.client_got() == "ping");
  scene.receive(scene.client.pong(scene.client.last_ping) + scene.client.ping());
  CHECK(scene.client_got() == "pong ''");
  scene.wait(30'000 - 2 * tick);
  CHECK(scene.session->ready_state() == ReadyState::open);
  scene.wait(3 * tick);
  CHECK(scene.session->ready_state() == ReadyState::closing);
  CHECK(scene.client_got().ends_with("close 1001 'timeouts.idle'"));
  scene.receive(scene.client.close(1001));
  CHECK(scene.end() == "gateway idle_timeout 1001 '' clean");
}

TEST_CASE("a message in either direction puts off the idle timeout") {
  Scene scene([](config::Route& route) { route.timeouts.idle_ms = 10'000; });
  for (int i = 0; i < 5; ++i) {
    scene.wait(8'000);
    scene.receive(scene.client.text("in"));
    scene.wait(8'000);
    scene.send("out");
    scene.turn();
  }
  CHECK(scene.session->ready_state() == ReadyState::open);
  scene.wait(10'000 + tick);
  CHECK(scene.session->ready_state() == ReadyState::closing);
}

TEST_CASE("a message that takes longer than the idle timeout is no idleness") {
  Scene scene([](config::Route& route) { route.timeouts.idle_ms = 10'000; });
  const std::string bytes = scene.client.text("Hello");
  constexpr std::size_t begun = 7;
  scene.receive(bytes.substr(0, begun));
  for (const char byte : bytes.substr(begun)) {
    scene.wait(8'000);
    scene.receive(std::string(1, byte));
  }
  CHECK(scene.told() == "text 'Hello'");
  CHECK(scene.session->ready_state() == ReadyState::open);
}

TEST_CASE("a message that takes longer than the idle timeout to be sent is no idleness") {
  Scene scene([](config::Route& route) { route.timeouts.idle_ms = 10'000; });
  scene.transport.room = 100;
  scene.send(std::string(500, 'x'));
  scene.turn();
  for (int i = 0; i < 3; ++i) {
    scene.wait(8'000);
    scene.client_reads(100);
  }
  CHECK(scene.session->ready_state() == ReadyState::open);
  scene.wait(10'000 + tick);
  CHECK(scene.session->ready_state() == ReadyState::closing);
}

TEST_CASE("a message that stops in the middle is closed with 1008") {
  for (const std::size_t cut : {1U, 3U, 7U, 20U}) {
    CAPTURE(cut);
    Scene scene([](config::Route& route) { route.timeouts.message_ms = 5'000; });
    scene.receive(scene.client.text(letters(30)).substr(0, cut));
    scene.wait(5'000 - tick);
    CHECK(scene.session->ready_state() == ReadyState::open);
    scene.wait(2 * tick);
    CHECK(scene.client_got() == "close 1008 'timeouts.message'");
    scene.wait(5'000 + tick);
    CHECK(scene.end() == "gateway message_timeout 1006 '' unclean");
  }
}

TEST_CASE("what comes between its fragments is nothing of an unfinished message") {
  Scene scene([](config::Route& route) { route.timeouts.message_ms = 5'000; });
  scene.receive(scene.client.fragment("Hel", true, false));
  const std::string next = scene.client.fragment("l", false, false);
  SUBCASE("pings and pongs") {
    scene.wait(3'000);
    scene.receive(scene.client.ping("there?"));
    const std::string pong = scene.client.pong("here");
    scene.receive(pong.substr(0, 6));
    scene.receive(pong.substr(6));
    CHECK(scene.client_got() == "pong 'there?'");
    scene.wait(2'000 + 2 * tick);
    CHECK(scene.client_got() == "close 1008 'timeouts.message'");
  }
  SUBCASE("but the next fragment is, and each byte of it") {
    for (const char byte : next) {
      scene.wait(3'000);
      scene.receive(std::string(1, byte));
    }
    scene.wait(3'000);
    scene.receive(scene.client.ping("there?") + next);
    scene.wait(5'000 - tick);
    CHECK(scene.session->ready_state() == ReadyState::open);
    scene.wait(2 * tick);
    CHECK(scene.client_got() == "pong 'there?'; close 1008 'timeouts.message'");
  }
}

TEST_CASE("an unfinished message is no longer watched once its last byte has come") {
  Scene scene([](config::Route& route) { route.timeouts.message_ms = 5'000; });
  const std::string bytes = scene.client.text("Hello");
  scene.receive(bytes.substr(0, 8));
  scene.wait(4'000);
  scene.receive(bytes.substr(8));
  scene.wait(60'000);
  CHECK(scene.told() == "text 'Hello'");
  CHECK(scene.end() == "open");
}

TEST_CASE("an unfinished message is not held against a client that we do not read") {
  Scene scene([](config::Route& route) { route.timeouts.message_ms = 5'000; });
  const std::string bytes = scene.client.text("Hello");
  scene.receive(bytes.substr(0, 8));
  scene.pause();
  scene.wait(60'000);
  CHECK(scene.session->ready_state() == ReadyState::open);
  scene.resume();
  SUBCASE("it has its time again") {
    scene.wait(4'000);
    scene.receive(bytes.substr(8));
    CHECK(scene.told() == "text 'Hello'");
    scene.wait(60'000);
    CHECK(scene.end() == "open");
  }
  SUBCASE("and no more than that") {
    scene.wait(5'000 + 2 * tick);
    CHECK(scene.client_got() == "close 1008 'timeouts.message'");
  }
}

TEST_CASE("a Close frame without an answer is waited for no longer than timeouts.close") {
  Scene scene([](config::Route& route) { route.timeouts.close_ms = 5'000; });
  scene.close(1000, "bye");
  scene.wait(5'000 - tick);
  CHECK(scene.session->ready_state() == ReadyState::closing);
  scene.wait(2 * tick);
  CHECK(scene.end() == "plugin close_timeout 1006 '' unclean");
  CHECK(scene.detail() == "no Close frame within timeouts.close");
}

TEST_CASE("timeouts.close runs from when the client last took what stands before our Close frame") {
  Scene scene([](config::Route& route) { route.timeouts.close_ms = 5'000; });
  scene.client_stops_reading();
  scene.send(letters(100'000));
  scene.turn();
  scene.session->drain();
  for (int i = 0; i < 10; ++i) {
    scene.wait(4'000);
    scene.client_reads(1'000);
  }
  CHECK(scene.session->ready_state() == ReadyState::closing);
  scene.client_reads();
  CHECK(scene.client_got() == "text (100000 bytes); close 1001 'shutting down'");
  scene.receive(scene.client.close(1001));
  CHECK(scene.end() == "gateway drain 1001 '' clean");
}

TEST_CASE("timeouts.close waits for a client that takes what the kernel holds for it, as well") {
  Scene scene([](config::Route& route) { route.timeouts.close_ms = 5'000; });
  scene.transport.sending = {.acknowledged_bytes = 1000, .outstanding = true};
  scene.session->drain();
  for (int i = 0; i < 10; ++i) {
    scene.transport.sending.acknowledged_bytes += 1;
    scene.wait(5'000);
  }
  CHECK(scene.session->ready_state() == ReadyState::closing);
  scene.wait(2 * 5'000 + 2 * tick);
  CHECK(scene.end() == "gateway drain 1006 '' unclean");
}

TEST_CASE("timeouts.close cuts a client that takes nothing of what stands before our Close frame") {
  Scene scene([](config::Route& route) { route.timeouts.close_ms = 5'000; });
  scene.client_stops_reading();
  scene.send(letters(100'000));
  scene.turn();
  scene.session->drain();
  scene.wait(5'000 + 2 * tick);
  CHECK(scene.end() == "gateway drain 1006 '' unclean");
}

TEST_CASE("while CLOSING no pings go out and no other deadline holds") {
  Scene scene([](config::Route& route) {
    ping_every_30s(route);
    route.timeouts.idle_ms = 31'000;
    route.timeouts.message_ms = 31'000;
    route.timeouts.close_ms = 3'600'000;
  });
  scene.receive(scene.client.text("Hello").substr(0, 4));
  scene.wait(30'000 + tick);
  scene.close(1000);  // a ping has no answer yet
  scene.wait(300'000);
  scene.receive("\x01");
  scene.wait(300'000);
  CHECK(scene.session->ready_state() == ReadyState::closing);
  CHECK(scene.client_got() == "ping; close 1000 ''");
}
