// GripSession: what a backend has asked for on one connection (channels, filters, messages to be
// sent later), and what is published to it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bridges/channels.h"
#include "bridges/grip.h"
#include "bridges/http_route.h"
#include "bridges/webhook_alarm.h"
#include "client_socket.h"

namespace sluice::bridges {

class GripSession final : public Subscriber {
 public:
  class Owner {
   public:
    // The backend wants to hear nothing more; the client stays.
    virtual void on_grip_detach() = 0;
    // A publisher wants the backend to be asked.
    virtual void on_grip_refresh() = 0;
    // A publisher has closed the socket.
    virtual void on_grip_close() = 0;
    // The backend asks for more than there may be.
    virtual void on_grip_violation(const std::string& detail) = 0;
    // Of what the backend asks for something is not done; `why` is for the log.
    virtual void on_grip_ignored(std::string_view why) = 0;

   protected:
    ~Owner() = default;
  };

  static constexpr std::size_t filters_max = 5;  // of a subscription
  static constexpr std::size_t name_bytes_max =
      1024;                                    // of a channel, a filter, a meta value's name
  static constexpr std::size_t meta_max = 32;  // values
  static constexpr std::size_t meta_value_bytes_max = 4096;

  // Everything outlives the session, which ends when the socket has closed.
  GripSession(const HttpRoute& route, Channels& channels, ClientSocket& socket, Owner& owner);

  // What follows "c:".
  void on_control(std::string_view json);
  // Whatever the backend sends goes through here, since keep-alives depend on it.
  void send(MessageType type, Bytes payload);

 private:
  Outcome deliver(const Published& item, ws::PreparedMessage& message,
                  const std::vector<std::string>& filters) override;
  bool flushed() const override { return socket_.buffered_amount() == 0; }

  void subscribe_to(const GripControl& control);
  void set_meta(const GripControl& control);
  void keep_alive(const GripControl& control);
  void send_delayed(const GripControl& control);
  void send_keep_alive();
  void flush_delayed();
  void begin_silence();
  Outcome deliver_content(const Published& item, ws::PreparedMessage& message,
                          const GripReceiver& receiver);
  void close(const Published& item);
  void send_content(const GripContent& content);

  struct KeepAlive {
    GripContent content;
    std::uint64_t timeout_ms;
    bool interval;  // not only after silence
  };

  const std::string& channel_prefix_;
  ClientSocket& socket_;
  Owner& owner_;
  GripMeta meta_;
  std::optional<KeepAlive> keep_alive_;
  std::optional<GripContent> delayed_;
  Alarm<GripSession> keep_alive_alarm_;
  Alarm<GripSession> delay_;
};

}  // namespace sluice::bridges
