#include "base/field.h"

#include <doctest/doctest.h>

#include <ostream>

namespace sluice {
namespace {

using namespace std::string_view_literals;
using Views = std::vector<std::string_view>;

TEST_CASE("a token has tchar and nothing else (RFC 9110 5.6.2)") {
  CHECK(is_token("!#$%&'*+-.^_`|~0aZ"));
  CHECK_FALSE(is_token(""));
  for (const std::string_view text : {"a b"sv, "a,"sv, "(a"sv, "a/b"sv, "a:b"sv, "\"a\""sv, "a\0"sv,
                                      "\x7f"sv, "\xc3\xa9"sv, "{}"sv, "[a]"sv, "a@b"sv, "\t"sv}) {
    CAPTURE(text);
    CHECK_FALSE(is_token(text));
  }
}

TEST_CASE("a field's value has no control character but the tab (RFC 9110 5.5)") {
  CHECK(is_field_value("a b\tc \xe4\xbd\xa0"));
  CHECK(is_field_value(""));
  for (const std::string_view text : {"a\r"sv, "a\n"sv, "a\0b"sv, "\x1f"sv, "\x7f"sv}) {
    CHECK_FALSE(is_field_value(text));
  }
}

TEST_CASE("optional white space is spaces and tabs (RFC 9110 5.6.3)") {
  CHECK(trim(" \t a b\t ") == "a b");
  CHECK(trim(" \t") == "");
  CHECK(trim("") == "");
  CHECK(trim("\x0b"
             "a") ==
        "\x0b"
        "a");
}

TEST_CASE("empty elements of a list are left out (RFC 9110 5.6.1.2)") {
  CHECK(split_list("a, b ,\tc") == Views{"a", "b", "c"});
  CHECK(split_list(",, a,,b c, ,") == Views{"a", "b c"});
  CHECK(split_list("").empty());
  CHECK(split_list(" , ").empty());
}

TEST_CASE("case is a matter of ASCII alone") {
  CHECK(equals_ignoring_case("UpGrade", "uPgRADE"));
  CHECK_FALSE(equals_ignoring_case("upgrade", "upgrades"));
  CHECK_FALSE(equals_ignoring_case("[", "{"));
  CHECK_FALSE(equals_ignoring_case("\xc3\x89", "\xc3\xa9"));
  CHECK(to_lower("ABC[Z]\xc3\x89") == "abc[z]\xc3\x89");
}

}  // namespace
}  // namespace sluice
