// Feeding request heads to the parser, cut into pieces in different ways.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "http/request_parser.h"

namespace sluice::http {

inline constexpr ParserLimits test_limits{100, 32 * 1024, 8 * 1024};

struct Outcome {
  RequestParser::Status status = RequestParser::Status::need_more;
  std::size_t consumed = 0;  // of a complete head
  Request request;
  RequestError error{0, ""};
};

inline std::string describe(const Outcome& outcome) {
  std::string text = std::to_string(static_cast<int>(outcome.status)) + " " +
                     std::to_string(outcome.consumed) + " " + std::to_string(outcome.error.status) +
                     " " + outcome.error.message;
  const Request& request = outcome.request;
  for (const std::string& part : {request.method, request.target, request.path, request.query,
                                  request.host, request.authority}) {
    text += "|" + part;
  }
  text += request.keep_alive ? "|keep" : "|close";
  text += request.has_body ? "|body" : "|empty";
  for (const Header& field : request.headers) text += "|" + field.name + "=" + field.value;
  return text;
}

// `next_size` says how long the next piece is; at least 1.
template <typename NextSize>
Outcome feed(RequestParser& parser, std::string_view input, NextSize next_size) {
  Outcome outcome;
  std::size_t at = 0;
  while (at < input.size() && outcome.status == RequestParser::Status::need_more) {
    const std::size_t size = std::min<std::size_t>(next_size(), input.size() - at);
    std::size_t consumed = 0;
    outcome.status = parser.feed(as_bytes(input.substr(at, size)), consumed);
    if (outcome.status == RequestParser::Status::need_more) REQUIRE(consumed == size);
    at += consumed;
  }
  if (outcome.status == RequestParser::Status::complete) {
    outcome.request = parser.request();
    outcome.consumed = at;
  } else if (outcome.status == RequestParser::Status::error) {
    outcome.error = parser.error();
  }
  return outcome;
}

// Whole, byte by byte and in random pieces: one outcome.
inline Outcome parse(std::string_view input, const ParserLimits& limits = test_limits) {
  RequestParser parser(limits);
  const Outcome whole = feed(parser, input, [] { return SIZE_MAX; });
  parser.reset();
  CHECK(describe(feed(parser, input, [] { return std::size_t{1}; })) == describe(whole));
  std::minstd_rand random(static_cast<unsigned>(input.size()));
  for (int round = 0; round < 10; ++round) {
    parser.reset();
    const Outcome pieces = feed(parser, input, [&] { return std::size_t{1} + random() % 9; });
    CHECK(describe(pieces) == describe(whole));
  }
  return whole;
}

// A GET with these lines after Host.
inline std::string get(std::string_view target, std::string_view lines = "") {
  return "GET " + std::string(target) + " HTTP/1.1\r\nHost: example.com\r\n" + std::string(lines) +
         "\r\n";
}

// The request of a head that must be good.
inline Request request(std::string_view head) {
  const Outcome outcome = parse(head);
  INFO(outcome.error.message);
  REQUIRE(outcome.status == RequestParser::Status::complete);
  return outcome.request;
}

}  // namespace sluice::http
