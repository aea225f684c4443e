// An upstream's response, head and body: any bytes, cut in any way.
//
// What must hold: the outcome does not depend on the cuts; what of a head is passed on can be sent,
// and is read again as the same; a body that was read and is sent in chunks is read again as the
// same.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/field.h"
#include "http/body.h"
#include "http/forward.h"
#include "http/response.h"
#include "http/response_parser.h"

namespace {

using namespace sluice;
using http::BodyFraming;
using http::BodyReader;
using http::ResponseParser;

constexpr http::ResponseLimits limits{20, 2048};

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

// One response, its body included, as its pieces come.
struct Reading {
  explicit Reading(std::string_view method) { parser.expect(method); }

  void receive(Bytes piece) {
    while (!piece.empty() && !over()) {
      if (status != ResponseParser::Status::complete) {
        std::size_t consumed = 0;
        status = parser.feed(piece, consumed);
        piece = piece.subspan(consumed);
        if (status == ResponseParser::Status::complete) {
          reader = BodyReader(parser.head().framing);
        }
      } else {
        step = reader.read(piece);
        body += as_text(step.payload);
      }
    }
    rest += as_text(piece);
  }
  bool over() const {
    return status == ResponseParser::Status::error || step.end || step.error != nullptr;
  }
  std::string describe() {
    if (status == ResponseParser::Status::error) return "error " + parser.error();
    if (status == ResponseParser::Status::need_more) return "more";
    const http::ResponseHead& head = parser.head();
    std::string text = std::to_string(head.status) + " " + head.reason_phrase;
    for (const http::Header& field : head.headers) text += "\n" + field.name + ":" + field.value;
    text += head.keep_alive ? "\nkeep" : "\nclose";
    text += std::to_string(static_cast<int>(head.framing.kind)) + " " +
            std::to_string(head.framing.length) + "\n" + body;
    for (const http::Header& field : reader.trailers()) text += "\n" + field.name + field.value;
    if (step.error != nullptr) return text + "\nerror " + step.error;
    return text + (step.end ? "\nend\n" + rest : "\nmore");
  }

  ResponseParser parser{limits};
  ResponseParser::Status status = ResponseParser::Status::need_more;
  BodyReader reader{BodyFraming()};
  BodyReader::Step step;
  std::string body;
  std::string rest;
};

void run(Reading& reading, Bytes input, std::size_t piece_max) {
  while (!input.empty()) {
    const std::size_t chosen = 1 + input.front() % piece_max;
    const std::size_t size = chosen < input.size() ? chosen : input.size();
    reading.receive(input.first(size));
    input = input.subspan(size);
  }
}

void check_head(const http::ResponseHead& head, std::string_view method) {
  require(head.status >= 100 && head.status <= 599, "a status of three digits");
  require(head.headers.size() <= limits.headers_max, "few fields");
  const bool none = head.framing.kind == BodyFraming::Kind::none;
  require(
      none == (method == "HEAD" || head.status < 200 || head.status == 204 || head.status == 304),
      "a body where one belongs, and nowhere else");
  require(head.framing.kind != BodyFraming::Kind::until_close || !head.keep_alive,
          "the end of the connection is the end of the body");
  http::Response response;
  response.status = head.status;
  response.reason_phrase = head.reason_phrase;
  response.headers = http::response_headers(head);
  response.chunked = true;
  const auto sent = http::serialise(response, {.head = method == "HEAD"});
  require(sent.has_value(), "every head can be passed on");
  ResponseParser again({limits.headers_max + 2, 2 * limits.head_bytes_max});
  again.expect(method);
  std::size_t consumed = 0;
  require(again.feed(as_bytes(*sent), consumed) == ResponseParser::Status::complete &&
              consumed == sent->size(),
          "what is passed on is one head");
  require(again.head().status == head.status, "the same status");
  require(none || again.head().framing.kind == BodyFraming::Kind::chunked, "framed as we said");
}

void check_body(const std::string& body) {
  ChunkPool pool;
  ByteQueue queue(pool);
  const std::size_t half = body.size() / 2;
  http::append_chunk(as_bytes(body).first(half), queue);
  http::append_chunk(as_bytes(body).subspan(half), queue);
  http::append_last_chunk({}, queue);
  const std::string sent = queue.to_string();
  BodyReader reader({BodyFraming::Kind::chunked, 0});
  std::string read;
  Bytes bytes = as_bytes(sent);
  while (!bytes.empty()) {
    const BodyReader::Step step = reader.read(bytes);
    require(step.error == nullptr, "what we send can be read");
    read += as_text(step.payload);
  }
  require(reader.ended() && read == body, "the body is the same");
}

void check(std::string_view method, Bytes input) {
  Reading single(method);
  run(single, input, 1);
  const std::string outcome = single.describe();
  if (single.status == ResponseParser::Status::complete) {
    check_head(single.parser.head(), method);
    check_body(single.body);
  }
  for (const std::size_t piece_max : {std::size_t{7}, std::size_t{255}}) {
    Reading pieces(method);
    run(pieces, input, piece_max);
    require(pieces.describe() == outcome, "one response, however the bytes are cut");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const std::string_view method : {"GET", "HEAD"}) check(method, Bytes(data, size));
  return 0;
}
