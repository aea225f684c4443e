// WebhookCall: one POST to a backend at a time, its whole answer, and the tries that it takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bridges/http_route.h"
#include "bridges/webhook_alarm.h"
#include "http/response_head.h"
#include "upstreams/http_exchange.h"

namespace sluice::bridges {

class WebhookCall final : private upstreams::HttpExchange::Owner {
 public:
  // An answer's body is held whole: a longer one is a failure. So is one that is not complete in
  // the request's response_timeout_ms, beginning when there is a connection.
  static constexpr std::size_t reply_bytes_max = 1'000'000;
  // After the first try; the n-th comes 2^(n-1) seconds after the one before, and up to one more.
  static constexpr unsigned retries_max = 5;

  struct Failure {
    int http_status;      // 502, 503 or 504
    std::string detail;   // for the log
    bool reached = true;  // the service may have seen something of the request
  };

  class Owner {
   public:
    // Either of them ends a call, which was posted before; another one may be posted at once. The
    // owner is not destroyed in them.
    virtual void on_reply(const http::ResponseHead& head, const std::string& body) = 0;
    virtual void on_call_failed(const Failure& failure) = 0;

   protected:
    ~Owner() = default;
  };

  enum class Retry : std::uint8_t {
    never,
    // Errors of the connection always, others as long as the request was not sent completely and no
    // answer has begun: so that no backend does its work twice.
    if_not_done,
  };

  // Everything outlives the call.
  WebhookCall(const HttpRoute& route, Owner& owner);
  ~WebhookCall();
  WebhookCall(const WebhookCall&) = delete;
  WebhookCall& operator=(const WebhookCall&) = delete;

  // Only while it is not busy.
  void post(upstreams::HttpRequest request, std::string body, Retry retry);
  // The owner hears nothing more of it.
  void cancel();
  bool busy() const { return busy_; }
  // Encrypted bytes of the request, not yet in the kernel.
  std::size_t buffered_tls() const;
  // Of the request and of what there is of its answer, copies included.
  std::size_t held_bytes() const;

 private:
  void on_informational(const http::ResponseHead&) override {}
  void on_response(const http::ResponseHead& head) override;
  void on_response_body(Bytes piece) override;
  void on_response_end(const std::vector<http::Header>& trailers) override;
  void on_request_drain() override;
  void on_exchange_failure(const upstreams::HttpFailure& failure) override;

  void attempt();
  void on_answer_due();
  void send_body();
  void retire_exchange();
  void count_failure();
  void fail(const Failure& failure);

  const HttpRoute& route_;
  Owner& owner_;
  std::unique_ptr<upstreams::HttpExchange> exchange_;  // null between two tries
  Alarm<WebhookCall> retry_alarm_;
  Alarm<WebhookCall> answer_due_;  // of one try, to its end
  upstreams::HttpRequest request_;
  std::string body_;
  std::size_t body_sent_ = 0;
  Retry retry_ = Retry::never;
  unsigned retries_ = 0;
  bool busy_ = false;
  http::ResponseHead head_;
  std::string reply_;
};

}  // namespace sluice::bridges
