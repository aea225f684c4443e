// Replays the corpus of the fuzz target: whatever it once found stays found.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "fuzz/ws_stream.h"

using namespace sluice;

TEST_CASE("no input of the fuzz corpus breaks an invariant (RFC 6455 5)") {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(SLUICE_SOURCE_DIR "/tests/fuzz/corpus/ws")) {
    INFO(entry.path().string());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    CHECK(ws::test::broken_invariant(as_bytes(bytes)) == "");
    ++count;
  }
  CHECK(count >= 20);
}
