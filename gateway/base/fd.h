// Fd: owns a file descriptor.
#pragma once

#include <unistd.h>

#include <utility>

namespace sluice {

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;

  int get() const { return fd_; }
  // Gives it to somebody else to close.
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

}  // namespace sluice
