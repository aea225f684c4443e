#include "ws/protocol.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <limits>

#include "base/crypto.h"
#include "ws/close_code.h"

namespace sluice::ws {
namespace {

constexpr Violation invalid_text{invalid_payload, "text is not valid UTF-8"};
constexpr Violation invalid_close_code{protocol_error, "invalid close code"};
constexpr Violation invalid_close_reason{invalid_payload, "close reason is not valid UTF-8"};

static_assert(close_reason_bytes_max == control_bytes_max - 2);

// Cut to what a Close frame holds, not inside a character; nothing if it is not UTF-8.
std::string_view sendable_reason(std::string_view reason) {
  // RFC 6455 5.5.1: the reason is UTF-8-encoded.
  if (!is_valid_utf8(as_bytes(reason))) return {};
  if (reason.size() <= close_reason_bytes_max) return reason;
  std::size_t size = close_reason_bytes_max;
  while ((static_cast<unsigned char>(reason[size]) & 0xC0) == 0x80) --size;
  return reason.substr(0, size);
}

}  // namespace

void Protocol::receive(MutableBytes bytes) {
  delivered_.reset();
  input_ = state_ == State::ended ? MutableBytes() : bytes;
}

std::optional<Event> Protocol::next_event() {
  switch (state_) {
    case State::header:
      return begin_frame();
    case State::data:
      return data_event();
    case State::control:
      return control_event();
    case State::ended:
      break;
  }
  return std::nullopt;
}

FrameRules Protocol::rules() const {
  const std::uint64_t bytes_max = limits_->message_bytes_max;
  return {
      .masked = role_ == Role::server,
      .in_message = in_message_,
      .fragments_used_up = limits_->fragments_max != 0 && fragments_ >= limits_->fragments_max,
      .payload_bytes_max =
          bytes_max == 0 ? std::numeric_limits<std::uint64_t>::max() : bytes_max - message_bytes_,
  };
}

std::optional<Event> Protocol::begin_frame() {
  if (input_.empty()) return std::nullopt;
  const HeaderParser::Step step = header_.parse(input_, rules());
  if (step.violation != nullptr) return fail(*step.violation);
  if (!step.complete) return std::nullopt;

  frame_left_ = step.header.payload_bytes;
  mask_ = step.header.mask;
  mask_offset_ = 0;
  if (is_control(step.header.opcode)) {
    state_ = State::control;
    control_opcode_ = step.header.opcode;
    return control_event();
  }
  begin_data_frame(step.header);
  return data_event();
}

void Protocol::begin_data_frame(const FrameHeader& header) {
  state_ = State::data;
  frame_fin_ = header.fin;
  frame_started_ = false;
  if (!in_message_) {
    in_message_ = true;
    message_started_ = false;
    message_type_ = static_cast<MessageType>(header.opcode);
  }
  message_bytes_ += header.payload_bytes;
  ++fragments_;
}

// What the input holds of the present frame's payload, unmasked.
MutableBytes Protocol::take_payload() {
  const std::size_t count =
      static_cast<std::size_t>(std::min<std::uint64_t>(frame_left_, input_.size()));
  const MutableBytes piece = input_.first(count);
  input_ = input_.subspan(count);
  frame_left_ -= count;
  // RFC 6455 5.3: only what a client sends is masked.
  if (role_ == Role::server) {
    apply_mask(piece, mask_, mask_offset_);
    mask_offset_ = static_cast<std::uint8_t>((mask_offset_ + count) % 4);
  }
  return piece;
}

std::optional<Event> Protocol::data_event() {
  // One object for every way out, so that it is filled where the caller gets it and never copied.
  std::optional<Event> event;
  if (input_.empty() && frame_left_ != 0) return event;
  event.emplace();
  event->message_type = message_type_;
  event->message_start = !message_started_;
  event->frame_start = !frame_started_;
  if (!frame_started_) event->frame_bytes = frame_left_;
  event->payload = take_payload();
  event->frame_end = frame_left_ == 0;
  event->fin = frame_fin_;
  event->message_end = event->frame_end && frame_fin_;
  if (is_valid_text(event->payload, event->message_end)) {
    frame_started_ = message_started_ = true;
    if (event->frame_end) end_data_frame();
  } else {
    event = fail(invalid_text);
  }
  return event;
}

// RFC 6455 8.1: an endpoint that finds a byte stream not to be valid UTF-8 fails the connection. It
// is found at the first byte that cannot be right, be the frame complete or not.
bool Protocol::is_valid_text(Bytes piece, bool message_end) {
  if (message_type_ != MessageType::text || !limits_->validate_utf8) return true;
  return utf8_.feed(piece) && (!message_end || utf8_.complete());
}

void Protocol::end_data_frame() {
  state_ = State::header;
  if (!frame_fin_) return;
  in_message_ = false;
  message_bytes_ = 0;
  fragments_ = 0;
}

// RFC 6455 5.4, 5.5: a control frame may come between the fragments of a message, and is handled at
// once. One that is whole is left where it is; one that spans reads is gathered.
std::optional<Event> Protocol::control_event() {
  if (gathering_ != nullptr || input_.size() < frame_left_) return gather_control();
  return deliver_control(take_payload());
}

std::optional<Event> Protocol::gather_control() {
  if (gathering_ == nullptr) gathering_ = std::make_unique<ControlPayload>();
  const MutableBytes piece = take_payload();
  if (!piece.empty()) std::memcpy(gathering_->bytes + gathering_->size, piece.data(), piece.size());
  gathering_->size = static_cast<std::uint8_t>(gathering_->size + piece.size());
  if (frame_left_ != 0) return std::nullopt;
  delivered_ = std::move(gathering_);
  return deliver_control({delivered_->bytes, delivered_->size});
}

Event Protocol::deliver_control(MutableBytes payload) {
  state_ = State::header;
  if (control_opcode_ == Opcode::close) return close_event(payload);
  Event event;
  event.type = control_opcode_ == Opcode::ping ? Event::Type::ping : Event::Type::pong;
  event.payload = payload;
  return event;
}

Event Protocol::close_event(MutableBytes payload) {
  Event event;
  event.type = Event::Type::close;
  event.close_code = no_status;  // RFC 6455 7.1.5: "considered to be 1005" if there is no body
  if (!payload.empty()) {        // then it has two bytes or more: the header was checked
    event.close_code = static_cast<std::uint16_t>(payload[0] << 8 | payload[1]);
    event.payload = payload.subspan(2);
    // RFC 6455 7.4: codes that are undefined, or never on the wire.
    if (!may_be_on_the_wire(event.close_code)) return fail(invalid_close_code);
    // RFC 6455 5.5.1, 8.1: what follows the code is UTF-8.
    if (!is_valid_utf8(event.payload)) return fail(invalid_close_reason);
  }
  end();
  return event;
}

// RFC 6455 7.1.7: after the connection failed, no further data of the peer is processed.
Event Protocol::fail(const Violation& violation) {
  assert(violation.reason.size() <= close_reason_bytes_max);
  end();
  delivered_ = std::make_unique<ControlPayload>();
  delivered_->size = static_cast<std::uint8_t>(violation.reason.size());
  std::memcpy(delivered_->bytes, violation.reason.data(), violation.reason.size());
  Event event;
  event.type = Event::Type::failure;
  event.close_code = violation.close_code;
  event.payload = {delivered_->bytes, delivered_->size};
  return event;
}

void Protocol::end() {
  state_ = State::ended;
  input_ = {};
  in_message_ = false;
  header_ = {};
}

void Protocol::send_message(MessageType type, Bytes payload, ByteQueue& out) {
  send_fragment(type, payload, true, true, out);
}

void Protocol::send_fragment(MessageType type, Bytes payload, bool first, bool last,
                             ByteQueue& out) {
  // RFC 6455 5.5.1: no data frame after a Close frame.
  if (close_sent_) return;
  send_frame(first ? static_cast<Opcode>(type) : Opcode::continuation, last, payload, out);
}

void Protocol::send_ping(Bytes payload, ByteQueue& out) {
  send_frame(Opcode::ping, true, payload.first(std::min(payload.size(), control_bytes_max)), out);
}

void Protocol::send_pong(Bytes payload, ByteQueue& out) {
  send_frame(Opcode::pong, true, payload.first(std::min(payload.size(), control_bytes_max)), out);
}

void Protocol::send_close(std::uint16_t code, std::string_view reason, ByteQueue& out) {
  if (close_sent_) return;
  close_sent_ = true;
  // RFC 6455 7.4.1: 1005, 1006 and 1015 are never in a Close frame.
  if (!may_be_on_the_wire(code)) return send_frame(Opcode::close, true, {}, out);
  reason = sendable_reason(reason);
  std::uint8_t body[control_bytes_max] = {static_cast<std::uint8_t>(code >> 8),
                                          static_cast<std::uint8_t>(code)};
  std::copy(reason.begin(), reason.end(), body + 2);
  send_frame(Opcode::close, true, {body, 2 + reason.size()}, out);
}

void Protocol::send_frame(Opcode opcode, bool fin, Bytes payload, ByteQueue& out) {
  FrameHeader header;
  header.fin = fin;
  header.opcode = opcode;
  header.payload_bytes = payload.size();
  // RFC 6455 5.1: a client masks every frame, a server none.
  if (role_ == Role::client) return send_masked(header, payload, out);
  const std::size_t header_bytes = header_size(payload.size(), false);
  if (payload.empty() || header_bytes + payload.size() > ByteQueue::max_reserve) {
    write_header(header, out.reserve(header_bytes));
    return out.append(payload);
  }
  std::uint8_t* room = out.reserve(header_bytes + payload.size());
  std::memcpy(room + write_header(header, room), payload.data(), payload.size());
}

void Protocol::send_masked(FrameHeader header, Bytes payload, ByteQueue& out) {
  // RFC 6455 5.3, 10.3: a fresh key for each frame, from a strong source of entropy.
  header.masked = true;
  header.mask = random_mask();
  write_header(header, out.reserve(header_size(payload.size(), true)));
  append_masked(payload, header.mask, 0, out);
}

// The caller's bytes are not ours to change, so they are masked in the queue.
void Protocol::append_masked(Bytes payload, std::uint32_t mask, std::size_t offset,
                             ByteQueue& out) {
  while (!payload.empty()) {
    const std::size_t count = std::min(payload.size(), ByteQueue::max_reserve);
    std::uint8_t* room = out.reserve(count);
    std::memcpy(room, payload.data(), count);
    apply_mask({room, count}, mask, offset);
    offset += count;
    payload = payload.subspan(count);
  }
}

void Protocol::begin_frame(MessageType type, bool first, bool last, std::uint64_t payload_bytes,
                           ByteQueue& out) {
  assert(!in_frame());
  // RFC 6455 5.5.1: no data frame after a Close frame.
  if (close_sent_) return;
  FrameHeader header;
  header.fin = last;
  header.opcode = first ? static_cast<Opcode>(type) : Opcode::continuation;
  header.payload_bytes = payload_bytes;
  header.masked = role_ == Role::client;
  if (header.masked) header.mask = random_mask();
  sending_left_ = payload_bytes;
  sending_mask_ = header.mask;
  sending_offset_ = 0;
  write_header(header, out.reserve(header_size(payload_bytes, header.masked)));
}

void Protocol::send_payload(Bytes piece, ByteQueue& out) {
  assert(piece.size() <= sending_left_);
  sending_left_ -= piece.size();
  if (role_ == Role::server) return out.append(piece);
  append_masked(piece, sending_mask_, sending_offset_, out);
  sending_offset_ = static_cast<std::uint8_t>((sending_offset_ + piece.size()) % 4);
}

}  // namespace sluice::ws
