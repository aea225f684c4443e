// What the kernel knows of how far a TCP peer has come with the bytes sent to it.
#pragma once

#include <cstdint>

namespace sluice::net {

struct SendProgress {
  std::uint64_t acknowledged_bytes = 0;  // by the peer's kernel, since the connection began
  bool outstanding = false;              // some of what the kernel took is not acknowledged yet
  // And the peer's kernel does not answer: not what was sent again, or not when it was asked twice
  // whether its window is open. A peer that merely does not read has a kernel that answers.
  bool unanswered = false;
};

// A system call. All zero for what is no TCP socket.
SendProgress send_progress(int fd);

}  // namespace sluice::net
