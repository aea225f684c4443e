// The webhook bridge with `protocol: message`: one POST for each message, whose answer is the
// reply.
//
//   Sluice-Event: open     no body; an answer other than 2xx refuses the handshake with it
//   Sluice-Event: message  the message; Content-Type says whether it is text or binary
//   Sluice-Event: close    no body; Sluice-Close-Code and, percent-encoded, Sluice-Close-Reason
//
// All have the same Connection-Id. The body of a 2xx answer is sent to the client: as text if it is
// text/* or JSON and valid UTF-8, else as binary. No body: no reply. Any other answer to a message
// closes with 1011.
#pragma once

#include <string>
#include <vector>

#include "bridges/webhook_connection.h"

namespace sluice::bridges {

class WebhookMessageBridge final : public WebhookConnection {
 public:
  WebhookMessageBridge(const HttpRoute& route, ClientSocket& socket);

  void on_open(const UpgradeRequest& request) override;
  void on_message(MessageType type, Bytes payload) override;

 private:
  void on_turn() override;
  void on_client_gone(const CloseEvent& event) override;
  bool owes_end() const override;
  void on_reply(const http::ResponseHead& head, const std::string& body) override;
  void on_call_failed(const WebhookCall::Failure& failure) override;

  void answer_opening(const http::ResponseHead& head, const std::string& body);
  void send_reply(const http::ResponseHead& head, const std::string& body);

  upstreams::HttpRequest request_;  // but for what is different for each event
  std::vector<std::string> offered_;
  std::vector<http::Header> close_fields_;
};

}  // namespace sluice::bridges
