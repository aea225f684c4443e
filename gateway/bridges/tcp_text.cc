#include "bridges/tcp_text.h"

#include <algorithm>

namespace sluice::bridges {
namespace {

bool continues_character(std::uint8_t byte) {
  return (byte & 0xC0) == 0x80;
}

}  // namespace

std::optional<TcpText::Cut> TcpText::cut(Bytes bytes) {
  if (!validator_.feed(bytes)) return std::nullopt;
  std::size_t tail = 0;
  if (!validator_.complete()) {
    // Back to the lead byte of the last character. If it is not among these bytes, they are all
    // part of the one that is held back.
    while (tail < bytes.size() && continues_character(bytes[bytes.size() - 1 - tail])) ++tail;
    if (tail == bytes.size()) {
      std::copy(bytes.begin(), bytes.end(), held_.begin() + held_count_);
      held_count_ += bytes.size();
      return Cut{};
    }
    ++tail;
  }
  begin_ = held_;
  const Cut cut{.begin = Bytes(begin_).first(held_count_),
                .rest = bytes.first(bytes.size() - tail)};
  std::copy_n(bytes.end() - static_cast<std::ptrdiff_t>(tail), tail, held_.begin());
  held_count_ = tail;
  return cut;
}

}  // namespace sluice::bridges
