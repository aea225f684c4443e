// Relay: what answers a client's plain HTTP request from somewhere else, as a stream in both
// directions. RelayClient: what it sees of the client.
//
// All of it happens on the worker's thread. No event is delivered from inside a call to the client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/turn.h"
#include "client_request.h"
#include "http/response.h"

namespace sluice {

class RelayClient {
 public:
  virtual ~RelayClient() = default;

  // Which endpoint of which upstream answers, for the log. Before respond().
  virtual void name_upstream(std::string_view, std::string_view) {}
  // A 1xx response other than 101. Left out for HTTP/1.0 clients (RFC 9110 15.2).
  virtual void inform(const http::Response& head) = 0;
  // The head of the final response. `head.headers` are without what frames the body and without
  // hop-by-hop fields: Content-Length stands in `head.content_length`. Without it the body is
  // chunked, or ends with the connection for an HTTP/1.0 client. `head.body` is not used.
  virtual void respond(const http::Response& head) = 0;
  // Parts of the body; ignored for HEAD, 204 and 304.
  virtual void send_body(Bytes piece) = 0;
  // The body is complete. Trailers are sent if it is chunked.
  virtual void end_response(const std::vector<http::Header>& trailers = {}) = 0;
  // Answers with a whole response, such as http::refusal(502, ...): instead of respond().
  virtual void refuse(const http::Response& response, std::string_view why) = 0;
  // After respond(): the body cannot be completed. The client's connection is broken off, so that
  // nobody takes what it got for all.
  virtual void abort_response(std::string_view why) = 0;

  // Bytes of the response that the kernel has not taken yet. Over the high watermark: stop, until
  // on_drain().
  virtual std::size_t buffered_amount() const = 0;
  // Whether the request's body is read.
  virtual void pause_body() = 0;
  virtual void resume_body() = 0;
  // The connection's number in the log.
  virtual std::uint64_t id() const = 0;
};

class Relay : public Turn::Mortal {
 public:
  // Once, first. The request is valid until on_gone() or the response's end.
  virtual void on_request(const ClientRequest& request, RelayClient& client) = 0;
  // The request's body: on_body() any number of times, then on_body_end() once; also for a request
  // without a body. A relay that is not interested any more ignores them.
  virtual void on_body(Bytes piece) = 0;
  virtual void on_body_end(const std::vector<http::Header>& trailers) = 0;
  // buffered_amount() rose over the high watermark before, and is now under the low one.
  virtual void on_drain() = 0;
  // The client has gone, or its response is complete. Last; then the relay is destroyed.
  virtual void on_gone() = 0;
  // Bytes of the request's body that it holds.
  virtual std::uint64_t held_bytes() const { return 0; }
};

// Makes the relays of one route on one worker. Outlives them.
class RelayFactory {
 public:
  virtual ~RelayFactory() = default;
  virtual std::unique_ptr<Relay> create() = 0;
};

}  // namespace sluice
