#include "ws/close_code.h"

#include <doctest/doctest.h>

#include <vector>

using namespace sluice::ws;

namespace {

// The codes from 0 to 65535 for which `is` holds, as ranges.
std::vector<std::pair<unsigned, unsigned>> ranges(bool (*is)(std::uint16_t)) {
  std::vector<std::pair<unsigned, unsigned>> found;
  for (unsigned code = 0; code <= 65535; ++code) {
    if (!is(static_cast<std::uint16_t>(code))) continue;
    if (!found.empty() && found.back().second + 1 == code) {
      found.back().second = code;
    } else {
      found.emplace_back(code, code);
    }
  }
  return found;
}

using Ranges = std::vector<std::pair<unsigned, unsigned>>;

}  // namespace

TEST_CASE("the codes that may be on the wire (RFC 6455 7.4)") {
  const Ranges expected = {{1000, 1003}, {1007, 1014}, {3000, 4999}};
  CHECK(ranges([](std::uint16_t code) { return may_be_on_the_wire(code); }) == expected);
}

TEST_CASE("the codes that an application may choose (RFC 6455 7.4.2, WebSocket.close())") {
  const Ranges expected = {{1000, 1000}, {3000, 4999}};
  CHECK(ranges([](std::uint16_t code) { return application_may_send(code); }) == expected);
}
