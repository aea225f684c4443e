// TcpText: what an upstream of text sends, cut between characters and never inside of one, so that
// every cut is a text message of its own (RFC 6455 5.6). Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/utf8.h"

namespace sluice::bridges {

class TcpText {
 public:
  // What may be sent now, `begin` before `rest`. Valid until the next call.
  struct Cut {
    Bytes begin;  // of a character that the bytes before had left incomplete
    Bytes rest;
    std::size_t size() const { return begin.size() + rest.size(); }
  };

  // Holds an incomplete last character back, at most three bytes. Nothing if the text is not valid
  // UTF-8; then it is not to be called again.
  std::optional<Cut> cut(Bytes bytes);
  // Whether the text may end here: nothing is held back.
  bool complete() const { return held_count_ == 0; }

 private:
  Utf8Validator validator_;
  std::array<std::uint8_t, 3> held_{};
  std::array<std::uint8_t, 3> begin_{};
  std::size_t held_count_ = 0;
};

}  // namespace sluice::bridges
