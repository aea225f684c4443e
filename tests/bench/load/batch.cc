#include "batch.h"

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
    const std::string compressed = deflated(payload);
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
  std::vector<Batch> batches(16);
  for (Batch& batch : batches) {
    for (std::size_t i = 0; i < options.pipeline; ++i) append_message(options, batch);
  }
  return batches;
}

}  // namespace load
