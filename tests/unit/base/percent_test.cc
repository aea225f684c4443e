#include "base/percent.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <string>

#include "base/field.h"

using namespace sluice;

TEST_CASE("percent_decode keeps what is no escape (RFC 3986 2.1)") {
  CHECK(percent_decode("a%20b%E4%BD%A0") == "a b\xe4\xbd\xa0");
  CHECK(percent_decode("%252e") == "%2e");
  CHECK(percent_decode("%zz%") == "%zz%");
  CHECK(percent_decode("%4") == "%4");
}

TEST_CASE("every byte is escaped in upper case and read in both (RFC 3986 2.1, 6.2.2.1)") {
  for (int byte = 0; byte < 256; ++byte) {
    const auto c = static_cast<char>(byte);
    char upper[4], lower[4];
    std::snprintf(upper, sizeof upper, "%%%02X", static_cast<unsigned>(byte));
    std::snprintf(lower, sizeof lower, "%%%02x", static_cast<unsigned>(byte));
    std::string escape;
    append_escape(escape, c);
    CHECK(escape == upper);
    CHECK(escaped_char(upper) == c);
    CHECK(escaped_char(std::string(lower) + "more") == c);
  }
  for (const char* broken : {"", "%", "%4", "%4g", "%g4", "41", "%-1", "%+1"}) {
    CAPTURE(broken);
    CHECK_FALSE(escaped_char(broken));
  }
}

TEST_CASE("what stands in a path as it is (RFC 3986 2.3, 3.3)") {
  std::string unreserved, segment, control;
  for (int byte = 0; byte < 256; ++byte) {
    const auto c = static_cast<char>(byte);
    if (is_unreserved(c) && !is_alphanumeric(c)) unreserved += c;
    if (is_segment_char(c) && !is_unreserved(c)) segment += c;
    if (is_control(c)) control += c;
  }
  CHECK(unreserved == "-._~");
  CHECK(segment == "!$&'()*+,:;=@");
  CHECK(control.size() == 33);
}
