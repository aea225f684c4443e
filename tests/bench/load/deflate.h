// permessage-deflate (RFC 7692).
#pragma once

#include <zlib.h>

#include <string>

#include "base.h"
#include "frames.h"
#include "options.h"

namespace load {

// The payload of a compressed message, without context (RFC 7692 7.2.1).
std::string deflated(const std::string& text, int window_bits);
// Those of the client that were agreed to (RFC 7692 7.1.2.2).
int client_window_bits(const Options& options);

// Inflates what a server sends, with or without context takeover. A message is one frame.
class Inflation {
 public:
  Inflation();
  ~Inflation() { inflateEnd(&stream_); }
  Inflation(const Inflation&) = delete;
  Inflation& operator=(const Inflation&) = delete;

  void append(const Unframer::Piece& piece, Buffer& out);

 private:
  void inflate_all(std::uint8_t* bytes, std::size_t size, Buffer& out);

  z_stream stream_{};
};

}  // namespace load
