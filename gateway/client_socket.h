// ClientSocket: what the gateway's own bridges see of a client, beyond what plugins see.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "client_request.h"
#include "http/response.h"
#include "metrics/counters.h"
#include "websocket.h"

namespace sluice {

class Relay;
namespace ws {
class PreparedMessage;
}

// A part of a frame, as it was received. `payload` is unmasked, valid during the event, and never
// larger than what one read brings.
struct MessagePiece {
  MessageType type;    // of the message
  bool message_start;  // the first piece of the message
  bool frame_start;    // the first piece of its frame
  bool frame_end;      // the last piece of its frame
  bool fin;            // its frame is the last of the message
  bool compressed =
      false;  // the message passes as it came, for a peer that has agreed to inflate it
  std::uint64_t frame_payload_bytes;  // with frame_start: of the whole frame, as announced
  Bytes payload;
};

// Why a bridge ends a WebSocket, in the words of the log and the metrics.
struct Ending {
  std::uint16_t code;  // on the wire; one that may not be there (1005, 1006) makes an empty Close
  std::string text;    // the close reason on the wire
  metrics::Initiator initiator = metrics::Initiator::upstream;
  metrics::CloseReason reason = metrics::CloseReason::normal;
  std::string detail = {};  // for the log
};

class ClientSocket : public WebSocket {
 public:
  // ---- While CONNECTING; the calls are ignored otherwise.
  // The handshake's request; valid until the socket has opened or was refused.
  virtual ClientRequest handshake() const = 0;
  // The address that the client connected to.
  virtual net::Endpoint local_endpoint() const = 0;
  // Completes the opening handshake with the upstream's own choice of a subprotocol (empty: none)
  // and header fields of the upstream's. Fails if the client did not offer it. `extensions`: what
  // the upstream has agreed to of the client's offers; compressed messages pass then.
  virtual void accept_as(std::string_view protocol, std::vector<http::Header> headers,
                         std::string_view extensions = {}) = 0;
  // Which endpoint of which upstream the client was connected to, for the log.
  virtual void name_upstream(std::string_view upstream, std::string_view endpoint) = 0;
  // Answers with a whole response instead. `why` is for the log.
  virtual void reject_with(http::Response response, metrics::HandshakeResult result,
                           std::string_view why) = 0;
  // The upstream answered the upgrade like a plain request: from here on `relay` serves the client,
  // and the bridge gets its on_close.
  virtual void answer_plainly(std::unique_ptr<Relay> relay) = 0;

  // ---- While OPEN; ignored otherwise.
  // send() for a message that many receive. False if this one will not: it is not OPEN, or no
  // longer, or the route's slow_consumer policy is against it.
  virtual bool send_prepared(ws::PreparedMessage& message) = 0;
  // Sends one frame in pieces: a header that announces `payload_bytes`, then exactly as many with
  // send_payload(). Nothing else goes to the client in between; pongs, pings and a Close wait for
  // the frame's end.
  virtual void begin_frame(MessageType type, bool message_start, bool message_end,
                           std::uint64_t payload_bytes, bool compressed = false) = 0;
  virtual void send_payload(Bytes piece) = 0;
  // The same for a piece that another session has received.
  virtual void pass_on(const MessagePiece& piece) = 0;
  // Starts the closing handshake with any code. In the midst of a frame that will never be
  // finished: call abort().
  virtual void close_with(const Ending& ending) = 0;
  // Drops the connection without a Close frame.
  virtual void abort(const Ending& ending) = 0;

  // ---- Any time.
  // The route's watermarks hold for the direction to the upstream too; this is what /metrics shows
  // of it. Call it when the amounts have changed.
  virtual void set_upstream_buffered(std::size_t app_bytes, std::size_t tls_bytes) = 0;
  // The connection's number in the log.
  virtual std::uint64_t id() const = 0;
};

}  // namespace sluice
