#include "batch.h"

#include <algorithm>
#include <array>
#include <string>

#include "deflate.h"
#include "frames.h"

namespace load {
namespace {

std::string random_text(std::size_t size) {
  std::string text(size, ' ');
  for (char& letter : text) letter = static_cast<char>('a' + random_bits() % 26);
  return text;
}

// Records as services send them: the same keys, a few names, and numbers that differ.
std::string random_json(std::size_t size) {
  constexpr std::array names = {"alice", "bob", "carol", "dave"};
  std::string text = "[";
  while (text.size() < size) {
    text += "{\"id\":" + std::to_string(random_bits() % 100000) + ",\"user\":\"" +
            names[random_bits() % names.size()] +
            "\",\"status\":\"delivered\",\"total\":" + std::to_string(random_bits() % 1000) +
            ".50,\"currency\":\"EUR\"},";
  }
  text.resize(size);
  return text;
}

void append_message(const Options& options, Batch& batch) {
  const std::string payload =
      options.deflate ? random_json(options.size) : random_text(options.size);
  if (options.deflate) {
    const std::string compressed = deflated(payload, client_window_bits(options));
    append_header(batch.request, compressed_text_frame, compressed.size(), true);
    append_masked(batch.request, compressed);
  } else if (options.raw) {
    batch.request.insert(batch.request.end(), payload.begin(), payload.end());
  } else {
    const std::uint8_t frame = options.stream ? binary_frame : text_frame;
    append_header(batch.request, frame, payload.size(), true);
    append_masked(batch.request, payload);
    if (!options.stream) append_header(batch.response, frame, payload.size(), false);
  }
  batch.response.insert(batch.response.end(), payload.begin(), payload.end());
}

}  // namespace

std::vector<Batch> make_batches(const Options& options) {
  // One that comes again while the other side's window (RFC 7692 7.1.2) still has it, compresses to
  // nothing; no window is larger than 32 KiB.
  constexpr std::size_t bytes_min = 2 * 32 * 1024;
  const std::size_t bytes = options.size * options.pipeline;
  std::vector<Batch> batches(options.deflate ? std::max<std::size_t>(16, bytes_min / bytes) : 16);
  for (Batch& batch : batches) {
    for (std::size_t i = 0; i < options.pipeline; ++i) append_message(options, batch);
  }
  return batches;
}

}  // namespace load
