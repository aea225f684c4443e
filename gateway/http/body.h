// The bodies of messages: found in what is received, and framed for what is sent (RFC 9112 6 and
// 7). Without I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/byte_queue.h"
#include "base/bytes.h"
#include "http/request.h"
#include "http/response_head.h"

namespace sluice::http {

// What a request says about its body. The head has been checked: RequestParser lets no two opinions
// pass.
BodyFraming request_framing(const Request& request);

// Takes a body apart. Strict: chunk sizes are hexadecimal digits, at most 16; lines end with CRLF;
// chunk extensions are skipped, and bounded, as trailers are.
class BodyReader {
 public:
  explicit BodyReader(BodyFraming framing) : framing_(framing), left_(framing.length) {}

  struct Step {
    Bytes payload;     // a piece of the body; may be empty
    bool end = false;  // the body is complete: trailers() are valid, what follows is not its
    const char* error = nullptr;  // malformed: the connection cannot be used any more
  };
  // Takes bytes from the front of `input` up to one piece. Call it again while `input` has bytes
  // and neither end nor error came. A body without bytes ends with a call on an empty input.
  Step read(Bytes& input);
  // The connection has ended: whether that is the body's end (until_close), or the body is cut off.
  bool end_of_stream();

  bool ended() const { return state_ == State::ended; }
  const std::vector<Header>& trailers() const { return trailers_; }

 private:
  enum class State : std::uint8_t {
    start,
    size,
    extension,
    size_lf,
    data,
    data_cr,
    data_lf,
    trailer,
    ended,
    failed
  };

  BodyFraming framing_;
  State state_ = State::start;
  std::uint64_t left_;
  std::uint32_t line_bytes_ = 0;
  std::string line_;  // of the trailers
  std::vector<Header> trailers_;
};

// Frames a body that is sent.
void append_chunk(Bytes piece, ByteQueue& out);  // nothing for an empty piece
// The last chunk. Trailers that may not be there (RFC 9110 6.5.1) or could break a line are left
// out.
void append_last_chunk(const std::vector<Header>& trailers, ByteQueue& out);

}  // namespace sluice::http
