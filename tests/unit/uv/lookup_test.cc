#include "uv/lookup.h"

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <chrono>
#include <latch>
#include <thread>

using namespace sluice;

TEST_CASE("lookup: the answer comes from the loop, and is a list") {
  uv::Loop loop;
  uv::Lookup lookup;
  int told = 0;
  const auto asked = lookup.start(loop, "127.0.0.1", [&](Result<const addrinfo*> found) {
    ++told;
    REQUIRE(found.has_value());
    CHECK((*found)->ai_family == AF_INET);
    CHECK((*found)->ai_next == nullptr);
    loop.stop();
  });
  CHECK(asked.has_value());
  CHECK(told == 0);
  loop.run();
  CHECK(told == 1);
  CHECK(loop.close().has_value());
}

TEST_CASE("lookup: a name that cannot be asked for fails at once, and only so") {
  uv::Loop loop;
  uv::Lookup lookup;
  int told = 0;
  const auto asked = lookup.start(loop, "\xFF", [&](Result<const addrinfo*>) { ++told; });
  CHECK_FALSE(asked.has_value());
  CHECK(loop.close().has_value());
  CHECK(told == 0);
}

TEST_CASE("a loop that closes waits for what a thread of libuv is at") {
  uv::Loop loop;
  uv_work_t slow{};
  bool done = false;
  slow.data = &done;
  uv_queue_work(
      loop.raw(), &slow,
      [](uv_work_t*) { std::this_thread::sleep_for(std::chrono::milliseconds(50)); },
      [](uv_work_t* work, int) { *static_cast<bool*>(work->data) = true; });
  CHECK(loop.close().has_value());
  CHECK(done);
}

TEST_CASE("a loop that closes waits for a thread of libuv a second, and no more") {
  uv::Loop loop;
  uv_work_t stuck{};
  std::latch end(1);
  stuck.data = &end;
  uv_queue_work(
      loop.raw(), &stuck, [](uv_work_t* work) { static_cast<std::latch*>(work->data)->wait(); },
      [](uv_work_t*, int) {});
  CHECK_FALSE(loop.close().has_value());
  CHECK(loop.has_requests());
  end.count_down();
  CHECK(loop.close().has_value());
  CHECK_FALSE(loop.has_requests());
}
