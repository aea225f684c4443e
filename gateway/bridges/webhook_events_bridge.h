// The webhook bridge with `protocol: websocket-events`: WebSocket-over-HTTP with GRIP
// (shared/websocket-over-http.md 2a).
//
// The gateway answers pings by itself: the backend hears of none, and those that it sends are
// passed over. So is everything that it sends after its own CLOSE.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bridges/grip.h"
#include "bridges/webhook_connection.h"
#include "bridges/webhook_grip.h"

namespace sluice::bridges {

class WebhookEventsBridge final : public WebhookConnection, private GripSession::Owner {
 public:
  // `grip_key` is decoded; empty: requests are not signed. All of it outlives the bridge.
  WebhookEventsBridge(const HttpRoute& route, Channels& channels, const std::string& grip_key,
                      ClientSocket& socket);

  void on_open(const UpgradeRequest& request) override;
  void on_message(MessageType type, Bytes payload) override;

 private:
  void on_turn() override;
  void on_client_gone(const CloseEvent& event) override;
  bool owes_end() const override;
  void on_reply(const http::ResponseHead& head, const std::string& body) override;
  void on_call_failed(const WebhookCall::Failure& failure) override;
  void on_grip_detach() override;
  void on_grip_refresh() override;
  void on_grip_close() override { closed_by_publisher_ = true; }
  void on_grip_violation(const std::string& detail) override { give_up_invalid(detail); }
  void on_grip_ignored(std::string_view why) override;

  void post_events();
  std::vector<http::Header> request_headers() const;
  void on_poll();

  bool only_disconnected() const;

  // The parts of a reply. Those that return false have ended the connection.
  bool check_reply(const http::ResponseHead& head, const std::string& body);
  bool take_accepted(const http::ResponseHead& head);
  bool take_meta(const http::ResponseHead& head);
  void take_keep_alive(const http::ResponseHead& head);
  void take_extension(const http::ResponseHead& head);
  void take_events(const http::ResponseHead& head, const std::string& body);
  bool open(const http::ResponseHead& head, const std::optional<Event>& first);
  bool handle(const Event& event);
  void deliver(const Event& event);
  void close_client(std::string_view content);
  void after_reply();
  void after_last_reply();
  void on_queue_dropped() override;
  void warn_of_loss(std::string_view why) const;
  void after_detach();

  Channels& channels_;
  const std::string& grip_key_;
  upstreams::HttpRequest request_;  // but for what is different for each
  std::vector<std::string> offered_;
  std::vector<http::Header> meta_;  // Set-Meta, without the prefix

  bool answered_ = false;  // there was a reply
  bool opened_ = false;    // the backend said OPEN: whether GRIP is spoken is decided
  bool detached_ = false;
  bool closed_by_publisher_ = false;
  bool told_of_ignored_ = false;
  std::optional<GripExtension> grip_;
  std::unique_ptr<GripSession> session_;  // with grip_, while the client is there

  std::size_t sent_events_ = 0;    // of the queue, in the request that is on its way
  std::size_t sent_bytes_ = 0;     // their contents
  bool sent_end_ = false;          // the client's end is one of them
  std::size_t replay_events_ = 0;  // of the queue, sent before and not accepted
  std::size_t replay_bytes_ = 0;   // what of their contents is left
  bool progress_ = false;          // the last request took something off the queue

  std::uint64_t poll_interval_ms_ = 0;  // 0: no polls
  bool poll_due_ = false;               // a request is wanted, events or not
  Alarm<WebhookEventsBridge> poll_;
};

}  // namespace sluice::bridges
