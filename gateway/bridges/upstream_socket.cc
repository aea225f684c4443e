#include "bridges/upstream_socket.h"

#include <utility>

#include "ws/close_code.h"

namespace sluice::bridges {

using metrics::CloseReason;
using metrics::Initiator;

UpstreamSocketSettings::UpstreamSocketSettings(const config::Route& route,
                                               ws::CompressionPool& pool)
    : session(route) {
  session.protocol.compression.pool = &pool;
  session.streams = true;
  session.protocol.message_bytes_max = 0;
  session.protocol.fragments_max = 0;
  session.limits = {};
  session.limits.message_bytes_max = 0;
  session.limits.fragments_max = 0;
  session.limits.control_frames_per_second = 0;
  session.timeouts.idle_ms = 0;
  session.timeouts.message_ms = 0;
  // An upstream that does not read makes its client wait; keepalive tells whether it is alive.
  session.slow_consumer = config::SlowConsumer::pause;
}

UpstreamSocket::UpstreamSocket(WorkerContext& context, UpstreamSocketSettings& settings,
                               upstreams::Upgraded upgraded, ws::Compression compression,
                               Owner& owner)
    : context_(context),
      settings_(settings),
      session_context_{settings.session, context.wheel, settings.counters},
      owner_(owner),
      endpoint_(upgraded.lease.endpoint()),
      lease_(std::move(upgraded.lease)),
      first_(std::move(upgraded.received)),
      transport_(std::move(upgraded.transport)) {
  transport_->set_owner(static_cast<net::Transport::Owner&>(*this));
  session_ = std::make_unique<Session>(ws::Role::client, session_context_, *transport_,
                                       static_cast<Session::Owner&>(*this), std::move(compression));
  transport_->read(true);
  if (!first_.empty()) wake();
}

UpstreamSocket::~UpstreamSocket() = default;

// ---- What the transport says

void UpstreamSocket::on_receive(MutableBytes bytes) {
  if (phase_ != Phase::open) return;
  receive_first();
  session_->receive(bytes);
}

void UpstreamSocket::receive_first() {
  if (first_.empty()) return;
  std::vector<std::uint8_t> first = std::exchange(first_, {});
  session_->receive(first);
}

void UpstreamSocket::on_end() {
  peer_ended_ = true;
  if (phase_ == Phase::open) {
    receive_first();
    session_->on_peer_end();
  } else if (phase_ == Phase::lingering && transport_->buffered_bytes() == 0) {
    leave();
  }
}

void UpstreamSocket::on_sent() {
  session_->on_sent();
  if (phase_ == Phase::lingering) {
    // As long as the upstream takes what waits for it, it may take its time.
    set_linger_deadline();
    if (peer_ended_ && transport_->buffered_bytes() == 0) leave();
  }
  flush();
  owner_.on_upstream_progress();
}

void UpstreamSocket::on_failure(net::FailureKind kind, const Error& error) {
  session_->on_failure(kind, error);
  leave();
}

// ---- What the owner calls

bool UpstreamSocket::pass_on(const MessagePiece& piece) {
  if (phase_ != Phase::open) return false;
  session_->pass_on(piece);
  return session_->ready_state() == ReadyState::open || session_->in_frame();
}

void UpstreamSocket::pause() {
  if (phase_ == Phase::open) session_->pause(Session::asked);
}

void UpstreamSocket::resume() {
  if (phase_ == Phase::open) session_->resume(Session::asked);
}

void UpstreamSocket::close_with(const Ending& ending) {
  if (phase_ == Phase::open) session_->close_with(ending);
}

void UpstreamSocket::hang_up() {
  if (phase_ != Phase::open || session_->end() != nullptr) return;
  hanging_up_ = true;
  session_->abort(Initiator::client, CloseReason::lost, "the client has gone");
}

void UpstreamSocket::drop() {
  if (phase_ == Phase::gone) return;
  session_->abort(Initiator::gateway, CloseReason::drain, "dropped");
  transport_->reset_on_close();
  leave();
}

std::size_t UpstreamSocket::buffered_amount() const {
  return transport_ == nullptr ? 0 : transport_->buffered_bytes();
}

std::size_t UpstreamSocket::buffered_tls() const {
  return transport_ == nullptr ? 0 : transport_->encrypted_bytes();
}

// ---- Ends

void UpstreamSocket::wake() {
  context_.turn.wake(static_cast<Turn::Entry&>(*this));
}

void UpstreamSocket::on_turn_end() {
  if (phase_ == Phase::open) {
    receive_first();
    session_->turn_end();
  }
  flush();
  if (session_ != nullptr && session_->end() != nullptr && !told_end_) {
    told_end_ = true;
    settle();
    owner_.on_upstream_end(*session_->end());
  }
  if (phase_ == Phase::gone) return close();
  owner_.on_upstream_progress();
}

void UpstreamSocket::flush() {
  if (transport_ == nullptr || phase_ == Phase::gone) return;
  if (!transport_->output().empty() && !transport_->blocked()) transport_->flush();
  session_->on_flushed();
}

// The session has ended; what becomes of its stream.
void UpstreamSocket::settle() {
  if (phase_ == Phase::gone) return;  // it is broken
  const SessionEnd& end = *session_->end();
  const bool close_frame_sent = session_->close_sent() && end.code != ws::abnormal;
  if (!close_frame_sent && !hanging_up_) {
    // Lost, or given up: an upstream that is not there needs no farewell.
    if (!peer_ended_) transport_->reset_on_close();
    return leave();
  }
  linger();
}

// RFC 6455 7.1.1: after a closing handshake the server is the one to end the stream, so that the
// waiting state of TCP is not ours. In all other cases we have to.
void UpstreamSocket::linger() {
  phase_ = Phase::lingering;
  set_linger_deadline();
  transport_->read(!peer_ended_);
  if (!session_->end()->was_clean) transport_->shutdown();
  if (peer_ended_ && transport_->buffered_bytes() == 0) leave();
}

void UpstreamSocket::set_linger_deadline() {
  context_.wheel.set(static_cast<TimerWheel::Entry&>(*this),
                     context_.wheel.now_ms() + settings_.session.timeouts.close_ms);
}

void UpstreamSocket::on_deadline() {
  if (phase_ == Phase::open) return session_->on_deadline();
  if (phase_ != Phase::lingering) return;
  if (transport_->buffered_bytes() > 0) transport_->reset_on_close();
  leave();
}

// Nothing more is expected of the stream. It is closed at the end of the turn.
void UpstreamSocket::leave() {
  phase_ = Phase::gone;
  context_.wheel.set(static_cast<TimerWheel::Entry&>(*this), TimerWheel::never);
  wake();
}

void UpstreamSocket::close() {
  if (told_gone_) return;
  told_gone_ = true;
  session_.reset();
  transport_.reset();
  lease_.release();
  owner_.on_upstream_gone();
}

}  // namespace sluice::bridges
