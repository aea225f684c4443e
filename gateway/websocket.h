// WebSocket: what a bridge sees of a client, in the words that a browser has for its own end.
//
// Everything here is called on the worker's thread. No event is ever delivered from inside one of
// these calls: what they cause is told later in the same turn of the loop, through Bridge.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/message_type.h"

namespace sluice {

// WebSocket.readyState. Only ever moves forward.
enum class ReadyState : std::uint8_t { connecting = 0, open = 1, closing = 2, closed = 3 };

// The opening handshake as the client sent it. Valid while Bridge::on_open runs, also after
// accept() or reject() were called in it.
class UpgradeRequest {
 public:
  virtual ~UpgradeRequest() = default;
  virtual std::string_view path() const = 0;   // normalised; what the router matched
  virtual std::string_view query() const = 0;  // without "?"; empty if there is none
  virtual std::string_view host() const = 0;
  virtual std::string_view origin() const = 0;          // empty if the client sent none
  virtual std::string_view client_address() const = 0;  // "192.0.2.1:49152", "unix"
  virtual std::string_view route() const = 0;           // the route's name
  // The value of a header field, names compared without case; fields that came more than once are
  // joined with ", ". Empty if there is none.
  virtual std::string_view header(std::string_view name) const = 0;
  // The value of a {name} segment of the route's path, percent-decoded. Empty if there is none.
  virtual std::string_view parameter(std::string_view name) const = 0;
  // The index-th subprotocol that the client offers, in its order of preference; empty past the
  // end.
  virtual std::string_view offered_protocol(std::size_t index) const = 0;
};

class WebSocket {
 public:
  virtual ~WebSocket() = default;

  virtual ReadyState ready_state() const = 0;
  // Bytes accepted by send() and not yet handed to the kernel, frame headers included.
  virtual std::size_t buffered_amount() const = 0;
  // The subprotocol agreed on; empty if none.
  virtual std::string_view protocol() const = 0;

  // Completes the opening handshake. The subprotocol is the route's choice unless `protocol` names
  // another of those the client offered. Ignored unless CONNECTING. Returns false, and does
  // nothing, if the client did not offer `protocol`.
  virtual bool accept(std::string_view protocol = {}) = 0;
  // Refuses it with an HTTP status of 400 to 599. Ignored unless CONNECTING.
  virtual void reject(int status, std::string_view reason) = 0;

  // Sends one message. Text must be valid UTF-8. Ignored unless OPEN.
  virtual void send(MessageType type, Bytes payload) = 0;
  // Starts the closing handshake: code 1000 or 3000 to 4999, reason at most 123 bytes of UTF-8.
  // Ignored unless OPEN. Returns false, and does nothing, if the code or the reason may not be
  // sent.
  virtual bool close(std::uint16_t code = 1000, std::string_view reason = {}) = 0;
  // The bridge cannot go on: closes with 1011 (refuses with 500 while CONNECTING), and the reason
  // is plugin_failed or upstream_failed in the log, which also has `what`, and in the metrics.
  virtual void fail(std::string_view what) = 0;

  // Stops and resumes the delivery of messages: while paused the client's socket is not read, TCP
  // pushes back, and the browser sees its own bufferedAmount grow.
  virtual void pause() = 0;
  virtual void resume() = 0;
};

}  // namespace sluice
