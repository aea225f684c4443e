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
constexpr Violation invalid_deflate{invalid_payload, "invalid compressed data"};
constexpr Violation inflated_too_big{message_too_big, "message too big"};
constexpr Violation ratio_too_high{message_too_big, "compression ratio too high"};
constexpr Violation no_inflater{try_again_later, "no memory to inflate"};

// With what deflate adds to a message that it cannot compress (zlib's deflateBound), and some.
constexpr std::uint64_t compressed_size_max(std::uint64_t message_bytes) {
  return message_bytes + message_bytes / 16 + 64;
}

// Of the pool, by a socket with these terms, as long as it lives.
std::size_t kept_bytes(const Compression& terms, std::uint8_t level) {
  std::size_t bytes = 0;
  if (terms.receives.context_takeover) {
    bytes += CompressionPool::inflater_bytes(terms.receives.window_bits);
  }
  if (CompressionPool::keeps_deflater(terms.sends)) {
    bytes += CompressionPool::deflater_bytes(terms.sends, level);
  } else if (terms.sends.context_takeover) {
    bytes += CompressionPool::sent_window_bytes(terms.sends.window_bits);
  }
  return bytes;
}

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

std::optional<Compression> make_compression(Role role, const DeflateParameters& agreed,
                                            const CompressionSettings& settings) {
  Compression made{.use = Compression::Use::deflate,
                   .receives = role == Role::server ? agreed.client : agreed.server,
                   .sends = role == Role::server ? agreed.server : agreed.client};
  const std::size_t kept = kept_bytes(made, settings.level);
  if (kept == 0) return made;
  CompressionPool& pool = *settings.pool;
  if (!pool.has_room_to_keep(kept)) return std::nullopt;
  if (made.receives.context_takeover) {
    made.inflater = pool.take_inflater(made.receives.window_bits);
  }
  if (CompressionPool::keeps_deflater(made.sends)) {
    made.deflater = pool.take_deflater(made.sends, settings.level);
  } else if (made.sends.context_takeover) {
    made.sent_window = pool.take_sent_window(made.sends.window_bits);
  }
  return made;
}

Protocol::Protocol(Role role, const ProtocolLimits& limits, Compression compression)
    : limits_(&limits), role_(role) {
  if (compression.use == Compression::Use::off) return;
  compression_ = std::make_unique<Compression>(std::move(compression));
}

Protocol::~Protocol() {
  give_back_streams();
}

// The protocols of a thread take turns, and most are idle again after theirs: they pass one on.
std::unique_ptr<Protocol::Reception>& Protocol::spare_reception() {
  thread_local std::unique_ptr<Reception> spare;
  return spare;
}

void Protocol::give_back_reception() {
  assert(in_->frame_left == 0 && in_->message_bytes == 0 && !in_->compressed);
  spare_reception() = std::move(in_);
}

void Protocol::receive(MutableBytes bytes) {
  if (in_ == nullptr) in_ = std::move(spare_reception());
  if (in_ == nullptr) in_ = std::make_unique<Reception>();
  in_->delivered.reset();
  in_->input = in_->state == State::ended ? MutableBytes() : bytes;
}

std::optional<Event> Protocol::next_event() {
  if (in_ == nullptr) return std::nullopt;
  switch (in_->state) {
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
  const auto left = [&](std::uint64_t max) {
    return bytes_max == 0 ? std::numeric_limits<std::uint64_t>::max() : max - in_->message_bytes;
  };
  // Whether what was compressed is too big is seen when it is inflated; this bounds its form.
  const std::uint64_t compressed_max = compressed_size_max(bytes_max);
  return {
      .masked = role_ == Role::server,
      .in_message = in_->in_message,
      .fragments_used_up = limits_->fragments_max != 0 && in_->fragments >= limits_->fragments_max,
      .payload_bytes_max = left(in_->compressed && in_->in_message ? compressed_max : bytes_max),
      .compression = use() != Compression::Use::off,
      .compressed_bytes_max = left(compressed_max),
  };
}

std::optional<Event> Protocol::begin_frame() {
  if (in_->input.empty()) {
    if (in_->idle()) give_back_reception();
    return std::nullopt;
  }
  Reception& in = *in_;
  const HeaderParser::Step step = in.header.parse(in.input, rules());
  if (step.violation != nullptr) return fail(*step.violation);
  if (!step.complete) return std::nullopt;

  in.frame_left = step.header.payload_bytes;
  in.mask = step.header.mask;
  in.mask_offset = 0;
  if (is_control(step.header.opcode)) {
    in.state = State::control;
    in.control_opcode = step.header.opcode;
    return control_event();
  }
  begin_data_frame(step.header);
  return data_event();
}

void Protocol::begin_data_frame(const FrameHeader& header) {
  in_->state = State::data;
  in_->frame_fin = header.fin;
  in_->frame_started = false;
  if (!in_->in_message) {
    in_->in_message = true;
    in_->message_started = false;
    in_->message_type = static_cast<MessageType>(header.opcode);
    in_->compressed = header.compressed;
  }
  in_->message_bytes += header.payload_bytes;
  ++in_->fragments;
}

// What the input holds of the present frame's payload, unmasked.
Protocol::Piece Protocol::take_payload() {
  Reception& in = *in_;
  const std::size_t count =
      static_cast<std::size_t>(std::min<std::uint64_t>(in.frame_left, in.input.size()));
  Piece piece{in.input.first(count)};
  in.input = in.input.subspan(count);
  in.frame_left -= count;
  // RFC 6455 5.3: only what a client sends is masked.
  if (role_ == Role::server) {
    piece.ascii = apply_mask(piece.bytes, piece.bytes.data(), in.mask, in.mask_offset);
    in.mask_offset = static_cast<std::uint8_t>((in.mask_offset + count) % 4);
  }
  return piece;
}

// Of a piece that is being inflated the end may not be used yet: it becomes input again.
MutableBytes Protocol::rest() {
  if (in_ == nullptr) return {};
  if (pending()) put_back(compression_->inflater->take_unused());
  return in_->input;
}

void Protocol::put_back(std::size_t size) {
  Reception& in = *in_;
  in.input = {in.input.data() - size, in.input.size() + size};
  in.frame_left += size;
  if (role_ == Role::client) return;
  in.mask_offset = static_cast<std::uint8_t>((in.mask_offset + 4 - size % 4) % 4);
  apply_mask(in.input.first(size), in.input.data(), in.mask, in.mask_offset);
}

bool Protocol::pending() const {
  return in_ != nullptr && in_->state == State::data && compression_ != nullptr &&
         compression_->inflater != nullptr && compression_->inflater->pending();
}

std::optional<Event> Protocol::data_event() {
  const bool inflates = in_->compressed && use() == Compression::Use::deflate;
  return inflates ? inflated_event() : plain_event();
}

std::optional<Event> Protocol::plain_event() {
  // One object for every way out, so that it is filled where the caller gets it and never copied.
  std::optional<Event> event;
  Reception& in = *in_;
  if (in.input.empty() && in.frame_left != 0) return event;
  event.emplace();
  event->message_type = in.message_type;
  event->message_start = !in.message_started;
  event->frame_start = !in.frame_started;
  if (!in.frame_started) event->frame_bytes = in.frame_left;
  const Piece piece = take_payload();
  event->payload = piece.bytes;
  event->frame_end = in.frame_left == 0;
  event->fin = in.frame_fin;
  event->continuation = in.fragments > 1;
  event->compressed = in.compressed;
  event->message_end = event->frame_end && in.frame_fin;
  if (is_valid_text(piece, event->message_end)) {
    in.frame_started = in.message_started = true;
    if (event->frame_end) end_data_frame();
  } else {
    event = fail(invalid_text);
  }
  return event;
}

// RFC 6455 8.1: an endpoint that finds a byte stream not to be valid UTF-8 fails the connection. It
// is found at the first byte that cannot be right, be the frame complete or not.
bool Protocol::is_valid_text(const Piece& piece, bool message_end) {
  if (in_->message_type != MessageType::text || !limits_->validate_utf8) return true;
  // What passes compressed is nobody's text before the receiver has inflated it.
  if (in_->compressed && use() == Compression::Use::pass) return true;
  if (piece.ascii && in_->utf8.complete()) return true;
  return in_->utf8.feed(piece.bytes) && (!message_end || in_->utf8.complete());
}

// RFC 7692 7.2.2: the next piece of a compressed message, inflated into the pool's buffer.
std::optional<Event> Protocol::inflated_event() {
  std::unique_ptr<Inflater>& inflater = compression_->inflater;
  CompressionPool& pool = *limits_->compression.pool;
  if (inflater == nullptr) inflater = pool.take_inflater(compression_->receives.window_bits);
  if (inflater == nullptr) return fail(no_inflater);
  const MutableBytes buffer = pool.inflate_buffer();
  std::size_t size = 0;
  while (size < buffer.size() && (inflater->pending() || feed_inflater())) {
    const Inflater::Result result = inflater->inflate(buffer.subspan(size));
    size += result.size;
    if (!inflater->tail_fed()) pool.count_received(result.used);
    if (result.status == Inflater::Status::invalid) return fail(invalid_deflate);
    if (const Violation* violation = check_inflated()) return fail(*violation);
  }
  const bool whole =
      !inflater->pending() && in_->frame_left == 0 && (!in_->frame_fin || inflater->tail_fed());
  if (size == 0 && !whole) return std::nullopt;

  std::optional<Event> event(std::in_place);
  event->message_type = in_->message_type;
  event->message_start = !in_->message_started;
  event->frame_start = !in_->frame_started;
  event->payload = buffer.first(size);
  event->frame_end = whole;
  event->fin = in_->frame_fin;
  event->continuation = in_->fragments > 1;
  event->inflated = true;
  event->message_end = whole && in_->frame_fin;
  if (!is_valid_text({event->payload}, event->message_end)) return fail(invalid_text);
  if (event->message_end && !inflater->at_message_end()) return fail(invalid_deflate);
  in_->frame_started = true;
  in_->message_started = in_->message_started || size != 0;
  if (event->message_end) end_inflated();
  if (whole) end_data_frame();
  return event;
}

// False if there is nothing more to be had from the present frame, for now or at all.
bool Protocol::feed_inflater() {
  Inflater& inflater = *compression_->inflater;
  if (in_->frame_left != 0) {
    if (in_->input.empty()) return false;
    inflater.feed(take_payload().bytes);
    return true;
  }
  if (!in_->frame_fin || inflater.tail_fed()) return false;
  inflater.feed_tail();
  return true;
}

// RFC 6455 10.4, RFC 7692 8: looked at while it is inflated, a buffer at a time.
const Violation* Protocol::check_inflated() const {
  const std::uint64_t inflated = compression_->inflater->inflated_bytes();
  const std::uint64_t bytes_max = limits_->message_bytes_max;
  if (bytes_max != 0 && inflated > bytes_max) return &inflated_too_big;
  const CompressionSettings& settings = limits_->compression;
  if (settings.ratio_max == 0 || inflated <= settings.ratio_bytes_min) return nullptr;
  const std::uint64_t received = in_->message_bytes - in_->frame_left;
  return inflated / settings.ratio_max > received ? &ratio_too_high : nullptr;
}

void Protocol::end_inflated() {
  compression_->inflater->end_message();
  if (compression_->receives.context_takeover) return;
  limits_->compression.pool->give_back(std::move(compression_->inflater));
}

void Protocol::end_data_frame() {
  in_->state = State::header;
  if (!in_->frame_fin) return;
  in_->in_message = false;
  in_->compressed = false;
  in_->message_bytes = 0;
  in_->fragments = 0;
}

// RFC 6455 5.4, 5.5: a control frame may come between the fragments of a message, and is handled at
// once. One that is whole is left where it is; one that spans reads is gathered.
std::optional<Event> Protocol::control_event() {
  if (in_->gathering != nullptr || in_->input.size() < in_->frame_left) return gather_control();
  return deliver_control(take_payload().bytes);
}

std::optional<Event> Protocol::gather_control() {
  if (in_->gathering == nullptr) in_->gathering = std::make_unique<ControlPayload>();
  const MutableBytes piece = take_payload().bytes;
  if (!piece.empty())
    std::memcpy(in_->gathering->bytes + in_->gathering->size, piece.data(), piece.size());
  in_->gathering->size = static_cast<std::uint8_t>(in_->gathering->size + piece.size());
  if (in_->frame_left != 0) return std::nullopt;
  in_->delivered = std::move(in_->gathering);
  return deliver_control({in_->delivered->bytes, in_->delivered->size});
}

Event Protocol::deliver_control(MutableBytes payload) {
  in_->state = State::header;
  if (in_->control_opcode == Opcode::close) return close_event(payload);
  Event event;
  event.type = in_->control_opcode == Opcode::ping ? Event::Type::ping : Event::Type::pong;
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
  in_->delivered = std::make_unique<ControlPayload>();
  in_->delivered->size = static_cast<std::uint8_t>(violation.reason.size());
  std::memcpy(in_->delivered->bytes, violation.reason.data(), violation.reason.size());
  Event event;
  event.type = Event::Type::failure;
  event.close_code = violation.close_code;
  event.payload = {in_->delivered->bytes, in_->delivered->size};
  return event;
}

void Protocol::end() {
  in_->state = State::ended;
  in_->input = {};
  in_->in_message = false;
  in_->header = {};
  if (compression_ != nullptr) compression_->inflater.reset();
}

void Protocol::send_message(MessageType type, Bytes payload, ByteQueue& out) {
  // RFC 6455 5.5.1: no data frame after a Close frame.
  if (close_sent_) return;
  // The libraries count to 32 bits.
  const bool countable = payload.size() <= std::numeric_limits<std::uint32_t>::max();
  if (countable && deflates(payload.size()) && send_deflated_message(type, payload, out)) return;
  send_fragment(type, payload, true, true, out);
}

bool Protocol::send_prepared(PreparedMessage& message, ByteQueue& out, bool may_borrow) {
  if (close_sent_) return false;
  const bool deflates = this->deflates(message.payload().size());
  // RFC 6455 5.3: a client masks each frame with a key of its own. RFC 7692 7.1.1: what is sent in
  // a context becomes a part of it.
  if (role_ == Role::client || (deflates && compression_->sends.context_takeover)) {
    send_message(message.type(), message.payload(), out);
    return false;
  }
  PreparedMessage::Terms terms;
  if (deflates) terms = {compression_->sends.window_bits, limits_->compression.level};
  auto form = std::ranges::find(message.forms_, terms, &PreparedMessage::Form::terms);
  if (form == message.forms_.end()) {
    form = message.forms_.insert(form, make_form(terms, message));
  }
  if (deflates) limits_->compression.pool->count_sent(form->compressed_bytes);
  const bool borrows = may_borrow && form->frames.size() >= ByteQueue::borrowed_bytes_min;
  borrows ? out.borrow(form->frames) : out.append(form->frames);
  return borrows;
}

PreparedMessage::Form Protocol::make_form(PreparedMessage::Terms terms,
                                          const PreparedMessage& message) {
  CompressionPool* const pool = terms.window_bits == 0 ? nullptr : limits_->compression.pool;
  const std::uint64_t sent_before = pool == nullptr ? 0 : pool->take_sent_bytes();
  ChunkPool chunks(0);
  ByteQueue out(chunks);
  send_message(message.type(), message.payload(), out);
  PreparedMessage::Form form{terms, out.to_vector()};
  if (pool != nullptr) {
    form.compressed_bytes = pool->take_sent_bytes();
    pool->count_sent(sent_before);
  }
  return form;
}

void Protocol::send_fragment(MessageType type, Bytes payload, bool first, bool last,
                             ByteQueue& out) {
  if (close_sent_) return;
  const Opcode opcode = first ? static_cast<Opcode>(type) : Opcode::continuation;
  send_frame({.fin = last, .opcode = opcode}, payload, out);
}

void Protocol::send_ping(Bytes payload, ByteQueue& out) {
  send_frame({.opcode = Opcode::ping}, payload.first(std::min(payload.size(), control_bytes_max)),
             out);
}

void Protocol::send_pong(Bytes payload, ByteQueue& out) {
  send_frame({.opcode = Opcode::pong}, payload.first(std::min(payload.size(), control_bytes_max)),
             out);
}

void Protocol::send_close(std::uint16_t code, std::string_view reason, ByteQueue& out) {
  if (close_sent_) return;
  close_sent_ = true;
  // RFC 6455 7.4.1: 1005, 1006 and 1015 are never in a Close frame.
  if (!may_be_on_the_wire(code)) return send_frame({.opcode = Opcode::close}, {}, out);
  reason = sendable_reason(reason);
  std::uint8_t body[control_bytes_max] = {static_cast<std::uint8_t>(code >> 8),
                                          static_cast<std::uint8_t>(code)};
  std::copy(reason.begin(), reason.end(), body + 2);
  send_frame({.opcode = Opcode::close}, {body, 2 + reason.size()}, out);
}

void Protocol::send_frame(FrameHeader header, Bytes payload, ByteQueue& out) {
  header.payload_bytes = payload.size();
  // RFC 6455 5.1, 5.3, 10.3: a client masks every frame, with a fresh key from a strong source of
  // entropy; a server none.
  header.masked = role_ == Role::client;
  if (header.masked) header.mask = random_mask();
  const std::size_t header_bytes = header_size(payload.size(), header.masked);
  if (payload.empty() || header_bytes + payload.size() > ByteQueue::max_reserve) {
    write_header(header, out.reserve(header_bytes));
    return header.masked ? append_masked(payload, header.mask, 0, out) : out.append_lent(payload);
  }
  std::uint8_t* room = out.reserve(header_bytes + payload.size());
  room += write_header(header, room);
  if (header.masked) {
    apply_mask(payload, room, header.mask, 0);
  } else {
    std::memcpy(room, payload.data(), payload.size());
  }
}

// The caller's bytes are not ours to change, so they are masked on their way into the queue.
void Protocol::append_masked(Bytes payload, std::uint32_t mask, std::size_t offset,
                             ByteQueue& out) {
  while (!payload.empty()) {
    const MutableBytes room = out.extend(payload.size());
    apply_mask(payload.first(room.size()), room.data(), mask, offset);
    offset += room.size();
    payload = payload.subspan(room.size());
  }
}

void Protocol::begin_frame(MessageType type, bool first, bool last, std::uint64_t payload_bytes,
                           ByteQueue& out, bool compressed) {
  assert(!awaits_payload());
  // RFC 6455 5.5.1: no data frame after a Close frame.
  if (close_sent_) return;
  sending_left_ = payload_bytes;
  sending_fin_ = last;
  if (first) {
    sending_type_ = type;
    sending_first_ = true;
    // A message that goes on may become long enough.
    deflating_ = deflates(last ? payload_bytes : std::numeric_limits<std::uint64_t>::max()) &&
                 take_deflater();
  }
  if (deflating_) {
    if (payload_bytes == 0) end_deflated_frame(out);
    return;
  }
  FrameHeader header{.fin = last,
                     .masked = role_ == Role::client,
                     .compressed = first && compressed,
                     .opcode = first ? static_cast<Opcode>(type) : Opcode::continuation,
                     .payload_bytes = payload_bytes};
  if (header.masked) header.mask = random_mask();
  sending_mask_ = header.mask;
  sending_offset_ = 0;
  write_header(header, out.reserve(header_size(payload_bytes, header.masked)));
}

void Protocol::send_payload(Bytes piece, ByteQueue& out) {
  assert(piece.size() <= sending_left_);
  sending_left_ -= piece.size();
  if (deflating_) {
    if (close_sent_) return;
    feed_deflater(piece);
    return sending_left_ == 0 ? end_deflated_frame(out) : send_deflated(false, false, out);
  }
  if (role_ == Role::server) return out.append_lent(piece);
  append_masked(piece, sending_mask_, sending_offset_, out);
  sending_offset_ = static_cast<std::uint8_t>((sending_offset_ + piece.size()) % 4);
}

// ---- Compressing

bool Protocol::deflates(std::uint64_t message_bytes) const {
  return use() == Compression::Use::deflate && message_bytes != 0 &&
         message_bytes >= limits_->compression.message_bytes_min;
}

// Without memory for it a message is sent as it is.
bool Protocol::take_deflater() {
  std::unique_ptr<Deflater>& deflater = compression_->deflater;
  if (deflater != nullptr) return true;
  const CompressionSettings& settings = limits_->compression;
  deflater = settings.pool->take_deflater(compression_->sends, settings.level);
  if (deflater == nullptr) return false;
  if (compression_->sent_window) deflater->continue_after(compression_->sent_window->bytes());
  return true;
}

void Protocol::feed_deflater(Bytes piece) {
  compression_->deflater->feed(piece);
  if (compression_->sent_window) compression_->sent_window->append(piece);
}

// False if the message is better sent as it is.
bool Protocol::send_deflated_message(MessageType type, Bytes payload, ByteQueue& out) {
  if (!take_deflater()) return false;
  sending_type_ = type;
  sending_first_ = true;
  feed_deflater(payload);
  const MutableBytes room = limits_->compression.pool->deflate_buffer();
  const Deflater::Result result = compression_->deflater->deflate(room, true);
  // The receiver's context has what the messages before it were: nothing can be taken back then.
  if (!compression_->sends.context_takeover && !result.more && result.size >= payload.size()) {
    end_deflated();
    return false;
  }
  send_deflated_frame(room.first(result.size), !result.more, out);
  if (result.more) return send_deflated(true, true, out), true;
  end_deflated();
  return true;
}

// The frame's payload is complete: the receiver can inflate it, and a message ends with its last.
void Protocol::end_deflated_frame(ByteQueue& out) {
  send_deflated(true, sending_fin_, out);
}

// RFC 7692 7.2.1, of what was fed: it leaves in fragments of a buffer's size at most.
void Protocol::send_deflated(bool flush, bool end, ByteQueue& out) {
  const MutableBytes room = limits_->compression.pool->deflate_buffer();
  for (bool more = true; more;) {
    const Deflater::Result result = compression_->deflater->deflate(room, flush);
    more = result.more;
    const bool last = end && !more;
    if (result.size != 0 || last) send_deflated_frame(room.first(result.size), last, out);
  }
  if (end) end_deflated();
}

void Protocol::send_deflated_frame(Bytes payload, bool fin, ByteQueue& out) {
  // RFC 7692 7.2.3.6: an empty message is a single byte 0x00, since there was nothing to flush.
  constexpr std::uint8_t empty_block[] = {0x00};
  if (fin && sending_first_ && payload.empty()) payload = empty_block;
  send_frame({.fin = fin,
              .compressed = sending_first_,
              .opcode = sending_first_ ? static_cast<Opcode>(sending_type_) : Opcode::continuation},
             payload, out);
  sending_first_ = false;
  limits_->compression.pool->count_sent(payload.size());
}

void Protocol::end_deflated() {
  deflating_ = false;
  compression_->deflater->end_message();
  if (CompressionPool::keeps_deflater(compression_->sends)) return;
  limits_->compression.pool->give_back(std::move(compression_->deflater));
}

void Protocol::give_back_streams() {
  if (compression_ == nullptr || limits_->compression.pool == nullptr) return;
  limits_->compression.pool->give_back(std::move(compression_->inflater));
  limits_->compression.pool->give_back(std::move(compression_->deflater));
}

}  // namespace sluice::ws
