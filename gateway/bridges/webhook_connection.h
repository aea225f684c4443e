// WebhookConnection: what the bridges of both webhook protocols have in common. What the client
// says waits in a queue, one request at a time takes it to the backend, and while too much waits,
// the client is not read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "bridge.h"
#include "bridges/events.h"
#include "bridges/http_route.h"
#include "bridges/webhook_alarm.h"
#include "bridges/webhook_call.h"

namespace sluice::bridges {

class WebhookConnection : public Bridge, protected WebhookCall::Owner, private Turn::Entry {
 public:
  // The bridge outlives its socket until what the client said has been delivered, or cannot be.
  bool outlives_socket() const final { return !over_; }
  std::uint64_t held_bytes() const final { return queued_bytes_ + call_.held_bytes(); }
  void set_keeper(Keeper& keeper) final { keeper_ = &keeper; }
  void cut() final;

  void on_drain() final { wake(); }
  void on_close(const CloseEvent& event) final;

 protected:
  // Everything outlives the bridge.
  WebhookConnection(const HttpRoute& route, ClientSocket& socket);
  ~WebhookConnection() override;

  // At the end of a turn in which something changed, unless a request is on its way, the client
  // does not read or is being closed after a failure: starts the next one, if it is time.
  virtual void on_turn() = 0;
  // The client has gone: queues what the backend shall hear of that, unless the bridge is over.
  virtual void on_client_gone(const CloseEvent& event) = 0;
  // The client has gone, the service had let it in, and no request has told it of the end yet,
  // which is the last in the queue.
  virtual bool owes_end() const = 0;
  // The queue was emptied and the call cancelled, in the midst of whatever it was.
  virtual void on_queue_dropped() {}

  // ---- The queue
  struct Waiting {
    EventType type;
    std::string content;
  };
  void push(EventType type, std::string content);
  void pop();
  // Takes away the first bytes of the first one.
  void shorten_first(std::size_t bytes);
  void clear_queue();
  // Reads the client on, whatever waits.
  void read_client();
  const std::deque<Waiting>& queue() const { return queue_; }
  // More waits than the route's high watermark allows.
  bool is_full() const { return queued_bytes_ > buffers().high_watermark_bytes; }

  // ---- The client
  // Null once it has gone.
  ClientSocket* socket() { return socket_; }
  bool is_open() const { return socket_ != nullptr && socket_->ready_state() == ReadyState::open; }
  bool is_connecting() const {
    return socket_ != nullptr && socket_->ready_state() == ReadyState::connecting;
  }
  // Refuses a client for whom the backend has not decided in time. If it has heard of the client,
  // it hears of the end too.
  void await_opening();
  // Completes the opening handshake as the backend's answer says.
  void accept(const http::ResponseHead& head, const std::vector<std::string>& offered);
  // The backend does not answer (bad_gateway), or does not do what it should (internal_error).
  // Refuses or closes the client. If it can be reached, it hears that a client that was in has
  // gone, and of nothing else any more.
  void give_up_unanswered(const WebhookCall::Failure& failure);
  void give_up_invalid(const std::string& detail);
  void refuse(http::Response response, std::string_view why);
  // Nothing more is said to the backend.
  void finish();
  bool over() const { return over_; }
  bool given_up() const { return given_up_; }

  // ---- The backend
  void wake() { context().turn.wake(*this); }
  WebhookCall& call() { return call_; }
  void report_buffered();
  void log_warning(std::string_view event, std::string_view why) const;

  const HttpRoute& route() const { return route_; }
  const config::WebhookTarget& target() const { return target_; }
  const config::Buffers& buffers() const { return route_.route.buffers; }
  WorkerContext& context() const { return route_.context; }

 private:
  void on_turn_end() override;
  bool client_is_full() const;
  void resume_client();
  void end_client(int http_status, std::uint16_t code, const std::string& detail);
  void drop_queue();
  void drop_all_but_end();
  void await_last_call();
  void run_out();

  const HttpRoute& route_;
  const config::WebhookTarget& target_;
  ClientSocket* socket_;
  const std::uint64_t id_;
  Keeper* keeper_ = nullptr;
  WebhookCall call_;
  std::deque<Waiting> queue_;
  std::size_t queued_bytes_ = 0;
  bool paused_ = false;
  bool given_up_ = false;
  bool over_ = false;
  Alarm<WebhookConnection> deadline_;  // of the opening; after on_close: of what is to be delivered
};

}  // namespace sluice::bridges
