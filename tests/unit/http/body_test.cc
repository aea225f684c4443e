#include "http/body.h"

#include <ostream>

#include "heads.h"
#include "pieces.h"

namespace sluice::http {
namespace {

using Kind = BodyFraming::Kind;
using namespace std::string_literals;

constexpr BodyFraming chunked{Kind::chunked, 0};

// "'hello' end A=b; rest 'x'", or "'hel' error: ...", or "'hel' more".
std::string read(BodyFraming framing, std::string_view input) {
  return run_in_pieces(input, [&](const Pieces& pieces) {
    BodyReader reader(framing);
    std::string body;
    std::string rest;
    BodyReader::Step step;
    for (const std::string_view piece : pieces) {
      Bytes bytes = as_bytes(piece);
      while (!bytes.empty() && !step.end && step.error == nullptr) {
        step = reader.read(bytes);
        body += as_text(step.payload);
      }
      rest += as_text(bytes);
    }
    CHECK(reader.ended() == step.end);
    std::string text = "'" + body + "'";
    if (step.error != nullptr) return text + " error: " + step.error;
    if (!step.end) return text + " more";
    text += " end";
    for (const Header& field : reader.trailers()) text += " " + field.name + "=" + field.value;
    return rest.empty() ? text : text + "; rest '" + rest + "'";
  });
}

TEST_CASE("a request says how its body ends (RFC 9112 6.3)") {
  const auto framing = [](std::string_view lines) {
    return request_framing(request("POST / HTTP/1.1\r\nHost: a\r\n" + std::string(lines) + "\r\n"));
  };
  CHECK(framing("").kind == Kind::none);
  CHECK(framing("Transfer-Encoding: Chunked\r\n").kind == Kind::chunked);
  CHECK(framing("content-length: 12345678901\r\n").kind == Kind::length);
  CHECK(framing("content-length: 12345678901\r\n").length == 12'345'678'901);
  // Not the same as none: it is to be passed on.
  CHECK(framing("Content-Length: 0\r\n").kind == Kind::length);
  CHECK(framing("Content-Length: 0\r\n").length == 0);
}

TEST_CASE("a body without bytes ends with the first call") {
  for (const BodyFraming framing : {BodyFraming{Kind::none, 0}, BodyFraming{Kind::length, 0}}) {
    BodyReader reader(framing);
    CHECK_FALSE(reader.ended());
    Bytes nothing;
    CHECK(reader.read(nothing).end);
    CHECK(reader.ended());
    CHECK(read(framing, "next") == "'' end; rest 'next'");
    // The end of the connection is its end too, even if nobody has asked before.
    CHECK(BodyReader(framing).end_of_stream());
  }
}

TEST_CASE("a length is counted") {
  CHECK(read({Kind::length, 5}, "hello") == "'hello' end");
  CHECK(read({Kind::length, 5}, "hello, you") == "'hello' end; rest ', you'");
  CHECK(read({Kind::length, 5}, "hell") == "'hell' more");
  CHECK(read({Kind::length, UINT64_MAX}, "hello") == "'hello' more");
  BodyReader reader({Kind::length, 5});
  Bytes bytes = as_bytes("hello");
  // The last piece and the end come in one step.
  CHECK(reader.read(bytes).end);
  CHECK(reader.end_of_stream());
}

TEST_CASE("until_close takes everything and ends with the connection") {
  CHECK(read({Kind::until_close, 0}, "hello\r\n0\r\n\r\n") == "'hello\r\n0\r\n\r\n' more");
  BodyReader reader({Kind::until_close, 0});
  Bytes bytes = as_bytes("x");
  CHECK_FALSE(reader.read(bytes).end);
  CHECK(bytes.empty());
  CHECK(reader.end_of_stream());
  CHECK(reader.ended());
}

TEST_CASE("chunks are put together (RFC 9112 7.1)") {
  CHECK(read(chunked, "0\r\n\r\n") == "'' end");
  CHECK(read(chunked, "5\r\nhello\r\n0\r\n\r\n") == "'hello' end");
  CHECK(read(chunked, "5\r\nhello\r\nA\r\n, you all!\r\n00\r\n\r\nHTTP") ==
        "'hello, you all!' end; rest 'HTTP'");
  CHECK(read(chunked, "a\r\n0123456789\r\n0\r\n\r\n") == "'0123456789' end");
  CHECK(read(chunked, "0000000000000001\r\nx\r\n0\r\n\r\n") == "'x' end");
  // CRLF in the data is data.
  CHECK(read(chunked, "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n") == "'\r\n0\r\n\r\n' end");
  CHECK(read(chunked, "5\r\nhello\r\n0\r\n") == "'hello' more");
  CHECK(read(chunked, "5\r\nhello\r") == "'hello' more");
  CHECK(read(chunked, "ffffffffffffffff\r\nx") == "'x' more");
  const std::string large(100'000, 'x');
  CHECK(read(chunked, "186a0\r\n" + large + "\r\n0\r\n\r\n") == "'" + large + "' end");
}

TEST_CASE("a chunk's payload is a view of the input") {
  BodyReader reader(chunked);
  const std::string input = "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
  Bytes bytes = as_bytes(input);
  const BodyReader::Step first = reader.read(bytes);
  CHECK(as_text(first.payload) == "hello");
  CHECK(first.payload.data() == as_bytes(input).data() + 3);
  CHECK(as_text(reader.read(bytes).payload) == "!");
  const BodyReader::Step last = reader.read(bytes);
  CHECK(last.end);
  CHECK(last.payload.empty());
  CHECK(bytes.empty());
}

TEST_CASE("malformed chunks are refused (RFC 9112 7.1)") {
  const std::string size =
      "'' error: a chunk's size is not a hexadecimal number of at most 16 digits";
  const std::string extension = "'' error: a chunk's extensions are malformed";
  const std::string line =
      "'' error: a line of the chunked body has a control character, or a CR or LF that stands "
      "alone";
  const std::string longer = "'hello' error: a chunk is longer than its size says";
  const std::string torn = "'hello' error: " + line.substr(10);
  struct Row {
    const char* what;
    std::string input;
    std::string outcome;
  };
  const std::vector<Row> rows = {
      {"0x", "0x5\r\nhello\r\n", extension},
      {"plus", "+5\r\nhello\r\n", size},
      {"minus", "-5\r\nhello\r\n", size},
      {"no size", "\r\nhello\r\n", size},
      {"only an extension", ";a=b\r\nhello\r\n", size},
      {"no digit", "g\r\n", size},
      {"underscore", "1_0\r\n", extension},
      {"17 digits", "00000000000000005\r\nhello\r\n", size},
      {"overflow", "10000000000000005\r\nhello\r\n", size},
      {"many digits", std::string(1000, 'f') + "\r\n", size},
      {"space before the size", " 5\r\nhello\r\n", size},
      {"space after the size", "5 \r\nhello\r\n", extension},
      {"tab after the size", "5\t\r\nhello\r\n", extension},
      {"space before the extension", "5 ;a\r\nhello\r\n", extension},
      {"two sizes", "5 5\r\nhello\r\n", extension},
      {"bare LF after the size", "5\nhello\r\n", line},
      {"bare CR after the size", "5\rhello\r\n", line},
      {"CR CR LF after the size", "5\r\r\nhello\r\n", line},
      {"NUL", "5\0\r\nhello\r\n"s, line},
      {"bare LF in an extension", "5;a\nhello\r\n", line},
      {"bare CR in an extension", "5;a\rb\r\nhello\r\n", line},
      {"extension without a name", "5;\r\nhello\r\n", extension},
      {"extension without a value", "5;a=\r\nhello\r\n", extension},
      {"extension with a colon", "5;a:b\r\nhello\r\n", extension},
      {"open quotes", "5;a=\"b\r\nhello\r\n", extension},
      {"open quotes over the line's end", "5;a=\"\r\n\"\r\nhello\r\n", extension},
      {"escaped quotes", "5;a=\"b\\\"\r\nhello\r\n", extension},
      {"escaped line end", "5;a=\"b\\\r\n\"\r\nhello\r\n", extension},
      {"text behind the quotes", "5;a=\"b\"c\r\nhello\r\n", extension},
      {"no CRLF after the data", "5\r\nhello5\r\nhello\r\n", longer},
      {"bare LF after the data", "5\r\nhello\n0\r\n\r\n", torn},
      {"bare CR after the data", "5\r\nhello\r0\r\n\r\n", torn},
      {"two bytes that are no CRLF", "5\r\nhelloXX0\r\n\r\n", longer},
      {"bare LF at the end", "0\r\n\n", line},
      {"bare CR at the end", "0\r\n\rX", line},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK(read(chunked, row.input) == row.outcome);
  }
}

TEST_CASE("chunk extensions are skipped and bounded (RFC 9112 7.1.1)") {
  for (const char* extension :
       {";a", ";a=b", "; a = b ; c", ";a=\"b;c \\\" d\"", ";a=\"\"", ";a=\"\\\\\"", ";a\t;b"}) {
    CAPTURE(extension);
    CHECK(read(chunked, "5" + std::string(extension) + "\r\nhello\r\n0;x=y\r\n\r\n") ==
          "'hello' end");
  }
  const auto with_line = [](std::size_t size) {
    return "1;" + std::string(size - 2, 'a') + "\r\nx\r\n0\r\n\r\n";
  };
  CHECK(read(chunked, with_line(chunk_line_bytes_max)) == "'x' end");
  CHECK(read(chunked, with_line(chunk_line_bytes_max + 1)) ==
        "'' error: a chunk's line is too long");
  CHECK(read(chunked, "1;" + std::string(100'000, 'a')) == "'' error: a chunk's line is too long");
}

TEST_CASE("trailers are fields (RFC 9112 7.1.2)") {
  CHECK(read(chunked, "1\r\nx\r\n0\r\nDigest:  abc \r\nA:\r\n\r\nrest") ==
        "'x' end Digest=abc A=; rest 'rest'");
  for (const std::string& lines :
       {"A: b\r\n c\r\n"s, "A: b\r\n\tc\r\n"s, " A: b\r\n"s, "A : b\r\n"s, ": b\r\n"s, "A\r\n"s}) {
    CAPTURE(lines);
    CHECK(read(chunked, "0\r\n" + lines + "\r\n") == "'' error: a trailer is malformed");
  }
  for (const std::string& lines : {"A: b\nC: d\r\n"s, "A: b\rC: d\r\n"s, "A: \0\r\n"s}) {
    CHECK(read(chunked, "0\r\n" + lines + "\r\n").starts_with("'' error: a line of the chunked"));
  }
}

TEST_CASE("trailers are bounded") {
  const auto many = [](std::size_t count) {
    std::string lines;
    for (std::size_t i = 0; i < count; ++i) lines += "A: b\r\n";
    return "0\r\n" + lines + "\r\n";
  };
  CHECK(read(chunked, many(trailers_max)).starts_with("'' end A=b"));
  CHECK(read(chunked, many(trailers_max + 1)) == "'' error: too many trailers");
  CHECK(read(chunked, many(10'000)) == "'' error: too many trailers");
  const auto large = [](std::size_t size) {
    return "0\r\nA: " + std::string(size / 2, 'a') + "\r\nB: " + std::string(size / 2, 'b') +
           "\r\n\r\n";
  };
  CHECK(read(chunked, large(trailer_bytes_max - 20)).starts_with("'' end A=aaa"));
  CHECK(read(chunked, large(trailer_bytes_max)) == "'' error: too large trailers");
  CHECK(read(chunked, "0\r\nA: " + std::string(100'000, 'a')) == "'' error: too large trailers");
}

TEST_CASE("a body that is cut off is no body") {
  for (const char* input : {"", "5", "5\r\n", "5\r\nhel", "5\r\nhello", "5\r\nhello\r\n",
                            "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\n\r"}) {
    CAPTURE(input);
    BodyReader reader(chunked);
    Bytes bytes = as_bytes(input);
    while (!bytes.empty()) CHECK(reader.read(bytes).error == nullptr);
    CHECK_FALSE(reader.end_of_stream());
    CHECK_FALSE(reader.ended());
    CHECK(reader.read(bytes).error == std::string("the body is cut off"));
  }
  BodyReader reader({Kind::length, 5});
  Bytes bytes = as_bytes("hell");
  reader.read(bytes);
  CHECK_FALSE(reader.end_of_stream());
}

TEST_CASE("the end and an error stay") {
  BodyReader ended(chunked);
  Bytes bytes = as_bytes("0\r\n\r\n");
  CHECK(ended.read(bytes).end);
  Bytes more = as_bytes("5\r\nhello\r\n");
  CHECK(ended.read(more).end);
  CHECK(more.size() == 10);
  BodyReader failed(chunked);
  bytes = as_bytes("x\r\n");
  const char* const error = failed.read(bytes).error;
  CHECK(error != nullptr);
  CHECK(failed.read(more).error == error);
  CHECK(more.size() == 10);
  CHECK_FALSE(failed.end_of_stream());
}

std::string sent(const std::vector<std::string>& pieces, const std::vector<Header>& trailers = {}) {
  ChunkPool pool;
  ByteQueue out(pool);
  for (const std::string& piece : pieces) append_chunk(as_bytes(piece), out);
  append_last_chunk(trailers, out);
  return out.to_string();
}

TEST_CASE("a body is sent in chunks (RFC 9112 7.1)") {
  CHECK(sent({}) == "0\r\n\r\n");
  CHECK(sent({"hello", "", std::string(26, 'x')}) ==
        "5\r\nhello\r\n1a\r\n" + std::string(26, 'x') + "\r\n0\r\n\r\n");
  // What was sent is what is read.
  const std::string large(70'000, 'y');
  CHECK(read(chunked, sent({large, "z"}, {{"Digest", "abc"}})) ==
        "'" + large + "z' end Digest=abc");
}

TEST_CASE("trailers that may not be there are left out (RFC 9110 6.5.1)") {
  CHECK(sent({}, {{"Server-Timing", "db;dur=5"}, {"grpc-status", "0"}}) ==
        "0\r\nServer-Timing: db;dur=5\r\ngrpc-status: 0\r\n\r\n");
  for (const Header& field : std::vector<Header>{
           {"Content-Length", "5"},
           {"transfer-encoding", "chunked"},
           {"Host", "a"},
           {"Connection", "close"},
           {"Authorization", "x"},
           {"Cookie", "x"},
           {"Set-Cookie", "x"},
           {"Content-Type", "text/html"},
           {"Content-Encoding", "gzip"},
           {"Trailer", "x"},
           {"Expect", "100-continue"},
           {"If-Match", "x"},
           {"X-Forwarded-For", "192.0.2.1"},
           {"X-FORWARDED-PREFIX", "x"},
           {"Forwarded", "for=x"},
           {"X_Forwarded_For", "192.0.2.1"},
           {"Sec-WebSocket-Key", "x"},
           {"A", "b\r\nC: d"},
           {"A\r\nB", "c"},
           {"A", "\0"s},
           {"", "x"},
           {"A B", "c"},
       }) {
    CAPTURE(field.name);
    CHECK(sent({}, {{"Before", "1"}, field, {"After", "2"}}) ==
          "0\r\nBefore: 1\r\nAfter: 2\r\n\r\n");
  }
}

}  // namespace
}  // namespace sluice::http
