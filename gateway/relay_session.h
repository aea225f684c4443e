// RelaySession: a plain HTTP request while a relay answers it: the client's side of both bodies.
//
// It takes the request's body apart, frames the response's, and stands between a relay and a client
// that does not read or does not send. What it writes leaves when its owner flushes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client_request.h"
#include "config/config.h"
#include "http/body.h"
#include "http/request.h"
#include "http/response.h"
#include "net/transport.h"
#include "relay.h"

namespace sluice {

class RelaySession final : private RelayClient {
 public:
  // It owns the transport too, and hands on what that tells of the client.
  class Owner : public net::Transport::Owner {
   public:
    // turn_end() is to be called at the end of this turn.
    virtual void on_relay_wake() = 0;
    // The final response's status is known; `why` if it is a refusal of ours.
    virtual void on_relay_response(int status, std::string_view why) = 0;
    // Who will answer.
    virtual void on_relay_upstream(std::string_view upstream, std::string_view endpoint) = 0;
    // http::http_date() of now; valid until it is asked for again.
    virtual std::string_view http_date() = 0;

   protected:
    ~Owner() = default;
  };

  struct Settings {
    const config::Buffers& buffers;  // of the route
    bool close_after;                // the connection ends after this response in any case
    std::uint64_t connection_id;
  };

  // Everything passed by reference outlives the session; `request.request` too.
  RelaySession(std::unique_ptr<Relay> relay, ClientRequest request, net::Transport& transport,
               Settings settings, Owner& owner);
  ~RelaySession() override;

  // Begins: the relay gets the request. Otherwise turn_end() begins.
  void start();
  // Bytes from the client.
  void receive(Bytes bytes);
  // The client will send no more.
  void on_client_end();
  // To be called after the transport was flushed, and when the kernel took some of the response.
  void on_flushed();
  void turn_end();
  // The client has let us wait too long.
  void time_out();
  // The client has gone, or the response is complete. The relay is given back, to be destroyed at
  // the end of a turn.
  std::unique_ptr<Relay> end();
  // The connection is to end after this response, and it says so if it has not begun.
  void close_after() { close_after_ = true; }
  // What came behind the request's body: it belongs to the next request.
  std::vector<std::uint8_t> take_rest() { return std::move(held_); }

  enum class State : std::uint8_t {
    answering,  // not over
    complete,   // the response is in the transport's output
    broken,     // the response cannot be completed: the connection is to be broken off
  };
  State state() const { return state_; }
  // Of the request's body, here and at the relay. What the client does not take of the response
  // is the transport's.
  std::uint64_t held_bytes() const { return held_.size() + relay_->held_bytes(); }
  std::string_view why_broken() const { return why_broken_; }
  // The connection has to end once the response has left.
  bool closes() const { return close_after_; }
  // Whether the session waits for the client: for more of its body, or for it to read.
  bool waits_for_client() const;
  // Of the request's body, that have come so far; modulo 2^32.
  std::uint32_t body_bytes() const { return body_bytes_; }
  // The whole request was received, and an answer has begun that nobody knows the length of.
  bool streaming() const { return responded_ && open_ended_ && body_.ended(); }

 private:
  // RelayClient
  void name_upstream(std::string_view upstream, std::string_view endpoint) override {
    owner_.on_relay_upstream(upstream, endpoint);
  }
  void inform(const http::Response& head) override;
  void respond(const http::Response& head) override;
  void send_body(Bytes piece) override;
  void end_response(const std::vector<http::Header>& trailers) override;
  void refuse(const http::Response& response, std::string_view why) override;
  void abort_response(std::string_view why) override;
  std::size_t buffered_amount() const override { return transport_.buffered_bytes(); }
  void pause_body() override;
  void resume_body() override;
  std::uint64_t id() const override { return settings_.connection_id; }

  http::ResponseContext context() const;
  bool put(const http::Response& response);
  // More of the request's body has to come.
  bool expects_body() const { return request_.request.has_body && !body_.ended(); }
  void take_body(Bytes bytes);
  void refuse_cut_off_body();
  void update_reading();
  void wrote();
  void end_with(State state);

  std::unique_ptr<Relay> relay_;
  const ClientRequest request_;
  net::Transport& transport_;
  const Settings settings_;
  Owner& owner_;

  http::BodyReader body_;
  std::vector<std::uint8_t> held_;  // received while the body was paused, or behind it
  State state_ = State::answering;
  std::string why_broken_;
  bool started_ = false;
  bool body_paused_ = false;
  std::uint32_t body_bytes_ = 0;
  bool responded_ = false;   // the final head is out
  bool chunked_ = false;     // the response
  bool open_ended_ = false;  // it, too: its length is not known
  bool bodiless_ = false;    // HEAD, 204, 304: its body is left out
  bool close_after_ = false;
  bool over_high_ = false;
  bool client_ended_ = false;
};

}  // namespace sluice
