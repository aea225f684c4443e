#include "session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/utf8.h"
#include "uv/loop.h"
#include "ws/close_code.h"

namespace sluice {
namespace {

using metrics::CloseReason;
using metrics::Initiator;
using metrics::Limit;

constexpr auto from_client = metrics::client_to_upstream;
constexpr auto to_client = metrics::upstream_to_client;

// What is gathered during a turn before the kernel is asked to take some of it.
constexpr std::size_t gather_bytes = 64 * 1024;

std::uint32_t now_us() {
  return static_cast<std::uint32_t>(uv::now_ns() / 1000);
}

void count_rejection(metrics::RouteCounters& counters, Limit limit) {
  counters.limit_rejections[static_cast<std::size_t>(limit)].add();
}

CloseReason reason_of(std::uint16_t code) {
  switch (code) {
    case ws::normal:
    case ws::no_status:
      return CloseReason::normal;
    case ws::going_away:
      return CloseReason::going_away;
    case ws::protocol_error:
      return CloseReason::protocol_error;
    case ws::invalid_payload:
      return CloseReason::invalid_data;
    case ws::message_too_big:
      return CloseReason::message_too_big;
    case ws::policy_violation:
      return CloseReason::policy;
    default:
      return CloseReason::application;
  }
}

// Messages that go on as they come are dropped by nobody: they may have been sent half.
config::SlowConsumer slow_consumer_of(const config::Route& route, bool streams) {
  if (streams && route.slow_consumer != config::SlowConsumer::close) {
    return config::SlowConsumer::pause;
  }
  return route.slow_consumer;
}

bool is_streamed(const config::Target& target) {
  return std::holds_alternative<config::TcpTarget>(target) ||
         std::holds_alternative<config::HttpTarget>(target);
}

bool validates_utf8(const config::Target& target) {
  const auto* http = std::get_if<config::HttpTarget>(&target);
  return http == nullptr || http->validate_utf8;
}

ws::CompressionSettings compression_of(const config::Compression& compression) {
  return {.level = static_cast<std::uint8_t>(compression.level),
          .message_bytes_min = compression.min_bytes,
          .ratio_max = compression.ratio_max,
          .ratio_bytes_min = config::Compression::ratio_bytes_min};
}

}  // namespace

SessionSettings::SessionSettings(const config::Route& route)
    : protocol{.message_bytes_max = route.limits.message_bytes_max,
               .fragments_max = route.limits.fragments_max,
               .validate_utf8 = validates_utf8(route.target),
               .compression = compression_of(route.compression)},
      streams(is_streamed(route.target)),
      slow_consumer(slow_consumer_of(route, streams)),
      buffers(route.buffers),
      limits(route.limits),
      timeouts(route.timeouts),
      keepalive(route.keepalive),
      compression(route.compression) {}

ws::DeflatePolicy deflate_policy(const config::Compression& compression, bool dedicated) {
  if (!dedicated) return {};
  return {.context_takeover = true,
          .window_bits = static_cast<std::uint8_t>(compression.window_bits)};
}

Session::Session(ws::Role role, const SessionContext& context, net::Transport& transport,
                 Owner& owner, ws::Compression compression)
    : context_(context),
      transport_(transport),
      owner_(owner),
      protocol_(role, context.settings.protocol, std::move(compression)) {
  if (context_.settings.keepalive.ping_interval_ms != 0) {
    ping_due_ = context_.wheel.after(context_.settings.keepalive.ping_interval_ms);
  } else {
    watch_kernel();
  }
  set_idle_deadline();
  arm(next_deadline());
  look_at_amount();  // the 101 is there already
}

Session::~Session() = default;

Session::Extra& Session::extra() {
  if (extra_ == nullptr) extra_ = std::make_unique<Extra>();
  return *extra_;
}

Session::Congestion& Session::congestion() {
  std::unique_ptr<Congestion>& congestion = extra().congestion;
  if (congestion == nullptr) congestion = std::make_unique<Congestion>();
  return *congestion;
}

// ---- Receiving

void Session::receive(MutableBytes bytes) {
  if (ended()) return;  // RFC 6455 5.5.1: what follows a Close frame is ignored
  alive_ = true;
  context_.counters.traffic[from_client].wire_bytes.add(bytes.size());
  if (pause_reasons_ != 0 || has_stash()) {
    // Read before the pause took effect; no more than the transport reads at once.
    std::vector<std::uint8_t>& stash = congestion().stash;
    stash.insert(stash.end(), bytes.begin(), bytes.end());
    owner_.on_session_waiting();
    return;
  }
  consume(bytes);
  const MutableBytes rest = protocol_.rest();
  if (!rest.empty() && !ended()) {
    congestion().stash.assign(rest.begin(), rest.end());
    congested()->stash_begin = 0;
    owner_.on_session_waiting();
  }
}

void Session::consume(MutableBytes bytes) {
  message_moved_ = false;
  protocol_.receive(bytes);
  handle_events();
  if (protocol_.compresses()) count_inflated(0);  // of which nothing has come out yet
  if (ended()) return;
  // Control frames between two fragments are nothing of the message.
  const bool stands = protocol_.between_fragments() && !message_moved_;
  if (!stands || message_due_ == Tick::never) watch_unfinished_message();
}

void Session::consume_stash() {
  Congestion& held = congestion();
  consume(MutableBytes(held.stash).subspan(held.stash_begin));
  if (ended()) return;
  const MutableBytes rest = protocol_.rest();
  if (rest.empty()) {
    held.stash = {};
    held.stash_begin = 0;
  } else {
    held.stash_begin = held.stash.size() - rest.size();
  }
  owner_.on_session_waiting();
}

void Session::handle_events() {
  while (pause_reasons_ == 0 && !ended()) {
    const auto event = protocol_.next_event();
    if (!event) break;
    handle(*event);
    // At the first boundary: a busy client may never pause between two messages.
    if (draining_ && !ended() && !protocol_.in_message()) drain();
  }
}

void Session::handle(const ws::Event& event) {
  switch (event.type) {
    case ws::Event::Type::data:
      return on_data(event);
    case ws::Event::Type::ping:
      return on_ping(event);
    case ws::Event::Type::pong:
      return on_pong(event);
    case ws::Event::Type::close:
      return on_close(event);
    case ws::Event::Type::failure:
      return on_violation(event);
  }
}

void Session::on_data(const ws::Event& event) {
  message_moved_ = true;
  metrics::TrafficCounters& traffic = context_.counters.traffic[from_client];
  if (event.frame_start) {
    if (event.continuation) {
      traffic.continuation_frames.add();
    } else if (event.message_type == MessageType::text) {
      traffic.text_frames.add();
    } else {
      traffic.binary_frames.add();
    }
  }
  traffic.payload_bytes.add(event.payload.size());
  payload_bytes_[from_client] += event.payload.size();
  if (event.inflated) count_inflated(event.payload.size());
  if (context_.settings.streams) {
    if (delivers()) on_piece(event);
  } else if (state_ == ReadyState::open) {
    on_message(event);
  }
}

void Session::on_piece(const ws::Event& event) {
  // What was inflated makes frames of its own; those on the wire have another length.
  if (event.inflated && event.payload.empty() && !event.message_end) return;
  if (context_.settings.limits.bytes_per_second != 0 ||
      context_.settings.limits.messages_per_second != 0) {
    if (too_many_messages(event)) return;
  }
  set_idle_deadline();
  if (event.message_start && event.message_end) {
    count_received(event.message_type, event.payload.size());
  } else {
    Stream& present = extra().stream;
    present.received_bytes = event.message_start ? 0 : present.received_bytes;
    present.received_bytes += event.payload.size();
    if (event.message_end) count_received(event.message_type, present.received_bytes);
  }
  const bool taken = owner_.on_session_piece(
      {.type = event.message_type,
       .message_start = event.message_start,
       .frame_start = event.inflated || event.frame_start,
       .frame_end = event.inflated || event.frame_end,
       .fin = event.inflated ? event.message_end : event.fin,
       .compressed = event.compressed,
       .frame_payload_bytes = event.inflated ? event.payload.size() : event.frame_bytes,
       .payload = event.payload});
  // The peer's Close frame stands behind it. What nobody takes is no reason to wait for that.
  if (taken && closing() != nullptr) await_close();
}

void Session::count_received(MessageType type, std::uint64_t bytes) {
  metrics::TrafficCounters& traffic = context_.counters.traffic[from_client];
  (type == MessageType::text ? traffic.text_messages : traffic.binary_messages).add();
  traffic.message_size.observe(metrics::message_size_bounds, bytes);
  ++messages_[from_client];
}

void Session::on_message(const ws::Event& event) {
  if (context_.settings.limits.bytes_per_second != 0 ||
      context_.settings.limits.messages_per_second != 0) {
    if (too_many_messages(event)) return;
  }
  // A message in one piece stays where it was received, which is lent already.
  if (event.message_start && event.message_end) return deliver(event.message_type, event.payload);
  set_idle_deadline();  // it may take longer than that to come
  const auto message = assemble(event);
  if (!message) return;
  // Lending it has what is queued leave at once, in a write of its own. If more was received behind
  // it, a copy costs less than that, but for a large one.
  if (protocol_.has_input() && message->size() < gather_bytes) {
    deliver(event.message_type, *message);
  } else {
    const Bytes lent = transport_.lend(*message);
    deliver(event.message_type, *message);
    transport_.lend(lent);
  }
  extra_->assembler.reset();
}

void Session::deliver(MessageType type, Bytes message) {
  count_received(type, message.size());
  set_idle_deadline();
  owner_.on_session_message(type, message);
}

std::optional<Bytes> Session::assemble(const ws::Event& event) {
  std::unique_ptr<ws::MessageAssembler>& assembler = extra().assembler;
  if (assembler == nullptr) {
    const std::uint64_t bytes_max = context_.settings.protocol.message_bytes_max;
    assembler = std::make_unique<ws::MessageAssembler>(bytes_max);
  }
  return assembler->add(event);
}

void Session::on_ping(const ws::Event& event) {
  context_.counters.traffic[from_client].ping_frames.add();
  // RFC 6455 5.5.2 asks for a Pong behind our Close too; there the peer would find our Close first,
  // and nothing that follows a Close frame is read by anybody.
  if (too_many_control_frames() || state_ != ReadyState::open) return;
  // RFC 6455 5.5.3: only the most recently processed Ping need be answered. While the peer reads
  // nothing, no more than one answer waits for it.
  if (transport_.blocked() || protocol_.in_frame()) {
    congestion().pending_pong = as_text(event.payload);
  } else {
    send_pong(event.payload);
  }
}

void Session::on_pong(const ws::Event& event) {
  context_.counters.traffic[from_client].pong_frames.add();
  // RFC 6455 5.5.3: an unsolicited Pong is a sign of life and nothing else. Only of those can a
  // peer send too many.
  if (!answers_ping(event.payload)) return (void)too_many_control_frames();
  pong_due_ = Tick::never;
  context_.counters.ping_rtt.observe(metrics::ping_rtt_bounds_us, now_us() - ping_sent_us_);
}

bool Session::answers_ping(Bytes payload) const {
  std::uint32_t number = 0;
  if (payload.size() != sizeof number || pong_due_ == Tick::never) return false;
  std::memcpy(&number, payload.data(), sizeof number);
  return number == ping_number_;
}

void Session::on_close(const ws::Event& event) {
  metrics::TrafficCounters& traffic = context_.counters.traffic[from_client];
  traffic.close_frames.add();
  if (event.close_code != ws::no_status) {
    traffic.close_codes[metrics::close_code_index(event.close_code)].add();
  }
  SessionEnd end = closing() != nullptr ? closing()->why
                                        : SessionEnd{.initiator = Initiator::client,
                                                     .reason = reason_of(event.close_code),
                                                     .detail = {}};
  end.code = event.close_code;
  end.text = as_text(event.payload);
  end.was_clean = true;
  // RFC 6455 5.5.1: the answer typically echoes the status code that was received. The reason goes
  // back too: a browser's CloseEvent shows the one of the frame that it received.
  put_all_held();
  if (protocol_.in_frame()) {
    // The frame that we are in the midst of comes first; it may take as long as it makes progress.
    if (closing() == nullptr) extra().closing = std::make_unique<Closing>();
    if (!closing()->held_up) closing()->held_up = {end.code, end.text};
    closing()->peer_closed = true;
    closing()->why = std::move(end);
    state_ = ReadyState::closing;
    forget_deadlines();
    return await_close();
  }
  send_close(event.close_code, end.text);
  finish(std::move(end));
}

// RFC 6455 7.1.7: fail the connection.
void Session::on_violation(const ws::Event& event) {
  count_violation(event.close_code);
  const bool no_memory = event.close_code == ws::try_again_later;
  const CloseReason reason = no_memory ? CloseReason::overload : reason_of(event.close_code);
  if (closing() != nullptr || protocol_.in_frame()) {
    // Our Close frame, with its code, is out already, or cannot be sent.
    return abort(Initiator::gateway, reason, std::string(as_text(event.payload)));
  }
  SessionEnd end{.initiator = Initiator::gateway,
                 .reason = reason,
                 .code = event.close_code,
                 .text = std::string(as_text(event.payload)),
                 .detail = std::string(as_text(event.payload))};
  send_close(event.close_code, end.text);
  finish(std::move(end));
}

// Of a limit that the protocol keeps.
void Session::count_violation(std::uint16_t close_code) {
  if (close_code == ws::message_too_big) count_rejection(context_.counters, Limit::message_size);
  if (close_code == ws::policy_violation) count_rejection(context_.counters, Limit::fragments);
  if (close_code == ws::try_again_later) {
    count_rejection(context_.counters, Limit::compression_memory);
  }
}

// A message may take its time, as long as some of it arrives every now and then.
void Session::watch_unfinished_message() {
  if (!protocol_.receiving() || context_.settings.timeouts.message_ms == 0) {
    message_due_ = Tick::never;
    return;
  }
  message_due_ = context_.wheel.after(context_.settings.timeouts.message_ms);
  arm(message_due_);
}

// ---- Limits per second

Session::RateWindow& Session::rate_window() {
  RateWindow& rate = extra().rate;
  if (context_.wheel.now_ms() - rate.start_ms >= 1000) rate = {.start_ms = context_.wheel.now_ms()};
  return rate;
}

bool Session::too_many_messages(const ws::Event& data) {
  RateWindow& window = rate_window();
  window.bytes += data.payload.size();
  if (data.message_end) ++window.messages;
  const config::Limits& limits = context_.settings.limits;
  if (limits.messages_per_second != 0 && window.messages > limits.messages_per_second) {
    close_rate_limited(Limit::messages_per_second, "messages_per_second");
    return true;
  }
  if (limits.bytes_per_second != 0 && window.bytes > limits.bytes_per_second) {
    close_rate_limited(Limit::bytes_per_second, "bytes_per_second");
    return true;
  }
  return false;
}

bool Session::too_many_control_frames() {
  const std::uint32_t max = context_.settings.limits.control_frames_per_second;
  if (max == 0 || state_ != ReadyState::open) return false;
  if (++rate_window().control_frames <= max) return false;
  close_rate_limited(Limit::control_frames, "control_frames_per_second");
  return true;
}

void Session::close_rate_limited(Limit limit, const char* what) {
  count_rejection(context_.counters, limit);
  if (closing() != nullptr || protocol_.in_frame()) {
    return abort(Initiator::gateway, CloseReason::rate_limited, std::string("limits.") + what);
  }
  SessionEnd end{.initiator = Initiator::gateway,
                 .reason = CloseReason::rate_limited,
                 .code = ws::policy_violation,
                 .text = "rate limit",
                 .detail = std::string("limits.") + what};
  send_close(end.code, end.text);
  finish(std::move(end));
}

// ---- Sending

void Session::send(MessageType type, Bytes payload) {
  if (state_ != ReadyState::open) return;
  if (transport_.blocked() && held_back(type, payload)) return;
  put(type, payload);
}

bool Session::send_prepared(ws::PreparedMessage& message) {
  if (state_ != ReadyState::open) return false;
  const Bytes payload = message.payload();
  if (transport_.blocked() && held_back(message.type(), payload)) {
    return has_backlog();  // this one is the last of it
  }
  ByteQueue& output = transport_.output();
  const std::size_t size_before = output.size();
  // What the kernel is not going to take now would only be copied later.
  const bool borrows = protocol_.send_prepared(message, output, !transport_.blocked());
  count_put(message.type(), payload.size(), size_before);
  if (borrows || message.leaves_at_once()) flush_now();
  if (borrows) output.keep();
  return state_ == ReadyState::open;
}

void Session::flush_now() {
  if (ended() || transport_.blocked() || transport_.output().empty()) return;
  transport_.flush();
  if (!ended()) update_buffered();
}

// What the route's slow_consumer policy does with a message for a peer that does not keep up.
bool Session::held_back(MessageType type, Bytes payload) {
  const std::size_t frame_bytes = protocol_.frame_size(payload.size());
  switch (context_.settings.slow_consumer) {
    case config::SlowConsumer::drop_newest:
      if (buffered_amount() + frame_bytes <= context_.settings.buffers.high_watermark_bytes)
        return false;
      context_.counters.messages_dropped_newest.add();
      return true;
    case config::SlowConsumer::drop_oldest:
      hold(frame_bytes, type, payload);
      return true;
    case config::SlowConsumer::pause:
    case config::SlowConsumer::close:
      break;
  }
  // A relay stops by itself at the high watermark. What comes yet is the rest of what it has read,
  // which may be several records of TLS.
  if (context_.settings.streams) return false;
  if (buffered_amount() <= context_.settings.buffers.limit_bytes) return false;
  count_rejection(context_.counters, Limit::buffer);
  context_.counters.slow_consumer_closes.add();
  close_by_rule(ws::try_again_later, CloseReason::slow_consumer, "buffers.limit");
  return true;
}

void Session::hold(std::size_t frame_bytes, MessageType type, Bytes payload) {
  Congestion& held = congestion();
  while (!held.backlog.empty() &&
         buffered_amount() + frame_bytes > context_.settings.buffers.high_watermark_bytes) {
    held.backlog_bytes -= protocol_.frame_size(held.backlog.front().payload.size());
    held.backlog.pop_front();
    context_.counters.messages_dropped_oldest.add();
  }
  held.backlog.push_back({type, {payload.begin(), payload.end()}});
  held.backlog_bytes += frame_bytes;
  update_buffered();
}

void Session::put_oldest_held() {
  const HeldMessage message = std::move(congested()->backlog.front());
  congested()->backlog.pop_front();
  congested()->backlog_bytes -= protocol_.frame_size(message.payload.size());
  put(message.type, message.payload);
}

// One message at a time, so that those behind it can still be dropped.
void Session::put_held_while_taken() {
  while (has_backlog() && !transport_.blocked()) {
    put_oldest_held();
    transport_.flush();
  }
}

// No message may follow the Close frame.
void Session::put_all_held() {
  while (has_backlog()) put_oldest_held();
}

void Session::put(MessageType type, Bytes payload) {
  const std::size_t size_before = transport_.output().size();
  protocol_.send_message(type, payload, transport_.output());
  count_put(type, payload.size(), size_before);
}

void Session::count_put(MessageType type, std::size_t payload_bytes, std::size_t size_before) {
  metrics::TrafficCounters& traffic = context_.counters.traffic[to_client];
  count_deflated(payload_bytes);
  (type == MessageType::text ? traffic.text_frames : traffic.binary_frames).add();
  traffic.payload_bytes.add(payload_bytes);
  payload_bytes_[to_client] += payload_bytes;
  count_sent(type, payload_bytes);
  wrote(size_before);
}

void Session::count_sent(MessageType type, std::uint64_t bytes) {
  metrics::TrafficCounters& traffic = context_.counters.traffic[to_client];
  (type == MessageType::text ? traffic.text_messages : traffic.binary_messages).add();
  traffic.message_size.observe(metrics::message_size_bounds, bytes);
  ++messages_[to_client];
  set_idle_deadline();
}

// `raw_bytes` were given to the protocol, which may have compressed them, or some before them.
void Session::count_deflated(std::uint64_t raw_bytes) {
  ws::CompressionPool* pool = context_.settings.protocol.compression.pool;
  if (pool == nullptr || !protocol_.compresses()) return;
  context_.counters.compression_wire_bytes[to_client].add(pool->take_sent_bytes());
  context_.counters.compression_raw_bytes[to_client].add(raw_bytes);
}

void Session::count_inflated(std::uint64_t raw_bytes) {
  ws::CompressionPool& pool = *context_.settings.protocol.compression.pool;
  context_.counters.compression_wire_bytes[from_client].add(pool.take_received_bytes());
  context_.counters.compression_raw_bytes[from_client].add(raw_bytes);
}

// ---- Sending in pieces

void Session::begin_frame(MessageType type, bool message_start, bool message_end,
                          std::uint64_t payload_bytes, bool compressed) {
  if (state_ != ReadyState::open) return;
  metrics::TrafficCounters& traffic = context_.counters.traffic[to_client];
  if (!message_start) {
    traffic.continuation_frames.add();
  } else {
    (type == MessageType::text ? traffic.text_frames : traffic.binary_frames).add();
  }
  Stream& present = extra().stream;
  present.sent_type = type;
  present.sent_fin = message_end;
  // One that begins while we drain is not waited for: of two busy directions one always has one.
  if (!draining_) sends_message_ = true;
  if (message_start) present.sent_bytes = 0;
  const std::size_t size_before = transport_.output().size();
  protocol_.begin_frame(type, message_start, message_end, payload_bytes, transport_.output(),
                        compressed);
  count_deflated(0);
  wrote(size_before);
  if (payload_bytes == 0 && !ended()) end_frame();
}

void Session::send_payload(Bytes piece) {
  if (ended() || !protocol_.awaits_payload()) return;
  // What is compressed is in no frame that a Close would have to wait for.
  if (protocol_.close_sent()) return protocol_.send_payload(piece, transport_.output());
  context_.counters.traffic[to_client].payload_bytes.add(piece.size());
  payload_bytes_[to_client] += piece.size();
  extra().stream.sent_bytes += piece.size();
  set_idle_deadline();
  const std::size_t size_before = transport_.output().size();
  protocol_.send_payload(piece, transport_.output());
  count_deflated(piece.size());
  wrote(size_before);
  if (ended()) return;  // the transport broke under it
  if (!protocol_.awaits_payload()) {
    end_frame();
  } else if (closing() != nullptr) {
    await_close();  // which stands behind the frame
  }
}

void Session::pass_on(const MessagePiece& piece) {
  // Most are whole messages: no state of a frame, and of a message, is needed then.
  const bool whole = piece.message_start && piece.frame_end && piece.fin;
  if (whole && state_ == ReadyState::open && !piece.compressed && !protocol_.compresses()) {
    put(piece.type, piece.payload);
    if (congested() != nullptr) send_held_pong();
    return;
  }
  if (piece.frame_start) {
    begin_frame(piece.type, piece.message_start, piece.fin, piece.frame_payload_bytes,
                piece.compressed);
  }
  if (!piece.payload.empty()) send_payload(piece.payload);
}

// What the frame has held up may be sent now.
void Session::end_frame() {
  const Stream& present = extra().stream;
  if (present.sent_fin) {
    count_sent(present.sent_type, present.sent_bytes);
    sends_message_ = false;
    if (draining_) drain();
  }
  if (closing() == nullptr || !closing()->held_up) return send_held_pong();
  const auto frame = std::exchange(closing()->held_up, std::nullopt);
  send_close(frame->code, frame->text);
  if (ended()) return;  // the transport broke under it
  if (closing()->peer_closed) return finish(std::move(closing()->why));
  await_close();
}

void Session::send_held_pong() {
  if (congested() == nullptr || !congested()->pending_pong) return;
  if (state_ != ReadyState::open || transport_.blocked()) return;
  const auto payload = std::exchange(congested()->pending_pong, std::nullopt);
  send_pong(as_bytes(*payload));
}

void Session::wrote(std::size_t size_before) {
  const std::size_t size = transport_.output().size();
  context_.counters.traffic[to_client].wire_bytes.add(size - size_before);
  // Many bytes leave while the caches still hold them, and some of them may be borrowed.
  if (size >= ByteQueue::borrowed_bytes_min) transport_.flush_soon();
  if (transport_.blocked()) {
    update_buffered();
  } else if (size >= gather_bytes) {
    transport_.flush();
    update_buffered();
  } else if (context_.settings.buffers.high_watermark_bytes < 2 * gather_bytes) {
    look_at_amount();
  }
  // Whoever put the first of it there has seen to the flush.
  if (size_before == 0) owner_.on_session_wake();
}

// The kernel may take all of it at the end of the turn; whoever has seen it by then awaits a drain.
void Session::look_at_amount() {
  if (transport_.buffered_bytes() > context_.settings.buffers.high_watermark_bytes) {
    seen_over_high_ = true;
  }
}

void Session::send_pong(Bytes payload) {
  const std::size_t size_before = transport_.output().size();
  protocol_.send_pong(payload, transport_.output());
  context_.counters.traffic[to_client].pong_frames.add();
  wrote(size_before);
}

void Session::send_ping() {
  look_at_progress();
  ++ping_number_;
  std::uint8_t payload[sizeof ping_number_];
  std::memcpy(payload, &ping_number_, sizeof payload);
  const std::size_t size_before = transport_.output().size();
  protocol_.send_ping(payload, transport_.output());
  context_.counters.traffic[to_client].ping_frames.add();
  ping_sent_us_ = now_us();
  alive_ = false;
  pong_due_ = context_.wheel.after(context_.settings.keepalive.pong_timeout_ms);
  wrote(size_before);
}

void Session::send_close(std::uint16_t code, std::string_view reason) {
  if (protocol_.close_sent() || protocol_.in_frame()) return;
  metrics::TrafficCounters& traffic = context_.counters.traffic[to_client];
  const std::size_t size_before = transport_.output().size();
  protocol_.send_close(code, reason, transport_.output());
  traffic.close_frames.add();
  if (code != ws::no_status) traffic.close_codes[metrics::close_code_index(code)].add();
  wrote(size_before);
}

// ---- Back-pressure

void Session::on_sent() {
  alive_ = true;
  // A message is on its way out.
  set_idle_deadline();
  if (closing() != nullptr) await_close();  // our Close frame may still stand behind what was taken
  if (!ended() && !transport_.blocked()) {
    if (!protocol_.in_frame()) send_held_pong();
    put_held_while_taken();
  }
  update_buffered();
}

void Session::update_buffered() {
  if (transport_.blocked()) watch_kernel();
  const std::size_t amount = buffered_amount();
  if (seen_over_high_ && amount <= context_.settings.buffers.low_watermark_bytes) {
    seen_over_high_ = false;
    tell_drained();
  }
  if (amount == 0 && !buffered_) return;
  buffered_ = amount != 0;
  if (buffered_) {
    std::uint64_t& most = congestion().buffered_bytes_max;
    most = std::max<std::uint64_t>(most, amount);
  }
  owner_.on_session_waiting();
  if (ended()) return;  // finish() has settled the accounts
  // Whoever has seen it over the watermark waits until it is under the low one, and the client is
  // slow as long as that takes, however little is left.
  const bool over = seen_over_high_ || amount > context_.settings.buffers.high_watermark_bytes;
  if (!over_high_ && transport_.blocked() && over) {
    seen_over_high_ = false;
    over_high_watermark();
  } else if (over_high_ && amount <= context_.settings.buffers.low_watermark_bytes) {
    under_low_watermark();
  }
}

void Session::over_high_watermark() {
  count_high_watermark(true);
  if (state_ != ReadyState::open) return;
  switch (context_.settings.slow_consumer) {
    case config::SlowConsumer::close:
      congested()->watermark_due =
          context_.wheel.after(context_.settings.buffers.high_watermark_timeout_ms);
      arm(congested()->watermark_due);
      [[fallthrough]];
    case config::SlowConsumer::pause:
      // What the peer asks for makes more output for it: it is not read until it reads. A relay's
      // two directions have nothing to do with each other: its upstream is not read.
      if (!context_.settings.streams) pause(output_full);
      break;
    case config::SlowConsumer::drop_oldest:
    case config::SlowConsumer::drop_newest:
      break;
  }
}

void Session::under_low_watermark() {
  count_high_watermark(false);
  congested()->watermark_due = Tick::never;
  tell_drained();
  if (sends()) resume(output_full);
}

void Session::tell_drained() {
  if (!sends()) return;
  drained_ = true;
  owner_.on_session_wake();
}

void Session::pause(PauseReason reason) {
  if (!delivers()) return;
  pause_reasons_ |= reason;
  update_reading();
}

void Session::resume(PauseReason reason) {
  if ((pause_reasons_ & reason) == 0 || ended()) return;
  pause_reasons_ = static_cast<std::uint8_t>(pause_reasons_ & ~reason);
  update_reading();
  if (pause_reasons_ == 0) watch_unfinished_message();  // meanwhile it could not go on
  owner_.on_session_wake();
}

// Pings find a peer that has vanished, unless there are none, or they wait behind other bytes, or
// their answers are not read: most sockets never need this.
void Session::watch_kernel() {
  if (kernel_watched_) return;
  kernel_watched_ = true;
  transport_.set_user_timeout(context_.wheel, context_.settings.keepalive.tcp_user_timeout_ms);
}

void Session::update_reading() {
  count_read_pause(pause_reasons_ != 0);
  if (pause_reasons_ != 0) watch_kernel();
  // What is stashed comes before what is still in the kernel.
  transport_.read(pause_reasons_ == 0 && !has_stash());
}

void Session::count_high_watermark(bool over) {
  if (over == over_high_) return;
  over_high_ = over;
  if (over) {
    context_.counters.pauses.add();
    congestion().over_high_since_ms = context_.wheel.now_ms();
  } else {
    context_.counters.resumes.add();
    context_.counters.paused_ms.add(context_.wheel.now_ms() - congested()->over_high_since_ms);
  }
  owner_.on_session_waiting();
}

void Session::count_read_pause(bool paused) {
  if (paused == read_paused_) return;
  read_paused_ = paused;
  if (paused) {
    context_.counters.read_pauses.add();
    congestion().read_paused_since_ms = context_.wheel.now_ms();
  } else {
    context_.counters.read_resumes.add();
    context_.counters.read_paused_ms.add(context_.wheel.now_ms() -
                                         congested()->read_paused_since_ms);
  }
  owner_.on_session_waiting();
}

Session::Waiting Session::waiting() const {
  return {.app_bytes = buffered_amount() - transport_.encrypted_bytes(),
          .tls_bytes = transport_.encrypted_bytes(),
          .inbound_bytes = congested() == nullptr ? 0 : congested()->stash_bytes(),
          .paused = over_high_,
          .read_paused = read_paused_};
}

Session::Totals Session::totals() const {
  return {.messages = {messages_[0], messages_[1]},
          .payload_bytes = {payload_bytes_[0], payload_bytes_[1]},
          .buffered_bytes_max = congested() == nullptr ? 0 : congested()->buffered_bytes_max};
}

void Session::turn_end() {
  if (ended()) return;
  if (drained_) {
    drained_ = false;
    if (sends()) owner_.on_session_drain();
  }
  if (pause_reasons_ == 0 && has_undelivered() && !ended()) {
    consume_stash();
    if (!ended() && peer_ended_) on_peer_end();
    if (!ended()) update_reading();
  }
}

// ---- Deadlines

void Session::arm(Tick due) {
  context_.wheel.hasten(owner_, due);
}

Session::Tick Session::next_deadline() const {
  const Tick due = std::min({ping_due_, pong_due_, close_due(), message_due_, watermark_due()});
  return state_ == ReadyState::open ? std::min(due, idle_due_) : due;
}

// From the present message on. The wheel is left as it is: when it comes to the deadline that was,
// it finds the next.
void Session::set_idle_deadline() {
  if (context_.settings.timeouts.idle_ms != 0)
    idle_due_ = context_.wheel.after(context_.settings.timeouts.idle_ms);
}

void Session::on_deadline() {
  if (ended()) return;
  const Tick now = context_.wheel.now();
  // A peer that is not read, since what it sent is still being delivered, cannot answer.
  const bool delivering = delivers() && pause_reasons_ != 0;
  if (now >= close_due() && (delivering || takes_bytes())) await_close();
  if (now >= close_due()) {
    SessionEnd end = closing()->why;
    if (end.reason == CloseReason::normal || end.reason == CloseReason::application) {
      end.reason = CloseReason::close_timeout;
    }
    set_unclean(end);
    if (!end.detail.empty()) end.detail += ", ";
    end.detail += closing()->peer_closed ? "a frame was not finished within timeouts.close"
                                         : "no Close frame within timeouts.close";
    return finish(std::move(end));
  }
  if (now >= pong_due_) check_pong();
  if (!ended() && now >= message_due_) {
    message_due_ = Tick::never;
    // While we do not read, it is not the peer who lets us wait.
    if (pause_reasons_ == 0) {
      close_by_rule(ws::policy_violation, CloseReason::message_timeout, "timeouts.message");
    }
  }
  if (now >= watermark_due() && state_ == ReadyState::open) {
    congested()->watermark_due = Tick::never;
    context_.counters.slow_consumer_closes.add();
    close_by_rule(ws::try_again_later, CloseReason::slow_consumer,
                  "buffers.high_watermark_timeout");
  }
  if (now >= idle_due_ && state_ == ReadyState::open) {
    close_by_rule(ws::going_away, CloseReason::idle_timeout, "timeouts.idle");
  }
  if (now >= ping_due_ && state_ == ReadyState::open) {
    ping_due_ = context_.wheel.after(context_.settings.keepalive.ping_interval_ms);
    // One ping at a time: an unanswered one says all there is to say.
    // In the midst of a frame none can be sent, and what the peer acknowledges of it is watched by
    // the transport (keepalive.tcp_user_timeout).
    if (pong_due_ == Tick::never && !protocol_.in_frame()) send_ping();
  }
  if (!ended()) context_.wheel.set(owner_, next_deadline());
}

void Session::check_pong() {
  if (pause_reasons_ != 0 && transport_.buffered_bytes() == 0) {
    // While we do not read, and nothing waits for it, the peer cannot show that it is alive. The
    // next ping goes out all the same: if the peer has gone, writing to it fails in the end.
    pong_due_ = Tick::never;
    return;
  }
  // A peer that sends is alive: its pong stands behind a large message. One that has not read what
  // stands before our ping is slow, and slow_consumer decides about slow ones.
  if (alive_ || takes_bytes() || has_yet_to_read()) {
    alive_ = false;
    pong_due_ = context_.wheel.after(context_.settings.keepalive.pong_timeout_ms);
    return;
  }
  context_.counters.pong_timeouts.add();
  abort(Initiator::gateway, CloseReason::pong_timeout, "keepalive.pong_timeout");
}

// To be called before a frame is sent that the peer has to answer.
void Session::look_at_progress() {
  const net::SendProgress progress = transport_.progress();
  acknowledged_ = static_cast<std::uint32_t>(progress.acknowledged_bytes);
  others_before_ = progress.outstanding || transport_.buffered_bytes() > 0;
}

// A slow peer has not seen our frame yet if other bytes were on their way to it, be it in the
// kernel's buffers; as long as it takes some of them, it is alive.
bool Session::takes_bytes() {
  if (!others_before_) return false;
  const auto acknowledged = static_cast<std::uint32_t>(transport_.progress().acknowledged_bytes);
  return std::exchange(acknowledged_, acknowledged) != acknowledged;
}

std::uint64_t Session::held_bytes() const {
  std::uint64_t bytes = 0;
  if (extra_ != nullptr && extra_->assembler != nullptr) bytes += extra_->assembler->capacity();
  if (congested() != nullptr) bytes += congested()->stash.capacity() + congested()->backlog_bytes;
  return bytes;
}

// Other bytes stood before our ping, some still wait to be taken by the peer, and its kernel is
// there: so is the peer, as far as anybody can know.
bool Session::has_yet_to_read() {
  if (!others_before_) return false;
  const net::SendProgress progress = transport_.progress();
  // Once its kernel has taken everything, our ping is among it.
  others_before_ = progress.outstanding || transport_.buffered_bytes() > 0;
  return others_before_ && !progress.unanswered;
}

// ---- Closing

bool Session::close(std::uint16_t code, std::string_view reason, Initiator initiator) {
  if (!ws::application_may_send(code) || reason.size() > ws::close_reason_bytes_max ||
      !is_valid_utf8(as_bytes(reason))) {
    return false;
  }
  start_closing(code, reason,
                {.initiator = initiator,
                 .reason = code == ws::normal ? CloseReason::normal : CloseReason::application,
                 .detail = {}});
  return true;
}

void Session::close_with(const Ending& ending) {
  start_closing(ending.code, ending.text,
                {.initiator = ending.initiator, .reason = ending.reason, .detail = ending.detail},
                context_.settings.streams);
}

void Session::close_by_rule(std::uint16_t code, CloseReason reason, std::string rule,
                            Initiator initiator) {
  const std::string text = rule;
  start_closing(code, text, {.initiator = initiator, .reason = reason, .detail = std::move(rule)});
}

// RFC 6455 7.1.2: start the closing handshake.
void Session::start_closing(std::uint16_t code, std::string_view text, SessionEnd why,
                            bool delivers) {
  if (state_ != ReadyState::open) return;
  extra().closing = std::make_unique<Closing>(Closing{.why = std::move(why), .delivers = delivers});
  put_all_held();
  if (!ended()) {
    state_ = ReadyState::closing;
    look_at_progress();
    if (protocol_.in_frame()) {
      closing()->held_up = {code, std::string(text)};
    } else {
      send_close(code, text);
    }
  }
  if (ended()) return;  // the transport broke under it
  forget_deadlines();
  await_close();
  if (!delivers) {
    // Nothing that still comes is delivered; the peer's Close frame has to be found in it.
    pause_reasons_ = 0;
    update_reading();
  }
  owner_.on_session_wake();
}

// From now on, or from when the peer last took something of what stands before our Close frame.
void Session::await_close() {
  closing()->due = context_.wheel.after(context_.settings.timeouts.close_ms);
  arm(closing()->due);
}

// While CLOSING none holds but timeouts.close.
void Session::forget_deadlines() {
  ping_due_ = pong_due_ = message_due_ = Tick::never;
  if (congested() != nullptr) congested()->watermark_due = Tick::never;
}

void Session::drain() {
  if (state_ != ReadyState::open) return;
  draining_ = protocol_.in_message() || sends_message_;
  if (!draining_) close_by_rule(ws::going_away, CloseReason::drain, "shutting down");
}

void Session::on_peer_end() {
  if (ended()) return;
  // A Close frame may be among what a pause has kept from being looked at.
  peer_ended_ = true;
  if (has_undelivered()) return;
  // It has closed, and may read the frame that our own Close waits for.
  if (closing() != nullptr && closing()->peer_closed) return;
  SessionEnd end = closing() != nullptr
                       ? closing()->why
                       : SessionEnd{.initiator = Initiator::client,
                                    .reason = CloseReason::lost,
                                    .detail = "end of stream without a Close frame"};
  end.code = ws::abnormal;
  end.was_clean = false;
  finish(std::move(end));
}

void Session::on_failure(net::FailureKind kind, const Error& error) {
  abort(Initiator::network,
        kind == net::FailureKind::tls ? CloseReason::tls_error : CloseReason::reset, error.message);
}

void Session::abort(Initiator initiator, CloseReason reason, std::string detail) {
  if (ended()) return;
  SessionEnd end{.initiator = initiator, .reason = reason, .detail = std::move(detail)};
  if (closing() != nullptr) {
    // Why we were closing says more than how the closing handshake failed.
    const std::string how = std::exchange(end.detail, {});
    end = closing()->why;
    end.detail += (end.detail.empty() ? "" : ", ") + how;
  }
  set_unclean(end);
  finish(std::move(end));
}

// RFC 6455 7.1.5: the code is that of the first Close frame that was received, whatever follows.
void Session::set_unclean(SessionEnd& end) const {
  end.was_clean = false;
  if (closing() == nullptr || !closing()->peer_closed) end.code = ws::abnormal;
}

void Session::finish(SessionEnd end) {
  if (ended()) return;  // the transport broke under the Close frame
  count_high_watermark(false);
  count_read_pause(false);
  state_ = ReadyState::closed;
  extra().end = std::make_unique<SessionEnd>(std::move(end));
  extra().closing.reset();
  context_.wheel.set(owner_, Tick::never);
  owner_.on_session_end();
}

}  // namespace sluice
