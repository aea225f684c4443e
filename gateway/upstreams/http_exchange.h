// HttpExchange: one request to an upstream and its response, over a kept or a new connection.
//
// Both bodies are streams. The exchange picks an endpoint, connects, retries what may be retried (a
// kept connection that turns out to be stale, an endpoint that does not answer), frames the
// request's body and takes the response apart. A finished one gives its connection back to the
// worker's HttpPool; one that is destroyed earlier closes it. On the worker's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "http/body.h"
#include "http/response_head.h"
#include "upstreams/dial.h"
#include "upstreams/http_pool.h"
#include "upstreams/upstream.h"
#include "worker_context.h"

namespace sluice::upstreams {

struct HttpRequest {
  std::string method;
  std::string target;                 // origin-form
  std::vector<http::Header> headers;  // all but what frames the body
  http::BodyFraming body;             // none, length or chunked
  bool upgrade = false;               // a 101 is an answer; the connection is new and never reused
  std::string hash_key = {};
  std::uint64_t connect_timeout_ms = 10'000;   // for all attempts
  std::uint64_t response_timeout_ms = 60'000;  // from the request's end to the response's head
  std::uint64_t handshake_timeout_ms = 0;      // from now to the response's head; 0: no such bound
  std::size_t high_watermark_bytes = 256 * 1024;  // of the request's body
  std::size_t low_watermark_bytes = 64 * 1024;
  std::uint64_t user_timeout_ms = 0;  // keepalive.tcp_user_timeout
};

struct HttpFailure {
  enum class Kind {
    connect,    // `dial` tells more
    timeout,    // no response in time: 504
    broken,     // the connection ended or broke before the response's head: 502
    malformed,  // what came is no HTTP: 502
    cut_off,    // the response's body is not complete
  };
  Kind kind;
  std::optional<DialFailure> dial = {};
  std::string detail;         // for the log; names the endpoint
  bool request_sent = false;  // completely: whoever repeats it may do its work twice

  int http_status() const;  // 502, 503 or 504
};

// What an upgrade leaves: the stream, and what already came behind the 101.
struct Upgraded {
  std::unique_ptr<net::Transport> transport;  // reading is off; call set_owner() at once
  Lease lease;
  std::vector<std::uint8_t> received;
};

class HttpExchange final : public Turn::Mortal {
 public:
  class Owner {
   public:
    virtual void on_informational(const http::ResponseHead& head) = 0;  // 1xx but 101
    virtual void on_response(const http::ResponseHead& head) = 0;       // once
    virtual void on_response_body(Bytes piece) = 0;
    virtual void on_response_end(const std::vector<http::Header>& trailers) = 0;  // last
    // request_buffered() rose over the high watermark before, and is under the low one.
    virtual void on_request_drain() = 0;
    virtual void on_exchange_failure(const HttpFailure& failure) = 0;  // last

   protected:
    ~Owner() = default;
  };

  // The owner hears of nothing from inside the constructor or any call. In its events the owner may
  // give the exchange to Turn::retire(), but not destroy it; if more could follow that it does not
  // want to hear, it calls cancel() first.
  HttpExchange(WorkerContext& context, HttpPool& pool, std::shared_ptr<Upstream> upstream,
               HttpRequest request, Owner& owner);
  ~HttpExchange() override;

  // The request's body, as its framing announced it.
  void send_body(Bytes piece);
  void end_body(const std::vector<http::Header>& trailers = {});
  std::size_t request_buffered() const;  // plain bytes not yet in the kernel
  std::size_t request_buffered_tls() const;

  // Whether the response is read. After pause() nothing of it is delivered, its end and what was
  // received already included, until resume().
  void pause();
  void resume();

  // No event comes any more, and the connection is closed. For somebody who is inside of an event.
  void cancel();
  // Who hears of what follows: the rest of a response may be somebody else's business.
  void set_owner(Owner& owner);

  // After on_response() with status 101 (also inside of it). The exchange is over.
  Upgraded take_upgraded();
  // With the field that frames its body among the headers.
  const HttpRequest& request() const;
  const Upstream& upstream() const;
  // The endpoint that answers; null before one was found. For the log.
  const Endpoint* endpoint() const;
  // When it had a connection, on the worker's clock; nothing while there is none.
  std::optional<std::uint64_t> connected_ms() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::upstreams
