#include "net/send_watch.h"

#include <algorithm>
#include <utility>

#include "net/tcp_info.h"

namespace sluice::net {
namespace {

// Looks within the timeout: a peer is given up late by no more than two of them.
constexpr std::uint64_t looks = 4;

}  // namespace

SendWatch::SendWatch(TimerWheel& wheel, int fd, std::uint64_t timeout_ms,
                     std::function<void()> on_unanswered)
    : wheel_(wheel), on_unanswered_(std::move(on_unanswered)), timeout_ms_(timeout_ms), fd_(fd) {}

void SendWatch::begin() {
  answered_ms_ = wheel_.now_ms();
  look_later();
}

void SendWatch::look_later() {
  wheel_.set(*this, wheel_.now_ms() + std::max(timeout_ms_ / looks, TimerWheel::tick_ms));
}

void SendWatch::on_deadline() {
  const SendProgress progress = send_progress(fd_);
  if (!progress.outstanding) return;  // until the next write
  const std::uint64_t now_ms = wheel_.now_ms();
  if (!progress.unanswered || progress.acknowledged_bytes != acknowledged_bytes_) {
    acknowledged_bytes_ = progress.acknowledged_bytes;
    answered_ms_ = now_ms;
  }
  if (now_ms - answered_ms_ >= timeout_ms_) return on_unanswered_();
  look_later();
}

}  // namespace sluice::net
