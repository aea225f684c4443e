#include "metrics/counters.h"

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <vector>

#include "metrics/upstream_counters.h"

namespace sluice::metrics {
namespace {

template <typename Enum>
void check_labels() {
  std::set<std::string> seen;
  for (std::size_t i = 0; i < static_cast<std::size_t>(Enum::count); ++i) {
    const char* name = label(static_cast<Enum>(i));
    CAPTURE(i);
    REQUIRE(name != nullptr);
    CHECK(std::string(name).find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos);
    CHECK_MESSAGE(seen.insert(name).second, "the label comes twice: ", name);
  }
}

std::size_t count_live(const ConnectionTable& table) {
  std::size_t count = 0;
  table.for_each([&count](const ConnectionSlot&) { ++count; });
  return count;
}

}  // namespace

TEST_CASE("every value of every enumeration has a label of its own") {
  check_labels<Initiator>();
  check_labels<CloseReason>();
  check_labels<HandshakeResult>();
  check_labels<Limit>();
  check_labels<ConnectFailure>();
}

TEST_CASE("the labels stand in the order of their enumerations") {
  CHECK(std::string(label(Initiator::client)) == "client");
  CHECK(std::string(label(Initiator::network)) == "network");
  CHECK(std::string(label(CloseReason::normal)) == "normal");
  CHECK(std::string(label(CloseReason::message_too_big)) == "message_too_big");
  CHECK(std::string(label(CloseReason::slow_consumer)) == "slow_consumer");
  CHECK(std::string(label(CloseReason::drain)) == "drain");
  CHECK(std::string(label(CloseReason::tls_error)) == "tls_error");
  CHECK(std::string(label(HandshakeResult::accepted)) == "accepted");
  CHECK(std::string(label(HandshakeResult::rejected_limit)) == "rejected_limit");
  CHECK(std::string(label(HandshakeResult::timeout)) == "timeout");
  CHECK(std::string(label(HandshakeResult::draining)) == "draining");
  CHECK(std::string(label(HandshakeResult::upstream_refused)) == "upstream_refused");
  CHECK(std::string(label(HandshakeResult::upstream_timeout)) == "upstream_timeout");
  CHECK(std::string(label(CloseReason::unsupported_data)) == "unsupported_data");
  CHECK(std::string(label(ConnectFailure::refused)) == "refused");
  CHECK(std::string(label(ConnectFailure::no_endpoint)) == "no_endpoint");
  CHECK(std::string(label(ConnectFailure::descriptors)) == "descriptors");
  CHECK(std::string(label(Limit::route_connections)) == "route_connections");
  CHECK(std::string(label(Limit::control_frames)) == "control_frames");
  CHECK(std::string(label(Limit::buffer)) == "buffer");
}

TEST_CASE("RFC 6455 7.4: every close code falls under one of a few labels") {
  const auto name = [](unsigned code) {
    const std::size_t index = close_code_index(static_cast<std::uint16_t>(code));
    return std::string(close_code_label(index));
  };
  for (unsigned code = 1000; code <= 1015; ++code) CHECK(name(code) == std::to_string(code));
  CHECK(name(3000) == "3xxx");
  CHECK(name(3999) == "3xxx");
  CHECK(name(4000) == "4xxx");
  CHECK(name(4999) == "4xxx");
  for (const unsigned code : {0U, 999U, 1016U, 2999U, 5000U, 65535U}) CHECK(name(code) == "other");
}

TEST_CASE("close code labels are as many as the indices") {
  for (std::uint32_t code = 0; code <= 65535; ++code) {
    REQUIRE(close_code_index(static_cast<std::uint16_t>(code)) < close_code_count);
  }
  for (std::size_t i = 0; i < close_code_count; ++i) CHECK(close_code_label(i) != nullptr);
}

TEST_CASE("a histogram counts a value that equals a bound under that bound") {
  constexpr std::array<std::uint64_t, 2> bounds = {10, 20};
  Histogram<2> histogram;
  for (const std::uint64_t value : {0U, 10U, 11U, 20U, 21U}) histogram.observe(bounds, value);
  CHECK(histogram.buckets[0].get() == 2);
  CHECK(histogram.buckets[1].get() == 2);
  CHECK(histogram.buckets[2].get() == 1);
  CHECK(histogram.sum.get() == 62);
}

TEST_CASE("a slot is live from take to give_back, with the connection's route") {
  ConnectionTable table;
  CHECK(count_live(table) == 0);
  ConnectionSlot& slot = table.take(3);
  table.for_each([&slot](const ConnectionSlot& seen) {
    CHECK(&seen == &slot);
    CHECK(seen.route.load() == 3);
  });
  CHECK(count_live(table) == 1);
  table.give_back(slot);
  CHECK(count_live(table) == 0);
}

TEST_CASE("a slot that is used again carries nothing of its last connection") {
  ConnectionTable table;
  ConnectionSlot& first = table.take(1);
  first.buffered_bytes.set(10);
  first.buffered_tls_bytes.set(20);
  first.inbound_bytes.set(30);
  first.paused.store(true);
  first.read_paused.store(true);
  table.give_back(first);

  ConnectionSlot& second = table.take(2);
  REQUIRE(&second == &first);
  CHECK(second.route.load() == 2);
  CHECK(second.buffered_bytes.get() == 0);
  CHECK(second.buffered_tls_bytes.get() == 0);
  CHECK(second.inbound_bytes.get() == 0);
  CHECK_FALSE(second.paused.load());
  CHECK_FALSE(second.read_paused.load());
}

TEST_CASE("the table grows, keeps every slot in its place and uses the free ones first") {
  ConnectionTable table;
  std::set<ConnectionSlot*> all;
  std::vector<ConnectionSlot*> open;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    ConnectionSlot& slot = table.take(i);
    CHECK(all.insert(&slot).second);
    open.push_back(&slot);
  }
  CHECK(count_live(table) == 1000);
  for (std::uint32_t i = 0; i < 1000; ++i) CHECK(open[i]->route.load() == i);

  for (std::size_t i = 0; i < 500; ++i) table.give_back(*open[i * 2]);
  CHECK(count_live(table) == 500);
  for (std::size_t i = 0; i < 500; ++i) CHECK(all.count(&table.take(0)) == 1);
  CHECK(count_live(table) == 1000);
}

TEST_CASE("past its capacity the table hands out one slot that is not counted") {
  constexpr std::size_t capacity = 256 * 4096;
  ConnectionTable table;
  ConnectionSlot* last = nullptr;
  for (std::size_t i = 0; i < capacity; ++i) last = &table.take(0);
  ConnectionSlot& uncounted = table.take(0);
  CHECK(&table.take(0) == &uncounted);
  CHECK(count_live(table) == capacity);

  table.give_back(*last);
  table.give_back(uncounted);  // does not make it a free slot
  CHECK(&table.take(0) == last);
  CHECK(&table.take(0) == &uncounted);
}

}  // namespace sluice::metrics
