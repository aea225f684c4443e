#include "bridges/webhook_message_bridge.h"

#include <array>
#include <utility>

#include "base/field.h"
#include "base/percent.h"
#include "base/utf8.h"
#include "bridges/webhook_request.h"

namespace sluice::bridges {
namespace {

constexpr std::array<std::string_view, 1> handshake_fields = {"Sec-WebSocket-Protocol"};

bool is_success(const http::ResponseHead& head) {
  return head.status >= 200 && head.status <= 299;
}

// text/*, application/json and what is written in JSON (RFC 6839 3.1).
bool is_text(const http::ResponseHead& head) {
  const std::string field = to_lower(head.header("Content-Type").value_or(""));
  const std::string_view type = trim(std::string_view(field).substr(0, field.find(';')));
  return type.starts_with("text/") || type == "application/json" || type.ends_with("+json");
}

std::string percent_encode(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    if (is_unreserved(c)) {
      encoded += c;
    } else {
      append_escape(encoded, c);
    }
  }
  return encoded;
}

const char* event_name(EventType type) {
  if (type == EventType::open) return "open";
  return type == EventType::close ? "close" : "message";
}

}  // namespace

WebhookMessageBridge::WebhookMessageBridge(const HttpRoute& route, ClientSocket& socket)
    : WebhookConnection(route, socket) {}

void WebhookMessageBridge::on_open(const UpgradeRequest&) {
  const ClientRequest handshake = socket()->handshake();
  request_ = webhook_request(route(), handshake, handshake_fields, make_connection_id());
  offered_ = offered_protocols(handshake.request);
  await_opening();
  push(EventType::open, {});
}

void WebhookMessageBridge::on_message(MessageType type, Bytes payload) {
  if (over()) return;
  push(type == MessageType::text ? EventType::text : EventType::binary,
       std::string(as_text(payload)));
}

void WebhookMessageBridge::on_client_gone(const CloseEvent& event) {
  if (over()) return;
  // What the backend has not heard of needs no end.
  const bool opening = !queue().empty() && queue().front().type == EventType::open;
  if (opening && !call().busy()) return finish();
  close_fields_ = {{"Sluice-Close-Code", std::to_string(event.code)}};
  if (!event.reason.empty()) {
    close_fields_.push_back({"Sluice-Close-Reason", percent_encode(event.reason)});
  }
  push(EventType::close, {});
}

// The first is what was told last.
bool WebhookMessageBridge::owes_end() const {
  return !queue().empty() && queue().front().type != EventType::open &&
         queue().front().type != EventType::close;
}

void WebhookMessageBridge::on_turn() {
  if (queue().empty()) return;
  const Waiting& event = queue().front();
  upstreams::HttpRequest request = request_;
  request.headers.push_back({"Sluice-Event", event_name(event.type)});
  if (event.type == EventType::text) {
    request.headers.push_back({"Content-Type", "text/plain; charset=utf-8"});
  } else if (event.type == EventType::binary) {
    request.headers.push_back({"Content-Type", "application/octet-stream"});
  } else if (event.type == EventType::close) {
    request.headers.insert(request.headers.end(), close_fields_.begin(), close_fields_.end());
  }
  const bool opening = event.type == EventType::open;
  call().post(std::move(request), event.content,
              opening ? WebhookCall::Retry::never : WebhookCall::Retry::if_not_done);
}

void WebhookMessageBridge::on_reply(const http::ResponseHead& head, const std::string& body) {
  const EventType answered = queue().front().type;
  if (answered == EventType::close) return finish();
  if (answered == EventType::open) {
    answer_opening(head, body);
  } else if (is_success(head)) {
    send_reply(head, body);
  } else {
    return give_up_invalid("a message was answered with " + std::to_string(head.status));
  }
  if (over()) return;
  pop();
  wake();
}

void WebhookMessageBridge::answer_opening(const http::ResponseHead& head, const std::string& body) {
  if (!is_success(head)) return refuse(relayed_refusal(head, body), "the backend refused");
  accept(head, offered_);  // unless the client has gone: the backend hears of that next
  send_reply(head, body);
}

void WebhookMessageBridge::send_reply(const http::ResponseHead& head, const std::string& body) {
  if (body.empty() || !is_open()) return;
  const bool text = is_text(head) && is_valid_utf8(as_bytes(body));
  socket()->send(text ? MessageType::text : MessageType::binary, as_bytes(body));
}

void WebhookMessageBridge::on_call_failed(const WebhookCall::Failure& failure) {
  give_up_unanswered(failure);
}

}  // namespace sluice::bridges
