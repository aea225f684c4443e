// Files of the repository that tests read, or compare with. With SLUICE_REGENERATE=1 in the
// environment the tests write those of the second kind; look at the difference before you commit
// it.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

namespace sluice::test {

// From a path in the repository.
inline std::string source_path(const std::string& path) {
  return std::string(SLUICE_SOURCE_DIR) + "/" + path;
}

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE_MESSAGE(file.good(), "cannot read ", path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline bool regenerating() {
  return std::getenv("SLUICE_REGENERATE") != nullptr;
}

inline void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace sluice::test
