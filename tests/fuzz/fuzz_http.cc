// Request heads: any bytes, cut in any way.
//
// What must hold: the outcome does not depend on the cuts; a request that is accepted has no
// control characters anywhere and its path is a fixed point of normalisation; and what the parser
// let in, a response may carry out again.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/field.h"
#include "base/percent.h"
#include "http/origin.h"
#include "http/request_parser.h"
#include "http/response.h"
#include "http/target.h"
#include "http/upgrade.h"

namespace {

using namespace sluice;
using http::RequestParser;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

struct FuzzOutcome {
  RequestParser::Status status = RequestParser::Status::need_more;
  std::size_t consumed = 0;
  std::string text;  // everything that was read, or why not
};

std::string describe_request(const http::Request& request) {
  std::string text = request.method + "\n" + request.target + "\n" + request.path + "\n" +
                     request.query + "\n" + request.authority + "\n" + request.host;
  for (const http::Header& field : request.headers) text += "\n" + field.name + ":" + field.value;
  return text + (request.keep_alive ? "\nkeep" : "\nclose") + (request.has_body ? " body" : "");
}

FuzzOutcome run(RequestParser& parser, Bytes input, std::size_t piece_max) {
  FuzzOutcome outcome;
  while (outcome.consumed < input.size() && outcome.status == RequestParser::Status::need_more) {
    const std::size_t left = input.size() - outcome.consumed;
    const std::size_t chosen = 1 + input[outcome.consumed] % piece_max;
    std::size_t consumed = 0;
    outcome.status =
        parser.feed(input.subspan(outcome.consumed, chosen < left ? chosen : left), consumed);
    outcome.consumed += consumed;
  }
  if (outcome.status == RequestParser::Status::error) {
    outcome.consumed = 0;
    outcome.text = std::to_string(parser.error().status) + parser.error().message;
  } else if (outcome.status == RequestParser::Status::complete) {
    outcome.text = describe_request(parser.request());
  }
  return outcome;
}

void check_request(const http::Request& request) {
  for (const std::string& part : {request.method, request.target, request.path, request.query,
                                  request.authority, request.host}) {
    require(is_field_value(part) && part.find('\t') == std::string::npos, "no control characters");
  }
  require(request.path == "*" || http::normalise_path(request.path) == request.path,
          "the path is a fixed point");
  require(percent_decode(request.path).find("/../") == std::string::npos, "no dot segments");
  http::Response response;
  response.headers = request.headers;
  require(http::serialise(response, {}).has_value(), "every field can be sent");
  if (const auto upgrade = http::validate_upgrade(request)) {
    require(request.method == "GET" && !request.has_body, "a handshake is a GET without body");
    require(upgrade->offered_protocols.size() <= 32, "few subprotocols");
  }
  http::origin_allowed(request.header("origin").value_or(""), "http", request.authority,
                       {"https://good.com"}, false);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes input(data, size);
  RequestParser parser({20, 2048, 512});
  const FuzzOutcome single = run(parser, input, 1);
  if (single.status == RequestParser::Status::complete) check_request(parser.request());
  for (const std::size_t piece_max : {std::size_t{7}, std::size_t{255}}) {
    parser.reset();
    const FuzzOutcome pieces = run(parser, input, piece_max);
    require(pieces.status == single.status, "one status, however the bytes are cut");
    require(pieces.consumed == single.consumed, "one end of the head, however the bytes are cut");
    require(pieces.text == single.text, "one request, however the bytes are cut");
  }
  if (const auto path = http::normalise_path(as_text(input))) {
    require(http::normalise_path(*path) == *path, "a normalised path is a fixed point");
  }
  return 0;
}
