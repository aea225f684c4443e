// Bridge: the other end of a client's WebSocket. A plugin, or an upstream of some kind.
//
// A bridge answers four events, always on its worker's thread and never from inside a call that it
// made itself. It knows WebSocket, never Connection.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/bytes.h"
#include "websocket.h"

namespace sluice {

// How a WebSocket ended: the three fields of a browser's CloseEvent.
struct CloseEvent {
  std::uint16_t code;       // 1005: no code was received; 1006: no Close frame at all
  std::string_view reason;  // valid during the event
  bool was_clean;           // both Close frames were exchanged
};

// One a connection. Destroyed after on_close, at the end of the turn.
class Bridge {
 public:
  virtual ~Bridge() = default;

  // A client wants in: call accept() or reject() on the socket, now or later.
  virtual void on_open(const UpgradeRequest& request) = 0;
  // A whole message; the payload is valid during the call. Only while OPEN.
  virtual void on_message(MessageType type, Bytes payload) = 0;
  // buffered_amount() rose over the high watermark before, and is now under the low one.
  virtual void on_drain() = 0;
  // Exactly once, and last. Comes for every bridge whose on_open was called.
  virtual void on_close(const CloseEvent& event) = 0;
};

// Makes the bridges of one route on one worker. Outlives them.
class BridgeFactory {
 public:
  virtual ~BridgeFactory() = default;
  // `socket` outlives the bridge.
  virtual std::unique_ptr<Bridge> create(WebSocket& socket) = 0;
};

}  // namespace sluice
