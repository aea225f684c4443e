#include "bridges/events.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

using namespace sluice;
using namespace sluice::bridges;
using namespace std::literals;

namespace {

std::string encode(const std::vector<Event>& events) {
  std::string body;
  for (const Event& event : events) append_event(event, body);
  return body;
}

// "open; text 'hi'", and "; malformed" at the end of what is.
std::string read(std::string_view body) {
  constexpr const char* names[] = {"open", "text", "binary", "ping", "pong", "close", "disconnect"};
  EventReader reader(body);
  std::string told;
  while (const auto event = reader.next()) {
    if (!told.empty()) told += "; ";
    told += names[static_cast<int>(event->type)];
    if (!event->content.empty()) told += " '" + std::string(event->content) + "'";
  }
  if (reader.malformed()) told += told.empty() ? "malformed" : "; malformed";
  CHECK(reader.malformed() != is_well_formed(body));
  return told;
}

struct Golden {
  std::vector<Event> events;
  std::string_view body;
};

const Golden goldens[] = {
    {{}, ""sv},
    {{{EventType::open, {}}}, "OPEN\r\n"sv},
    {{{EventType::text, "hi"}}, "TEXT 2\r\nhi\r\n"sv},
    {{{EventType::text, ""},
      {EventType::binary, "\0\1"sv},
      {EventType::ping, "pp"},
      {EventType::text, "fragment"}},
     "TEXT\r\nBINARY 2\r\n\0\1\r\nPING 2\r\npp\r\nTEXT 8\r\nfragment\r\n"sv},
    {{{EventType::close,
       "\x03\xe8"
       "done"}},
     "CLOSE 6\r\n\x03\xe8"
     "done\r\n"sv},
    {{{EventType::disconnect, {}}}, "DISCONNECT\r\n"sv},
    {{{EventType::text, "0123456789abcdef0"}}, "TEXT 11\r\n0123456789abcdef0\r\n"sv},
    {{{EventType::text, "0123456789"}}, "TEXT a\r\n0123456789\r\n"sv},
    {{{EventType::text, "a\r\nb"}, {EventType::pong, {}}}, "TEXT 4\r\na\r\nb\r\nPONG\r\n"sv},
};

}  // namespace

TEST_CASE("events as they stand on the wire, both ways") {
  for (const Golden& golden : goldens) {
    CAPTURE(golden.body);
    CHECK(encode(golden.events) == golden.body);
    EventReader reader(golden.body);
    for (const Event& event : golden.events) {
      const auto read = reader.next();
      REQUIRE(read);
      CHECK(read->type == event.type);
      CHECK(read->content == event.content);
    }
    CHECK_FALSE(reader.next());
    CHECK_FALSE(reader.malformed());
  }
}

TEST_CASE("events that others write differently") {
  CHECK(read("TEXT 0\r\n\r\n") == "text");
  CHECK(read("TEXT\r\n") == "text");
  CHECK(read("TEXT A\r\n0123456789\r\n") == "text '0123456789'");
  CHECK(read("TEXT 00000002\r\nhi\r\n") == "text 'hi'");
  CHECK(read("SOMETHING\r\nTEXT 1\r\na\r\n") == "text 'a'");
  CHECK(read("SOMETHING 2\r\nxy\r\nTEXT 1\r\na\r\n") == "text 'a'");
  CHECK(read("text 1\r\na\r\n").empty());
  CHECK(read("DISCONNECT 1\r\nx\r\n") == "disconnect 'x'");
}

TEST_CASE("malformed events") {
  for (const std::string_view body : {"OPEN"sv,
                                      "OPEN\r"sv,
                                      "OPEN\n"sv,
                                      "\r\n"sv,
                                      " 2\r\nhi\r\n"sv,
                                      "OPEN\n\r\n"sv,
                                      "TEXT \r\nhi\r\n"sv,
                                      "TEXT 0x2\r\nhi\r\n"sv,
                                      "TEXT +2\r\nhi\r\n"sv,
                                      "TEXT -2\r\nhi\r\n"sv,
                                      "TEXT  2\r\nhi\r\n"sv,
                                      "TEXT 2 \r\nhi\r\n"sv,
                                      "TEXT 2;x\r\nhi\r\n"sv,
                                      "TEXT g\r\nhi\r\n"sv,
                                      "TEXT 000000002\r\nhi\r\n"sv,
                                      "TEXT ffffffff\r\nhi\r\n"sv,
                                      "TEXT ffffffffffffffff\r\nhi\r\n"sv,
                                      "TEXT 2\r\nhi"sv,
                                      "TEXT 2\r\nhi\n"sv,
                                      "TEXT 2\r\nhi\r"sv,
                                      "TEXT 2\r\nh\r\n"sv,
                                      "TEXT 2\r\nhix\r\n"sv,
                                      "TEXT 2\nhi\r\n"sv}) {
    CAPTURE(body);
    CHECK(read(body) == "malformed");
    CHECK(read("OPEN\r\n" + std::string(body)) == "open; malformed");
  }
  CHECK(read(std::string(64, 'X') + "\r\n").empty());
  CHECK(read(std::string(65, 'X') + "\r\n") == "malformed");
}

TEST_CASE("a body that is cut off is malformed wherever it is not between two events") {
  const std::string body = encode({{EventType::open, {}}, {EventType::text, "a\r\nb"}});
  for (std::size_t size = 0; size < body.size(); ++size) {
    CAPTURE(size);
    CHECK(is_well_formed(body.substr(0, size)) == (size == 0 || size == 6));
  }
  CHECK(is_well_formed(body));
}

TEST_CASE("the content of CLOSE") {
  struct {
    std::string content;
    int code;  // 0: none
    const char* reason;
  } const cases[] = {
      {"", 0, ""},
      {"\x03", 0, ""},
      {"\x03\xe8", 1000, ""},
      {"\x03\xe8"
       "done",
       1000, "done"},
      {"\x0f\xa1"
       "bye",
       4001, "bye"},
      {std::string("\0\0", 2), 0, ""},  // what libraries write for "no code"
      {"\x03\xed", 0, ""},              // 1005
      {"\x03\xee", 0, ""},              // 1006
      {"\xff\xff", 0, ""},
      {"\x03\xe8\xff", 1000, ""},  // no UTF-8
  };
  for (const auto& [content, code, reason] : cases) {
    const CloseContent close = parse_close(content);
    CHECK(close.code.value_or(0) == code);
    CHECK(close.reason == reason);
  }
  // 123 bytes fit; a character of two bytes is not cut in the middle.
  std::string letters;
  for (int i = 0; i < 70; ++i) letters += "é";
  CHECK(parse_close("\x03\xe8" + letters).reason == letters.substr(0, 122));

  CHECK(close_content(1000, "done") ==
        "\x03\xe8"
        "done");
  CHECK(close_content(4999, "") == "\x13\x87");
  CHECK(close_content(1005, "").empty());
  CHECK(close_content(1006, "x").empty());
  CHECK(close_content(1000, letters) == "\x03\xe8" + letters.substr(0, 122));
}
