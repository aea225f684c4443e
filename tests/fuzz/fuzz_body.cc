// The body of a message: the first byte says how it is framed, the others are it, cut in any way.
//
// What must hold: the outcome does not depend on the cuts; no byte is made up, and none is lost
// from a body that is only counted; trailers are bounded and can be sent on; the end of the
// connection is the end of the body only where nothing else is.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "http/body.h"

namespace {

using namespace sluice;
using http::BodyFraming;
using http::BodyReader;
using Kind = BodyFraming::Kind;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

BodyFraming choose_framing(std::uint8_t choice) {
  constexpr Kind kinds[] = {Kind::chunked, Kind::length, Kind::until_close, Kind::none};
  const Kind kind = kinds[choice % 4];
  return {kind, kind == Kind::length ? choice / 4U : 0U};
}

struct Outcome {
  std::string body;
  std::string rest;  // what is not the body's
  std::string error;
  bool ended = false;
  bool complete_at_close = false;
  std::vector<http::Header> trailers;
};

// Consumes pieces of at most `piece_max` bytes, whose sizes the input itself chooses.
Outcome read(BodyFraming framing, Bytes input, std::size_t piece_max) {
  Outcome outcome;
  BodyReader reader(framing);
  BodyReader::Step step;
  while (!input.empty()) {
    const std::size_t chosen = 1 + input.front() % piece_max;
    Bytes piece = input.first(chosen < input.size() ? chosen : input.size());
    input = input.subspan(piece.size());
    while (!piece.empty() && !step.end && step.error == nullptr) {
      const std::size_t before = piece.size();
      step = reader.read(piece);
      require(piece.size() < before || step.end, "every call takes something");
      outcome.body += as_text(step.payload);
    }
    outcome.rest += as_text(piece);
  }
  if (step.error != nullptr) {
    outcome.error = step.error;
    outcome.rest.clear();
  }
  outcome.ended = reader.ended();
  require(outcome.ended == step.end, "the end is told");
  outcome.trailers = reader.trailers();
  outcome.complete_at_close = reader.end_of_stream();
  return outcome;
}

std::string describe(const Outcome& outcome) {
  std::string text = outcome.body + "|" + outcome.rest + "|" + outcome.error;
  for (const http::Header& field : outcome.trailers) text += "|" + field.name + ":" + field.value;
  return text + (outcome.ended ? "|end" : "|more") + (outcome.complete_at_close ? "!" : "?");
}

void check_trailers(const std::vector<http::Header>& trailers) {
  std::size_t size = 0;
  for (const http::Header& field : trailers) size += field.name.size() + field.value.size();
  require(trailers.size() <= http::trailers_max && size <= http::trailer_bytes_max,
          "trailers are bounded");
  ChunkPool pool;
  ByteQueue queue(pool);
  http::append_last_chunk(trailers, queue);
  const std::string sent = queue.to_string();
  BodyReader reader({Kind::chunked, 0});
  Bytes bytes = as_bytes(sent);
  require(reader.read(bytes).end && bytes.empty(), "trailers can be sent on");
}

void check(BodyFraming framing, Bytes input, const Outcome& outcome) {
  if (framing.kind == Kind::chunked) {
    require(outcome.body.size() <= input.size(), "no byte is made up");
    require(outcome.complete_at_close == outcome.ended, "only the last chunk ends a chunked body");
    return check_trailers(outcome.trailers);
  }
  require(outcome.error.empty(), "there is nothing to get wrong");
  require(outcome.body + outcome.rest == as_text(input), "no byte is lost");
  const bool all = framing.kind == Kind::until_close ? outcome.rest.empty()
                                                     : outcome.body.size() == framing.length;
  require(outcome.complete_at_close == all, "complete is what has its length");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const BodyFraming framing = choose_framing(data[0]);
  const Bytes input = Bytes(data, size).subspan(1);
  const Outcome single = read(framing, input, 1);
  check(framing, input, single);
  for (const std::size_t piece_max : {std::size_t{7}, std::size_t{255}}) {
    require(describe(read(framing, input, piece_max)) == describe(single),
            "one body, however the bytes are cut");
  }
  return 0;
}
