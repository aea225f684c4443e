#include "base/log.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

using namespace sluice;
using log::Level;

namespace {

constexpr const char* time_text = "2026-11-23T12:00:00.000Z";

std::string text(const log::Fields& fields) {
  return log::text_line(time_text, Level::info, "event", fields);
}
std::string json(const log::Fields& fields) {
  return log::json_line(time_text, Level::info, "event", fields);
}
// What stands behind "event " in a line of text.
std::string shown(std::string_view value) {
  const std::string line = text({{"f", value}});
  const std::string front = std::string(time_text) + " info    event f=";
  REQUIRE(line.starts_with(front));
  return line.substr(front.size());
}

// Whether a terminal or a reader of lines could mistake it for something else.
bool is_one_harmless_line(const std::string& line) {
  for (std::size_t i = 0; i < line.size(); ++i) {
    const auto byte = static_cast<unsigned char>(line[i]);
    if (byte < 0x20 || byte == 0x7f) return false;
    const bool c1 =
        byte == 0xc2 && i + 1 < line.size() && static_cast<unsigned char>(line[i + 1]) < 0xa0;
    if (c1) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a line of text: time, level, event, fields") {
  CHECK(text({{"address", "127.0.0.1:80"},
              {"tls", true},
              {"code", 1000},
              {"bytes", std::uint64_t{18'446'744'073'709'551'615U}},
              {"delta", -5},
              {"ms", 1.5}}) ==
        "2026-11-23T12:00:00.000Z info    event address=127.0.0.1:80 tls=true code=1000 "
        "bytes=18446744073709551615 delta=-5 ms=1.5");
  CHECK(log::text_line(time_text, Level::warning, "slow", {}) ==
        "2026-11-23T12:00:00.000Z warning slow");
}

TEST_CASE("a line of JSON: an object with the fields in their order") {
  CHECK(json({{"address", "127.0.0.1:80"}, {"tls", false}, {"code", 1000}, {"ms", 1.5}}) ==
        R"({"ts":"2026-11-23T12:00:00.000Z","level":"info","event":"event",)"
        R"("address":"127.0.0.1:80","tls":false,"code":1000,"ms":1.5})");
}

TEST_CASE("text that is no bare word is quoted, so that no value can look like a field") {
  CHECK(shown("bare/word:1.2-3") == "bare/word:1.2-3");
  CHECK(shown("") == R"("")");
  CHECK(shown("two words") == R"("two words")");
  CHECK(shown("x=1 level=error") == R"("x=1 level=error")");
  CHECK(shown(R"(say "hi")") == R"("say \"hi\"")");
  CHECK(shown(R"(a\b)") == R"("a\\b")");
}

TEST_CASE("control characters cannot begin a line or move a cursor") {
  CHECK(shown("a\nb\r\tc") == R"("a\nb\r\tc")");
  CHECK(shown(std::string_view("a\0b", 3)) == R"("a\u0000b")");
  CHECK(shown("\x1b[31mred\x1b[0m") == R"("\u001b[31mred\u001b[0m")");
  CHECK(shown("\x7f") == R"("\u007f")");
  CHECK(shown("\xc2\x9b"
              "31m") == R"("\u009b31m")");    // C1: CSI in one character
  CHECK(shown("\xc2\x85") == R"("\u0085")");  // next line
}

TEST_CASE("Chinese stays readable in text, and JSON is ASCII") {
  CHECK(shown("你好") == "\"你好\"");
  CHECK(shown("caf\xc3\xa9 \xc2\xa9") == "\"caf\xc3\xa9 \xc2\xa9\"");
  CHECK(json({{"f", "你好"}}).ends_with(R"("f":"\u4f60\u597d"})"));
}

TEST_CASE("bytes that are no UTF-8 become the replacement character") {
  CHECK(shown("a\xff"
              "b") ==
        "\"a\xef\xbf\xbd"
        "b\"");
  CHECK(shown("\xc2") == "\"\xef\xbf\xbd\"");  // the text ends inside a character
  CHECK(json({{"f", "\xff"}}).ends_with(R"("f":"\ufffd"})"));
}

TEST_CASE("whatever a value is, its line is one line, and JSON gives it back") {
  std::vector<std::string> values = {"\n", "\r\n", "\"", "\\", "\xe2\x80\xa8", "}", "\xed\xa0\x80"};
  for (int byte = 0; byte < 256; ++byte) {
    values.push_back("a" + std::string(1, static_cast<char>(byte)) + "b");
    values.push_back("a\xc2" + std::string(1, static_cast<char>(byte)));
  }
  for (const std::string& value : values) {
    CAPTURE(value);
    CHECK(is_one_harmless_line(text({{"f", value}})));
    const std::string line = json({{"f", value}});
    CHECK(std::all_of(line.begin(), line.end(), [](char c) { return c >= 0x20 && c < 0x7f; }));
    const auto object = nlohmann::json::parse(line);
    const bool ascii = std::all_of(value.begin(), value.end(),
                                   [](char c) { return static_cast<unsigned char>(c) < 0x80; });
    if (ascii) CHECK(object["f"] == value);
  }
}

TEST_CASE("numbers that JSON does not have are null in both formats") {
  const double infinite = 1e308 * 10;
  CHECK(text({{"f", infinite}}).ends_with("f=null"));
  CHECK(json({{"f", infinite}}).ends_with(R"("f":null})"));
}

TEST_CASE(
    "lines of several threads stay whole, and levels below the one that was opened are not "
    "written") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  std::fflush(stdout);
  const int standard_output = ::dup(STDOUT_FILENO);
  REQUIRE(::dup2(ends[1], STDOUT_FILENO) >= 0);
  ::close(ends[1]);

  std::string written;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t count = 0; (count = ::read(ends[0], buffer, sizeof buffer)) > 0;) {
      written.append(buffer, static_cast<std::size_t>(count));
    }
  });
  log::open(Level::info, log::Format::automatic);  // a pipe: JSON
  const bool debug_enabled = log::enabled(Level::debug);
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t) {
    writers.emplace_back([t] {
      for (int i = 0; i < 50; ++i) {
        log::debug("silent");
        log::info("tick", {{"thread", t}, {"number", i}, {"value", "a\nb"}});
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  std::fflush(stdout);
  REQUIRE(::dup2(standard_output, STDOUT_FILENO) >= 0);
  ::close(standard_output);
  reader.join();
  ::close(ends[0]);

  CHECK_FALSE(debug_enabled);
  std::array<int, 4> next{};
  std::size_t lines = 0;
  for (std::size_t at = 0, end = 0; (end = written.find('\n', at)) != std::string::npos;
       at = end + 1) {
    const auto line = nlohmann::json::parse(written.substr(at, end - at));
    CHECK(line["event"] == "tick");
    CHECK(line["number"] == next[line["thread"].get<std::size_t>()]++);
    ++lines;
  }
  CHECK(lines == 200);
}

TEST_CASE("a throttle lets the first record through, and then one a second") {
  log::Throttle throttle;
  CHECK(throttle.due(5'000));
  CHECK_FALSE(throttle.due(5'000));
  CHECK_FALSE(throttle.due(5'999));
  CHECK(throttle.due(6'000));
  CHECK_FALSE(throttle.due(6'999));
}
