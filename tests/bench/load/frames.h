// Bytes on the wire: WebSocket frames (RFC 6455 5.2) and the request for an upgrade.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

#include "base.h"
#include "options.h"

namespace load {

extern std::mt19937 random_bits;  // the same in every run

constexpr std::uint8_t text_frame = 0x81;
constexpr std::uint8_t compressed_text_frame = 0xC1;
constexpr std::uint8_t binary_frame = 0x82;
constexpr std::uint8_t ping_frame = 0x89;
constexpr std::uint8_t pong_frame = 0x8A;

void append_header(Buffer& out, std::uint8_t first, std::size_t size, bool masked);
// With a key of its own in front (RFC 6455 5.3).
void append_masked(Buffer& out, std::string_view payload);

// A Close frame with code 1000, masked with zeros; and the server's.
constexpr std::array<std::uint8_t, 8> close_request = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8};
constexpr std::array<std::uint8_t, 4> close_response = {0x88, 0x02, 0x03, 0xE8};

std::string make_upgrade(const Options& options);
// Empty if the head is the 101 that was asked for; otherwise its first line, or all of another 101.
std::string refused_upgrade(const Options& options, const std::string& head);

// Takes the headers out of what a server sends.
class Unframer {
 public:
  struct Piece {
    std::uint8_t* bytes;
    std::size_t size;
    bool frame_end;
  };

  // The next piece of a payload, from the front of `bytes`; without bytes if there is none yet.
  Piece next(std::uint8_t*& bytes, std::size_t& size) {
    while (left_ == 0 && size > 0) {
      header_[header_size_++] = *bytes++;
      --size;
      if (header_size_ >= 2 && header_size_ == wanted()) begin_payload();
    }
    const Piece piece{bytes, std::min<std::uint64_t>(left_, size), left_ != 0 && left_ <= size};
    bytes += piece.size;
    size -= piece.size;
    left_ -= piece.size;
    return piece;
  }

  bool between_frames() const { return header_size_ == 0 && left_ == 0; }
  // Of the frame whose payload came last: FIN, RSV1 and so on, and the opcode.
  std::uint8_t first_byte() const { return header_[0]; }

 private:
  std::size_t wanted() const { return header_[1] < 126 ? 2 : header_[1] == 126 ? 4 : 10; }
  void begin_payload() {
    left_ = header_size_ == 2 ? header_[1] : 0;
    for (std::size_t i = 2; i < header_size_; ++i) left_ = left_ << 8 | header_[i];
    header_size_ = 0;
  }

  std::array<std::uint8_t, 10> header_{};
  std::size_t header_size_ = 0;
  std::uint64_t left_ = 0;
};

}  // namespace load
