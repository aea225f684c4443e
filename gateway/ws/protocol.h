// Protocol: the frames of RFC 6455 (sections 5 to 8) for one end of one connection, without I/O.
// With the one extension that there is, permessage-deflate (RFC 7692).
//
// Bytes go in through receive(), events are pulled with next_event(), frames to send are appended
// to a ByteQueue. It calls nobody and reads no clock. It does not answer a Ping or a Close by
// itself: when to answer, and whether, is the session's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/byte_queue.h"
#include "base/bytes.h"
#include "base/message_type.h"
#include "base/utf8.h"
#include "ws/compression.h"
#include "ws/frame.h"
#include "ws/permessage_deflate.h"
#include "ws/prepared_message.h"

namespace sluice::ws {

// Which end of the connection we are.
enum class Role : std::uint8_t { server, client };

struct CompressionSettings {
  CompressionPool* pool = nullptr;      // not null where compression may be agreed on
  std::uint8_t level = 2;               // as zlib counts, 1 to 9
  std::uint64_t message_bytes_min = 0;  // smaller messages are sent as they are
  // How many times as large as its compressed form a message may be, 0: no limit; smaller ones than
  // ratio_bytes_min may always. Above: 1009
  std::uint32_t ratio_max = 0;
  std::uint64_t ratio_bytes_min = 0;
};

struct ProtocolLimits {
  std::uint64_t message_bytes_max =
      0;                            // payload of all fragments, inflated; 0: no limit. Above: 1009
  std::uint32_t fragments_max = 0;  // frames of one message; 0: no limit. Above: 1008
  bool validate_utf8 = true;        // of text messages; not valid: 1007
  CompressionSettings compression{};
};

// What the two ends of one connection have agreed on, and what our end has to keep for it.
struct Compression {
  enum class Use : std::uint8_t {
    off,
    pass,     // compressed messages are events as they came, and are sent on as they are
    deflate,  // messages are inflated and deflated here
  };
  Use use = Use::off;
  DeflateDirection receives{};  // deflate only
  DeflateDirection sends{};
  std::unique_ptr<Inflater> inflater{};       // with context takeover, or in the midst of a message
  std::unique_ptr<Deflater> deflater{};       // kept, or in the midst of a message
  std::unique_ptr<SentWindow> sent_window{};  // with context takeover, if deflater is not kept
};

// With what context takeover has to keep. Nothing if there is no memory for it.
std::optional<Compression> make_compression(Role role, const DeflateParameters& agreed,
                                            const CompressionSettings& settings);

struct Event {
  enum class Type : std::uint8_t {
    data,     // a piece of a message: at most one frame, or what a read brought of it
    ping,     // to be answered with send_pong(payload) (RFC 6455 5.5.2)
    pong,     // solicited or not
    close,    // the peer's Close frame; nothing follows
    failure,  // the peer broke a rule; nothing follows: send_close(close_code), then drop TCP
  };

  Type type = Type::data;
  MessageType message_type = MessageType::binary;  // data: of the message that it belongs to
  bool message_start = false;                      // data: the first piece of the message
  bool message_end = false;                        // data: the last piece of the message
  bool frame_start = false;                        // data: the first piece of its frame
  bool frame_end = false;                          // data: the last piece of its frame
  bool fin = false;                                // data: its frame is the last of the message
  bool continuation = false;                       // data: its frame is not the message's first
  bool compressed = false;  // data: the payload is a part of a compressed message, as it came
  // data: the payload was compressed. The frame's pieces are not those that came, and may be empty.
  bool inflated = false;
  std::uint16_t close_code = 0;  // close: what was received, or 1005; failure: what to send
  std::uint64_t frame_bytes =
      0;  // data, with frame_start, not inflated: the payload that the header announced
  // data, ping, pong: the payload, unmasked. close, failure: the reason, valid UTF-8 of at most 123
  // bytes. Valid until the next receive(), an inflated one until the next next_event().
  MutableBytes payload;
};

class Protocol {
 public:
  // `limits` outlives the protocol.
  Protocol(Role role, const ProtocolLimits& limits, Compression compression = {});
  ~Protocol();
  Protocol(const Protocol&) = delete;
  Protocol& operator=(const Protocol&) = delete;

  // The next bytes from the peer, in the place of whatever was left of the last ones. They are
  // unmasked in place, and must stay where they are until next_event() has returned nothing, or
  // until rest() was copied elsewhere to be received later.
  void receive(MutableBytes bytes);
  // Nothing: all input was used. A frame or message without payload is an event too. After a close
  // or a failure all further input is discarded (RFC 6455 1.4, 7.1.7).
  std::optional<Event> next_event();
  // Bytes of the last receive() that no event has used yet.
  bool has_input() const { return in_ != nullptr && !in_->input.empty(); }
  // The input that was not used yet, as it was received: it has to be received again.
  MutableBytes rest();
  // Whether next_event() may have more although there is no input: of what is being inflated.
  bool pending() const;

  // Each appends one frame to `out`. Data frames are ignored after send_close() (RFC 6455 5.5.1).
  // Text must be valid UTF-8 over the whole message. A message that is compressed may become
  // several frames.
  void send_message(MessageType type, Bytes payload, ByteQueue& out);
  // The same for one that others receive too: its frames are made when none with the same terms has
  // received it. Each message is compressed anew for a receiver that keeps its context.
  // `may_borrow`: many bytes are not copied. Returns true if so: before the message is gone, `out`
  // has sent or has to keep() them.
  bool send_prepared(PreparedMessage& message, ByteQueue& out, bool may_borrow = false);
  // One fragment of a message, of no other in between.
  void send_fragment(MessageType type, Bytes payload, bool first, bool last, ByteQueue& out);
  // One frame in pieces: the header, then exactly `payload_bytes` with send_payload(). While
  // in_frame() nothing else may be sent in between. For relays, which pass on a frame before it has
  // arrived whole. `compressed`: it belongs to a message that passes as it came.
  void begin_frame(MessageType type, bool first, bool last, std::uint64_t payload_bytes,
                   ByteQueue& out, bool compressed = false);
  void send_payload(Bytes piece, ByteQueue& out);
  // A frame was begun, and not all of its payload has been sent.
  bool awaits_payload() const { return sending_left_ != 0; }
  // So it was on the wire too: what is compressed here leaves in whole frames of its own.
  bool in_frame() const { return sending_left_ != 0 && !deflating_; }
  // At most 125 bytes of payload; the rest is cut off.
  void send_ping(Bytes payload, ByteQueue& out);
  void send_pong(Bytes payload, ByteQueue& out);
  // Sends one Close frame; ignored the second time. A code that may not be on the wire (1005, 1006,
  // 1015 and everything undefined) makes an empty body. A reason over 123 bytes is cut between two
  // characters; one that is not UTF-8 is left out.
  void send_close(std::uint16_t code, std::string_view reason, ByteQueue& out);

  bool compresses() const { return use() == Compression::Use::deflate; }
  bool close_sent() const { return close_sent_; }
  // A message has begun and is not finished. False after a close or a failure: it never will be.
  bool in_message() const { return in_ != nullptr && in_->in_message; }
  // The same, and nothing of its next frame has come; of a control frame before that, perhaps.
  bool between_fragments() const {
    return in_message() &&
           (in_->state == State::control || (in_->state == State::header && !in_->header.begun()));
  }
  // A frame or a message has begun and is not finished, be it with one byte of a header.
  bool receiving() const {
    return in_ != nullptr &&
           (in_->in_message || in_->header.begun() || in_->state == State::control);
  }

  // Bytes on the wire of a frame that we send with that payload, header included.
  std::size_t frame_size(std::size_t payload_bytes) const {
    return header_size(payload_bytes, role_ == Role::client) + payload_bytes;
  }

 private:
  enum class State : std::uint8_t { header, data, control, ended };

  // The payload of a control frame that spans reads, and later of its event.
  struct ControlPayload {
    std::uint8_t size = 0;
    std::uint8_t bytes[control_bytes_max];
  };

  // What is known of the frame and the message that are being received.
  struct Reception {
    MutableBytes input;               // not used yet
    std::uint64_t frame_left = 0;     // payload bytes of the present frame not yet received
    std::uint64_t message_bytes = 0;  // announced by the frames of the present message so far
    std::unique_ptr<ControlPayload> gathering;  // a control frame that is incomplete
    std::unique_ptr<ControlPayload> delivered;  // what the last event points to; until receive()
    std::uint32_t mask = 0;                     // of the present frame
    std::uint32_t fragments = 0;                // frames of the present message so far
    HeaderParser header;
    std::uint8_t mask_offset = 0;  // where in the mask the next payload byte is
    Utf8Validator utf8;
    State state = State::header;
    Opcode control_opcode = Opcode::close;  // of the present control frame
    MessageType message_type = MessageType::binary;
    bool frame_fin = false;        // of the present data frame
    bool frame_started = false;    // a piece of the present data frame was delivered
    bool message_started = false;  // a piece of the present message was delivered
    bool in_message = false;
    bool compressed = false;  // the present message is, as it comes

    // All input was used, and nothing of it is missing.
    bool idle() const {
      return state == State::header && !header.begun() && !in_message && delivered == nullptr;
    }
  };

  Compression::Use use() const {
    return compression_ == nullptr ? Compression::Use::off : compression_->use;
  }
  static std::unique_ptr<Reception>& spare_reception();
  void give_back_reception();
  FrameRules rules() const;
  std::optional<Event> begin_frame();
  void begin_data_frame(const FrameHeader& header);
  struct Piece {
    MutableBytes bytes;
    bool ascii = false;  // all of it; false also means that nobody has looked
  };
  Piece take_payload();
  void put_back(std::size_t size);
  std::optional<Event> data_event();
  std::optional<Event> plain_event();
  std::optional<Event> inflated_event();
  bool feed_inflater();
  const Violation* check_inflated() const;
  void end_inflated();
  bool is_valid_text(const Piece& piece, bool message_end);
  void end_data_frame();
  std::optional<Event> control_event();
  std::optional<Event> gather_control();
  Event deliver_control(MutableBytes payload);
  Event close_event(MutableBytes payload);
  Event fail(const Violation& violation);
  void end();

  void send_frame(FrameHeader header, Bytes payload, ByteQueue& out);
  PreparedMessage::Form make_form(PreparedMessage::Terms terms, const PreparedMessage& message);
  bool deflates(std::uint64_t message_bytes) const;
  bool take_deflater();
  void feed_deflater(Bytes piece);
  bool send_deflated_message(MessageType type, Bytes payload, ByteQueue& out);
  void send_deflated(bool flush, bool end, ByteQueue& out);
  void send_deflated_frame(Bytes payload, bool fin, ByteQueue& out);
  void end_deflated_frame(ByteQueue& out);
  void end_deflated();
  void give_back_streams();
  static void append_masked(Bytes payload, std::uint32_t mask, std::size_t offset, ByteQueue& out);

  const ProtocolLimits* limits_;
  std::unique_ptr<Compression> compression_;  // null: off
  // Only while something is incomplete, so that idle connections hold no memory for it.
  std::unique_ptr<Reception> in_;
  std::uint64_t sending_left_ = 0;   // payload bytes of the frame that is being sent in pieces
  std::uint32_t sending_mask_ = 0;   // of that frame, as a client
  std::uint8_t sending_offset_ = 0;  // where in that mask the next byte is
  Role role_;
  MessageType sending_type_ = MessageType::binary;  // of the message that is sent in pieces
  bool deflating_ : 1 = false;      // the frame that is being sent in pieces is compressed here
  bool sending_fin_ : 1 = false;    // it is the last of its message
  bool sending_first_ : 1 = false;  // nothing of the message has left yet
  bool close_sent_ : 1 = false;
};

// One a connection, idle ones included.
static_assert(sizeof(Protocol) <= 40);

}  // namespace sluice::ws
