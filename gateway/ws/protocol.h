// Protocol: the frames of RFC 6455 (sections 5 to 8) for one end of one connection, without I/O.
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

#include "base/byte_queue.h"
#include "base/bytes.h"
#include "base/message_type.h"
#include "base/utf8.h"
#include "ws/frame.h"

namespace sluice::ws {

// Which end of the connection we are.
enum class Role : std::uint8_t { server, client };

struct ProtocolLimits {
  std::uint64_t message_bytes_max = 0;  // payload of all fragments; 0: no limit. Above: 1009
  std::uint32_t fragments_max = 0;      // frames of one message; 0: no limit. Above: 1008
  bool validate_utf8 = true;            // of text messages; not valid: 1007
};

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
  std::uint16_t close_code = 0;   // close: what was received, or 1005; failure: what to send
  std::uint64_t frame_bytes = 0;  // data, with frame_start: the payload that the header announced
  // data, ping, pong: the payload, unmasked. close, failure: the reason, valid UTF-8 of at most 123
  // bytes. Valid until the next receive().
  MutableBytes payload;
};

class Protocol {
 public:
  // `limits` outlives the protocol.
  Protocol(Role role, const ProtocolLimits& limits) : limits_(&limits), role_(role) {}

  // The next bytes from the peer, in the place of whatever was left of the last ones. They are
  // unmasked in place, and must stay where they are until next_event() has returned nothing, or
  // until rest() was copied elsewhere to be received later.
  void receive(MutableBytes bytes);
  // Nothing: all input was used. A frame or message without payload is an event too. After a close
  // or a failure all further input is discarded (RFC 6455 1.4, 7.1.7).
  std::optional<Event> next_event();
  // The input that was not used yet, as it was received.
  MutableBytes rest() const { return input_; }

  // Each appends one frame to `out`. Data frames are ignored after send_close() (RFC 6455 5.5.1).
  // Text must be valid UTF-8 over the whole message.
  void send_message(MessageType type, Bytes payload, ByteQueue& out);
  // One fragment of a message, of no other in between.
  void send_fragment(MessageType type, Bytes payload, bool first, bool last, ByteQueue& out);
  // One frame in pieces: the header, then exactly `payload_bytes` with send_payload(). Nothing else
  // may be sent in between. For relays, which pass on a frame before it has arrived whole.
  void begin_frame(MessageType type, bool first, bool last, std::uint64_t payload_bytes,
                   ByteQueue& out);
  void send_payload(Bytes piece, ByteQueue& out);
  // A frame was begun and is not finished.
  bool in_frame() const { return sending_left_ != 0; }
  // At most 125 bytes of payload; the rest is cut off.
  void send_ping(Bytes payload, ByteQueue& out);
  void send_pong(Bytes payload, ByteQueue& out);
  // Sends one Close frame; ignored the second time. A code that may not be on the wire (1005, 1006,
  // 1015 and everything undefined) makes an empty body. A reason over 123 bytes is cut between two
  // characters; one that is not UTF-8 is left out.
  void send_close(std::uint16_t code, std::string_view reason, ByteQueue& out);

  bool close_sent() const { return close_sent_; }
  // A message has begun and is not finished. False after a close or a failure: it never will be.
  bool in_message() const { return in_message_; }
  // A frame or a message has begun and is not finished, be it with one byte of a header.
  bool receiving() const { return in_message_ || header_.begun() || state_ == State::control; }

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

  FrameRules rules() const;
  std::optional<Event> begin_frame();
  void begin_data_frame(const FrameHeader& header);
  MutableBytes take_payload();
  std::optional<Event> data_event();
  bool is_valid_text(Bytes piece, bool message_end);
  void end_data_frame();
  std::optional<Event> control_event();
  std::optional<Event> gather_control();
  Event deliver_control(MutableBytes payload);
  Event close_event(MutableBytes payload);
  Event fail(const Violation& violation);
  void end();

  void send_frame(Opcode opcode, bool fin, Bytes payload, ByteQueue& out);
  void send_masked(FrameHeader header, Bytes payload, ByteQueue& out);
  static void append_masked(Bytes payload, std::uint32_t mask, std::size_t offset, ByteQueue& out);

  const ProtocolLimits* limits_;
  MutableBytes input_;
  std::uint64_t frame_left_ = 0;     // payload bytes of the present frame not yet received
  std::uint64_t message_bytes_ = 0;  // announced by the frames of the present message so far
  // Only while a control frame is incomplete, so that idle connections hold no memory for it.
  std::unique_ptr<ControlPayload> gathering_;
  std::unique_ptr<ControlPayload> delivered_;  // what the last event points to; until receive()
  std::uint64_t sending_left_ = 0;   // payload bytes of the frame that is being sent in pieces
  std::uint32_t sending_mask_ = 0;   // of that frame, as a client
  std::uint8_t sending_offset_ = 0;  // where in that mask the next byte is
  std::uint32_t mask_ = 0;           // of the present frame
  std::uint32_t fragments_ = 0;      // frames of the present message so far
  HeaderParser header_;
  std::uint8_t mask_offset_ = 0;  // where in the mask the next payload byte is
  Utf8Validator utf8_;
  Role role_;
  State state_ = State::header;
  Opcode control_opcode_ = Opcode::close;  // of the present control frame
  MessageType message_type_ = MessageType::binary;
  bool frame_fin_ = false;        // of the present data frame
  bool frame_started_ = false;    // a piece of the present data frame was delivered
  bool message_started_ = false;  // a piece of the present message was delivered
  bool in_message_ = false;
  bool close_sent_ = false;
};

// One a connection, idle ones included.
static_assert(sizeof(Protocol) <= 120);

}  // namespace sluice::ws
