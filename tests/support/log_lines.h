// What the log says while this lives.
#pragma once

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>

#include "base/log.h"

namespace sluice::test {

// Takes standard output for itself: what fails meanwhile is told to nobody.
class LogLines {
 public:
  LogLines() : file_(::memfd_create("log", MFD_CLOEXEC)) {
    std::fflush(stdout);
    REQUIRE(::dup2(file_, STDOUT_FILENO) >= 0);
    log::open(log::Level::info, log::Format::text);
  }
  ~LogLines() {
    stop();
    ::close(file_);
  }
  LogLines(const LogLines&) = delete;
  LogLines& operator=(const LogLines&) = delete;

  // The lines up to now, and no more of them.
  std::string stop() {
    if (standard_output_ >= 0) {
      std::fflush(stdout);
      ::dup2(standard_output_, STDOUT_FILENO);
      ::close(std::exchange(standard_output_, -1));
      log::open(log::Level::error, log::Format::text);
    }
    std::string text(static_cast<std::size_t>(::lseek(file_, 0, SEEK_END)), '\0');
    text.resize(static_cast<std::size_t>(::pread(file_, text.data(), text.size(), 0)));
    return text;
  }

 private:
  int standard_output_ = ::dup(STDOUT_FILENO);
  int file_;
};

inline int count_of(const std::string& text, const std::string& words) {
  int count = 0;
  for (std::size_t at = 0; (at = text.find(words, at)) != std::string::npos; ++at) ++count;
  return count;
}

}  // namespace sluice::test
