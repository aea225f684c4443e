#include "net/tcp_info.h"

// The kernel's own header: the C library's struct tcp_info lacks the fields, and the two headers
// do not go together in one file.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace sluice::net {
namespace {

// The C library's header names it, which does not go together with the kernel's.
constexpr unsigned tcp_established = 1;

}  // namespace

SendProgress send_progress(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return {};
  return {.acknowledged_bytes = info.tcpi_bytes_acked,
          .outstanding = info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0,
          .peer_ended = info.tcpi_state != tcp_established};
}

}  // namespace sluice::net
