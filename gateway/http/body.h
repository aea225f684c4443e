// The bodies of messages: found in what is received, and framed for what is sent (RFC 9112 6 and
// 7). Without I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_queue.h"
#include "base/bytes.h"
#include "http/line_reader.h"
#include "http/request.h"
#include "http/response_head.h"

namespace sluice::http {

// Bounds of what surrounds the data of a chunked body.
inline constexpr std::size_t chunk_line_bytes_max = 4 * 1024;  // the size and its extensions
inline constexpr std::size_t trailer_bytes_max = 16 * 1024;    // line ends included
inline constexpr std::size_t trailers_max = 64;

// What a request says about its body. The head has been checked: RequestParser lets no two opinions
// pass. `Content-Length: 0` is a length, which is passed on; without a length there is none.
BodyFraming request_framing(const Request& request);

// Takes a body apart. Strict: chunk sizes are hexadecimal digits, at most 16; lines end with CRLF;
// chunk extensions are checked, skipped, and bounded, as trailers are. The outcome does not depend
// on how the bytes were cut.
class BodyReader {
 public:
  explicit BodyReader(BodyFraming framing);

  struct Step {
    Bytes payload = {};           // a piece of the body; may be empty
    bool end = false;             // the body is complete: trailers() are valid, what follows is
                                  // not its. Stays, and nothing more is taken.
    const char* error = nullptr;  // malformed: the connection cannot be used any more. Stays too.
  };
  // Takes bytes from the front of `input` up to one piece. Call it again while `input` has bytes
  // and neither end nor error came. A body without bytes ends with a call on an empty input.
  Step read(Bytes& input);
  // The connection has ended: whether that is the body's end (until_close), or the body is cut off.
  bool end_of_stream();

  bool ended() const { return state_ == State::ended; }
  const std::vector<Header>& trailers() const { return trailers_; }

 private:
  // What is expected next.
  enum class State : std::uint8_t {
    data,  // `left_` bytes, or all there are
    size,  // the line of a chunk
    data_end,
    trailer,
    ended,
    failed
  };

  Step read_data(Bytes& input);
  // Reads on until the line is complete or the input empty.
  void read_line(Bytes& input);
  std::size_t line_bytes_max() const;
  void take_line(std::string_view line);
  void take_size(std::string_view line);
  void take_trailer(std::string_view line);
  void fail(const char* what);

  BodyFraming framing_;
  State state_ = State::data;
  std::uint64_t left_ = 0;  // of the body's, or the chunk's, data
  std::size_t trailer_bytes_ = 0;
  const char* error_ = nullptr;
  LineReader lines_;
  std::vector<Header> trailers_;
};

// Frames a body that is sent.
void append_chunk(Bytes piece, ByteQueue& out);  // nothing for an empty piece
// The last chunk. Trailers that may not be there (RFC 9110 6.5.1) or could break a line are left
// out; so are those that say where a request came from (forward.h), since some servers merge
// trailers into the head's fields.
void append_last_chunk(const std::vector<Header>& trailers, ByteQueue& out);

}  // namespace sluice::http
