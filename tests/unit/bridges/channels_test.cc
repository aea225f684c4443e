#include "bridges/channels.h"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/stream.h"

using namespace sluice;
using namespace sluice::bridges;

namespace {

// Writes down what it is sent.
class Listener final : public Subscriber {
 public:
  using Subscriber::Subscriber;
  std::string heard;
  Outcome outcome = Outcome::sent;
  bool all_left = true;

 private:
  Outcome deliver(const Published& item, ws::PreparedMessage&,
                  const std::vector<std::string>& filters) override {
    if (outcome == Outcome::sent) heard += item.content.bytes;
    for (const std::string& filter : filters) heard += "(" + filter + ")";
    return outcome;
  }
  bool flushed() const override { return all_left; }
};

struct Scene {
  Scene() { channels.use(wheel); }

  Channels::Delivery publish(Published item) { return channels.publish(item); }
  Channels::Delivery publish(const std::string& channel, const std::string& text) {
    return publish({.channel = channel, .content = {GripMessageType::text, text}});
  }
  // In a sequence: the text is the id.
  Channels::Delivery follow(const std::string& id, const std::string& previous) {
    return publish({.channel = "a",
                    .id = id,
                    .previous_id = previous,
                    .content = {GripMessageType::text, id}});
  }
  void pass(std::uint64_t ms) {
    for (std::uint64_t passed = 0; passed < ms; passed += 100) wheel.advance(clock_ms += 100);
  }

  TimerWheel wheel{0};
  std::uint64_t clock_ms = 0;
  Channels channels;
};

Receipt receipt(std::uint64_t matched, std::uint64_t written, std::uint64_t queued,
                std::uint64_t dropped) {
  return {matched, written, queued, dropped};
}

}  // namespace

TEST_CASE("channels reach those who listen, until they do not") {
  Scene scene;
  Listener one(scene.channels);
  Listener two(scene.channels);
  one.subscribe("a", {});
  two.subscribe("a", {});
  two.subscribe("b", {"f"});
  scene.publish("a", "1");
  scene.publish("b", "2");
  scene.publish("c", "3");
  CHECK(one.heard == "1");
  CHECK(two.heard == "12(f)");

  two.subscribe("b", {"g"});  // anew
  two.unsubscribe("a");
  two.unsubscribe("nothing");
  scene.publish("a", "4");
  scene.publish("b", "5");
  CHECK(one.heard == "14");
  CHECK(two.heard == "12(f)5(g)");
  {
    Listener gone(scene.channels);
    gone.subscribe("a", {});
  }
  CHECK(scene.publish("a", "6").sent_to.size() == 1);
}

TEST_CASE("a connection has at most 20 subscriptions") {
  Scene scene;
  Listener listener(scene.channels);
  for (int i = 0; i < 20; ++i) CHECK(listener.subscribe(std::to_string(i), {}));
  CHECK_FALSE(listener.subscribe("20", {}));
  CHECK(listener.subscribe("7", {"f"}));
  CHECK(scene.publish("20", "x").sent_to.empty());
  listener.unsubscribe("0");
  CHECK(listener.subscribe("20", {}));
}

TEST_CASE("a receipt tells what became of an item once the turn has ended") {
  Scene scene;
  Listener written(scene.channels), queued(scene.channels), refused(scene.channels),
      filtered(scene.channels);
  auto gone = std::make_unique<Listener>(scene.channels);
  for (Listener* listener : {&written, &queued, &refused, &filtered, gone.get()}) {
    listener->subscribe("a", {});
  }
  queued.all_left = false;
  refused.outcome = Subscriber::Outcome::dropped;
  filtered.outcome = Subscriber::Outcome::filtered;
  const auto delivery = scene.publish("a", "x");
  gone.reset();
  Listener another(scene.channels);  // perhaps where the other one was
  CHECK(scene.channels.settle(delivery) == receipt(4, 1, 1, 2));
  CHECK(scene.channels.settle(scene.publish("nobody", "x")) == receipt(0, 0, 0, 0));
}

TEST_CASE("items that say which one was before them come in order") {
  Scene scene;
  Listener listener(scene.channels);
  listener.subscribe("a", {});
  scene.follow("1", "0");  // nobody knows of anything before
  CHECK(scene.channels.settle(scene.follow("4", "3")) == receipt(1, 0, 1, 0));
  scene.follow("3", "2");
  CHECK(listener.heard == "1");
  scene.follow("2", "1");
  CHECK(listener.heard == "1234");

  scene.publish({.channel = "a",
                 .id = "x",
                 .previous_id = "y",
                 .sequenced = false,
                 .content = {GripMessageType::text, "!"}});
  CHECK(listener.heard == "1234!");
  scene.follow("5", "4");
  CHECK(listener.heard == "1234!5");
  CHECK(scene.wheel.size() == 0);  // no deadline is left over
}

TEST_CASE("an item waits for the one before it for five seconds") {
  Scene scene;
  Listener listener(scene.channels);
  listener.subscribe("a", {});
  scene.follow("1", "0");
  scene.follow("3", "2");
  scene.pass(2'000);
  scene.follow("5", "4");
  scene.pass(2'800);
  CHECK(listener.heard == "1");
  scene.pass(300);
  CHECK(listener.heard == "13");
  scene.follow("4", "3");
  CHECK(listener.heard == "1345");
  scene.pass(10'000);
  CHECK(listener.heard == "1345");
  CHECK(scene.wheel.size() == 0);
}

TEST_CASE("an item that comes too late does not turn its channel back") {
  Scene scene;
  Listener listener(scene.channels);
  listener.subscribe("a", {});
  scene.follow("1", "0");
  scene.follow("3", "2");
  scene.pass(5'100);
  CHECK(listener.heard == "13");
  scene.follow("2", "1");  // its publisher tried again
  CHECK(listener.heard == "132");
  scene.follow("4", "3");
  CHECK(listener.heard == "1324");
  CHECK(scene.wheel.size() == 0);
}

TEST_CASE("what follows an item that comes too late is late as well, and waits for nobody") {
  for (const bool in_order : {true, false}) {
    CAPTURE(in_order);
    Scene scene;
    Listener listener(scene.channels);
    listener.subscribe("a", {});
    scene.follow("1", "0");
    scene.follow("4", "3");
    scene.pass(5'100);
    CHECK(listener.heard == "14");
    if (in_order) scene.follow("2", "1");
    scene.follow("3", "2");
    if (!in_order) scene.follow("2", "1");
    CHECK(listener.heard == "1423");
    scene.follow("5", "4");
    CHECK(listener.heard == "14235");
    CHECK(scene.wheel.size() == 0);
  }
}

TEST_CASE("a channel goes on behind two items that are lost") {
  Scene scene;
  Listener listener(scene.channels);
  listener.subscribe("a", {});
  scene.follow("1", "0");
  scene.follow("3", "2");
  scene.pass(1'000);
  scene.follow("5", "4");
  scene.pass(1'000);
  scene.follow("6", "5");
  scene.pass(3'100);
  CHECK(listener.heard == "13");
  scene.pass(1'000);
  CHECK(listener.heard == "1356");
  scene.follow("7", "6");
  CHECK(listener.heard == "13567");
}

TEST_CASE("what is held goes with the last listener") {
  Scene scene;
  {
    Listener listener(scene.channels);
    listener.subscribe("a", {});
    scene.follow("1", "0");
    scene.follow("3", "2");
    CHECK(scene.wheel.size() == 1);
  }
  CHECK(scene.wheel.size() == 0);
  Listener listener(scene.channels);
  listener.subscribe("a", {});
  scene.follow("9", "8");
  CHECK(listener.heard == "9");
}

TEST_CASE("an id that came within the last minute is not delivered again") {
  Scene scene;
  Listener listener(scene.channels);
  listener.subscribe("a", {});
  const auto send = [&](const std::string& id) {
    scene.publish({.channel = "a", .id = id, .content = {GripMessageType::text, id}});
  };
  send("x");
  scene.pass(59'000);
  send("x");
  CHECK(listener.heard == "x");
  scene.pass(2'000);
  send("x");
  CHECK(listener.heard == "xx");
  send("");
  send("");  // without an id, nothing is the same

  listener.heard.clear();
  for (int i = 0; i < 101; ++i) send("id" + std::to_string(i));
  listener.heard.clear();
  send("id1");  // among the last hundred
  send("id0");  // forgotten
  CHECK(listener.heard == "id0");
}

TEST_CASE("over the bounds of what is held, items are rather early than lost") {
  Scene scene;
  Listener listener(scene.channels);
  listener.subscribe("a", {});
  scene.follow("0", "-");
  for (std::size_t i = 0; i < Channels::held_max; ++i) {
    scene.follow("h" + std::to_string(i), "missing");
  }
  CHECK(listener.heard == "0");
  scene.follow("early", "missing");
  CHECK(listener.heard == "0early");

  Scene other;
  Listener large(other.channels);
  large.subscribe("a", {});
  other.follow("0", "-");
  large.heard.clear();
  const std::string megabyte(1024 * 1024 - 1024, 'x');  // with what else an item takes
  for (int i = 0; i < 17; ++i) {
    other.publish({.channel = "a",
                   .id = std::to_string(i + 1),
                   .previous_id = "missing",
                   .content = {GripMessageType::text, megabyte}});
  }
  CHECK(large.heard.size() == megabyte.size());
}

TEST_CASE("a publisher reaches the channels of all workers, and adds up their receipts") {
  struct Worker {
    Worker() { channels.use(wheel); }
    uv::Loop loop;
    TimerWheel wheel{0};
    Channels channels;
    std::unique_ptr<Listener> listener;
    std::thread thread;
  };
  test::TestLoop home;
  Worker workers[2];
  Publisher publisher;
  for (Worker& worker : workers) {
    worker.listener = std::make_unique<Listener>(worker.channels);
    worker.listener->subscribe("a", {});
    publisher.add(worker.loop, worker.channels);
    worker.thread = std::thread([&worker] { worker.loop.run(); });
  }
  workers[1].listener->all_left = false;

  const auto items = std::make_shared<const std::vector<Published>>(
      std::vector<Published>{{.channel = "a", .content = {GripMessageType::text, "x"}},
                             {.channel = "a", .content = {GripMessageType::text, "y"}},
                             {.channel = "b", .content = {GripMessageType::text, "z"}}});
  std::vector<Receipt> receipts;
  bool inside = true;
  for (int i = 0; i < 3; ++i) {
    publisher.publish(items, home.loop, [&](const Receipt& total) {
      CHECK_FALSE(inside);
      CHECK(std::this_thread::get_id() != workers[0].thread.get_id());
      receipts.push_back(total);
    });
  }
  inside = false;
  home.run_until([&] { return receipts.size() == 3; });
  for (Worker& worker : workers) {
    worker.loop.post([&worker] { worker.loop.stop(); });
    worker.thread.join();
    CHECK(worker.listener->heard == "xyxyxy");
    worker.listener.reset();
    CHECK(worker.loop.close().has_value());
  }
  for (const Receipt& total : receipts) CHECK(total == receipt(4, 2, 2, 0));

  Publisher nobody;
  bool answered = false;
  nobody.publish(items, home.loop,
                 [&](const Receipt& total) { answered = total == receipt(0, 0, 0, 0); });
  CHECK_FALSE(answered);
  home.run_until([&] { return answered; });
  CHECK(home.loop.close().has_value());
}
