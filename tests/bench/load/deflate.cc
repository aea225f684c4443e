#include "deflate.h"

#include <cstdlib>
#include <string_view>

namespace load {

int client_window_bits(const Options& options) {
  constexpr std::string_view name = "client_max_window_bits=";
  const std::size_t found = options.agreed.find(name);
  return found == std::string::npos ? 15 : std::atoi(&options.agreed[found + name.size()]);
}

std::string deflated(const std::string& text, int window_bits) {
  z_stream stream{};
  if (deflateInit2(&stream, 6, Z_DEFLATED, -window_bits, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    die("deflateInit2");
  }
  std::string out(deflateBound(&stream, text.size()) + 16, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  if (deflate(&stream, Z_SYNC_FLUSH) != Z_OK) die("deflate");
  out.resize(stream.total_out - 4);  // without the tail 00 00 FF FF
  deflateEnd(&stream);
  return out;
}

Inflation::Inflation() {
  if (inflateInit2(&stream_, -15) != Z_OK) die("inflateInit2");
}

void Inflation::append(const Unframer::Piece& piece, Buffer& out) {
  std::uint8_t tail[] = {0x00, 0x00, 0xFF, 0xFF};  // RFC 7692 7.2.2
  inflate_all(piece.bytes, piece.size, out);
  if (piece.frame_end) inflate_all(tail, sizeof tail, out);
}

void Inflation::inflate_all(std::uint8_t* bytes, std::size_t size, Buffer& out) {
  std::uint8_t room[4096];
  stream_.next_in = bytes;
  stream_.avail_in = static_cast<uInt>(size);
  do {
    stream_.next_out = room;
    stream_.avail_out = sizeof room;
    const int status = inflate(&stream_, Z_SYNC_FLUSH);
    if (status != Z_OK && status != Z_BUF_ERROR) die("a message does not inflate");
    out.insert(out.end(), room, stream_.next_out);
  } while (stream_.avail_out == 0);
}

}  // namespace load
