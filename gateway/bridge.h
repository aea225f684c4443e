// Bridge: the other end of a client's WebSocket. A plugin, or an upstream of some kind.
//
// A bridge answers a few events, always on its worker's thread and never from inside a call that it
// made itself. It knows ClientSocket, never Connection.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/bytes.h"
#include "base/turn.h"
#include "client_socket.h"
#include "metrics/counters.h"
#include "websocket.h"

namespace sluice {

// How a WebSocket ended: the three fields of a browser's CloseEvent, and who began it.
struct CloseEvent {
  std::uint16_t code;       // 1005: no code was received; 1006: no Close frame at all
  std::string_view reason;  // valid during the event
  bool was_clean;           // both Close frames were exchanged
  metrics::Initiator initiator = metrics::Initiator::network;
};

// One a connection. Destroyed after on_close, at the end of a turn.
class Bridge : public Turn::Mortal {
 public:
  // A client wants in: call accept() or reject() on the socket, now or later.
  virtual void on_open(const UpgradeRequest& request) = 0;

  // A bridge either takes whole messages or, if streams() says so, their pieces as they come.
  virtual bool streams() const { return false; }
  // A whole message; the payload is valid during the call. Only while OPEN.
  virtual void on_message(MessageType type, Bytes payload) = 0;
  // For a bridge that streams: a part of a frame, at most. Also comes while CLOSING if the bridge
  // itself closed: what the client had sent before it heard of that. Returns whether it is of use
  // to anybody: a client that goes on sending what is not has timeouts.close for its own Close.
  virtual bool on_piece(const MessagePiece&) { return false; }

  // buffered_amount() was over the high watermark, if only until the end of the turn, and is now
  // under the low one.
  virtual void on_drain() = 0;
  // Memory that what is under way to the upstream, and its answer, take: for eviction.
  virtual std::uint64_t held_bytes() const { return 0; }
  // Exactly once, and last. Comes for every bridge whose on_open was called.
  virtual void on_close(const CloseEvent& event) = 0;

  // After on_close: whether there is still something to be delivered to the upstream. Then the
  // bridge lives on, without its socket, until it tells its keeper that it has ended. It must end
  // by itself, by a deadline if nothing else.
  class Keeper {
   public:
    // The bridge has nothing more to do: it is destroyed at the end of the turn.
    virtual void on_bridge_done(Bridge& bridge) = 0;

   protected:
    ~Keeper() = default;
  };
  virtual bool outlives_socket() const { return false; }
  virtual void set_keeper(Keeper&) {}
  // The process ends now, or memory is short: whatever is left is dropped. The socket may be there
  // still, and ends in this turn.
  virtual void cut() {}
};

// Makes the bridges of one route on one worker. Outlives them.
class BridgeFactory {
 public:
  virtual ~BridgeFactory() = default;
  // `socket` is valid until the bridge's on_close has returned.
  virtual std::unique_ptr<Bridge> create(ClientSocket& socket) = 0;
};

}  // namespace sluice
