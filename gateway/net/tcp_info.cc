#include "net/tcp_info.h"

// The kernel's own header: the C library's struct tcp_info lacks the fields, and the two headers
// do not go together in one file.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace sluice::net {
namespace {

// The kernel's own words for it: an acknowledgement of anything new puts tcpi_retransmits back to
// 0, and any at all does so with tcpi_probes. One probe proves nothing: it may have been sent this
// moment, and kernels answer no more than two a second.
bool is_unanswered(const tcp_info& info) {
  if (info.tcpi_probes >= 2) return true;
  if (info.tcpi_retransmits == 0) return false;
  // A peer that ran out of room for what its window had promised says so each time it is asked.
  const bool answered = info.tcpi_last_ack_recv <= info.tcpi_last_data_sent;
  return info.tcpi_snd_wnd > 0 || !answered;
}

}  // namespace

SendProgress send_progress(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return {};
  return {.acknowledged_bytes = info.tcpi_bytes_acked,
          .outstanding = info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0,
          .unanswered = is_unanswered(info)};
}

}  // namespace sluice::net
