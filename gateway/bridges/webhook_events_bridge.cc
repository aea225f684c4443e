#include "bridges/webhook_events_bridge.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <utility>

#include "base/field.h"
#include "base/utf8.h"
#include "bridges/webhook_request.h"
#include "ws/close_code.h"

namespace sluice::bridges {
namespace {

constexpr std::array<std::string_view, 3> handshake_fields = {
    "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol"};

constexpr std::uint64_t poll_interval_seconds_min = 20;
constexpr std::uint64_t poll_interval_seconds_max = 24 * 3600;

constexpr std::size_t meta_max = 32;
constexpr std::size_t meta_bytes_max = 8 * 1024;
constexpr std::string_view set_meta_prefix = "set-meta-";

std::int64_t unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end) return {};
  return number;
}

bool has_events(const http::ResponseHead& head) {
  const std::string field = head.header("Content-Type").value_or("");
  const std::string_view type = trim(std::string_view(field).substr(0, field.find(';')));
  return head.status == 200 && equals_ignoring_case(type, events_content_type);
}

bool is_end(EventType type) {
  return type == EventType::close || type == EventType::disconnect;
}

std::size_t bytes_of(const std::vector<http::Header>& headers) {
  std::size_t bytes = 0;
  for (const http::Header& header : headers) bytes += header.name.size() + header.value.size();
  return bytes;
}

}  // namespace

WebhookEventsBridge::WebhookEventsBridge(const HttpRoute& route, Channels& channels,
                                         const std::string& grip_key, ClientSocket& socket)
    : WebhookConnection(route, socket),
      channels_(channels),
      grip_key_(grip_key),
      poll_(route.context.wheel, *this, &WebhookEventsBridge::on_poll) {}

// ---- What the client does

void WebhookEventsBridge::on_open(const UpgradeRequest&) {
  const ClientRequest handshake = socket()->handshake();
  request_ = webhook_request(route(), handshake, handshake_fields, make_connection_id());
  offered_ = offered_protocols(handshake.request);
  await_opening();
  poll_due_ = true;
  wake();
}

void WebhookEventsBridge::on_message(MessageType type, Bytes payload) {
  if (over() || detached_) return;  // who has detached wants to hear nothing
  push(type == MessageType::text ? EventType::text : EventType::binary,
       std::string(as_text(payload)));
}

void WebhookEventsBridge::on_client_gone(const CloseEvent& event) {
  session_.reset();
  poll_.clear();
  if (over()) return;
  // What the backend has not heard of, or does not want to hear of any more, needs no end.
  const bool unheard = !answered_ && !call().busy();
  if (unheard || (detached_ && queue().empty() && !call().busy())) return finish();
  if (detached_) return;
  // A backend that has put off its OPEN is told as well, and not with another OPEN.
  if (!call().busy()) opened_ = true;
  if (!event.was_clean) return push(EventType::disconnect, {});
  push(EventType::close,
       closed_by_publisher_ ? std::string() : close_content(event.code, event.reason));
}

bool WebhookEventsBridge::owes_end() const {
  return opened_ && !sent_end_ && !queue().empty();
}

// ---- Requests

void WebhookEventsBridge::on_turn() {
  if (poll_due_ || (opened_ && queue().size() > replay_events_)) post_events();
}

void WebhookEventsBridge::on_poll() {
  poll_due_ = true;
  wake();
}

void WebhookEventsBridge::post_events() {
  poll_due_ = false;
  poll_.clear();
  std::string body;
  sent_events_ = sent_bytes_ = 0;
  if (!opened_) {
    append_event({EventType::open, {}}, body);
  } else {
    for (const Waiting& event : queue()) {
      append_event({event.type, event.content}, body);
      sent_bytes_ += event.content.size();
    }
    sent_events_ = queue().size();
    sent_end_ = !queue().empty() && is_end(queue().back().type);
  }
  upstreams::HttpRequest request = request_;
  std::ranges::move(request_headers(), std::back_inserter(request.headers));
  call().post(std::move(request), std::move(body),
              opened_ ? WebhookCall::Retry::if_not_done : WebhookCall::Retry::never);
}

std::vector<http::Header> WebhookEventsBridge::request_headers() const {
  const std::string type(events_content_type);
  std::vector<http::Header> headers = {{"Accept", type}, {"Content-Type", type}};
  if (target().grip) {
    headers.push_back({"Sec-WebSocket-Extensions", "grip"});
    headers.push_back({"Grip-Feature", std::string(grip_features)});
  }
  if (!grip_key_.empty()) {
    headers.push_back(
        {"Grip-Sig", sign_grip_token(grip_key_, target().grip_issuer, unix_seconds())});
  }
  for (const http::Header& meta : meta_) headers.push_back({"Meta-" + meta.name, meta.value});
  if (replay_bytes_ > 0) {
    headers.push_back({"Content-Bytes-Replayed", std::to_string(replay_bytes_)});
  }
  return headers;
}

// ---- Replies

void WebhookEventsBridge::on_reply(const http::ResponseHead& head, const std::string& body) {
  if (detached_) {
    if (!has_events(head)) warn_of_loss("it was answered with " + std::to_string(head.status));
    return after_detach();
  }
  if (only_disconnected()) return finish();
  if (!check_reply(head, body)) return;
  if (!take_accepted(head) || !take_meta(head)) return;
  take_keep_alive(head);
  take_extension(head);
  answered_ = true;
  take_events(head, body);
  after_reply();
}

// Then it does not matter what is answered. Else that tells what became of the messages before.
bool WebhookEventsBridge::only_disconnected() const {
  return sent_events_ == 1 && queue().size() == 1 && queue().front().type == EventType::disconnect;
}

bool WebhookEventsBridge::check_reply(const http::ResponseHead& head, const std::string& body) {
  if (!has_events(head)) {
    if (!opened_) {
      refuse(relayed_refusal(head, body), "the backend refused");
    } else {
      give_up_invalid("events were answered with " + std::to_string(head.status) + " " +
                      head.header("Content-Type").value_or("without Content-Type"));
    }
    return false;
  }
  if (!is_well_formed(body)) {
    give_up_invalid("the events of an answer are malformed");
    return false;
  }
  return true;
}

// Content-Bytes-Accepted: what the backend has taken of the contents. The rest is sent again,
// together with what follows.
bool WebhookEventsBridge::take_accepted(const http::ResponseHead& head) {
  const auto field = head.header("Content-Bytes-Accepted");
  const std::uint64_t accepted = field ? parse_number(*field).value_or(sent_bytes_) : sent_bytes_;
  if (accepted > sent_bytes_) {
    give_up_invalid("more bytes were accepted than there were");
    return false;
  }
  std::size_t left = accepted;
  std::size_t events_left = sent_events_;
  while (events_left > 0 && queue().front().content.size() <= left) {
    left -= queue().front().content.size();
    pop();
    --events_left;
  }
  if (events_left > 0 && left > 0) shorten_first(left);
  replay_events_ = events_left;
  replay_bytes_ = sent_bytes_ - accepted;
  if (events_left > 0 && queue().front().type == EventType::close) {
    give_up_invalid("a close was not accepted");
    return false;
  }
  progress_ = events_left < sent_events_ || accepted > 0;
  const bool all_was_offered = events_left == queue().size();
  if (!progress_ && events_left > 0 && all_was_offered && is_full()) {
    give_up_invalid("nothing was accepted of all that there is room for");
    return false;
  }
  return true;
}

bool WebhookEventsBridge::take_meta(const http::ResponseHead& head) {
  for (const http::Header& header : head.headers) {
    if (!to_lower(header.name).starts_with(set_meta_prefix)) continue;
    const std::string name = header.name.substr(set_meta_prefix.size());
    if (name.empty()) continue;
    std::erase_if(meta_,
                  [&](const http::Header& meta) { return equals_ignoring_case(meta.name, name); });
    if (!header.value.empty()) meta_.push_back({name, header.value});
  }
  if (meta_.size() <= meta_max && bytes_of(meta_) <= meta_bytes_max) return true;
  give_up_invalid("too much Set-Meta");
  return false;
}

void WebhookEventsBridge::take_keep_alive(const http::ResponseHead& head) {
  const auto field = head.header("Keep-Alive-Interval");
  if (!field) return;
  const std::uint64_t seconds = parse_number(*field).value_or(0);
  poll_interval_ms_ = seconds == 0 ? 0
                                   : 1000 * std::clamp(seconds, poll_interval_seconds_min,
                                                       poll_interval_seconds_max);
}

void WebhookEventsBridge::take_extension(const http::ResponseHead& head) {
  if (opened_ || !target().grip) return;
  grip_ = parse_grip_extension(head.header("Sec-WebSocket-Extensions").value_or(""));
}

void WebhookEventsBridge::take_events(const http::ResponseHead& head, const std::string& body) {
  EventReader reader(body);
  if (!opened_ && !open(head, reader.next())) return;
  while (const auto event = reader.next()) {
    if (!is_open() || detached_ || !handle(*event)) return;
  }
}

// Returns whether the socket is open, so that more events may follow.
bool WebhookEventsBridge::open(const http::ResponseHead& head, const std::optional<Event>& first) {
  if (!first && poll_interval_ms_ > 0) return false;  // the backend decides later
  if (!first || first->type != EventType::open) {
    give_up_invalid("the first answer does not begin with OPEN");
    return false;
  }
  opened_ = true;
  accept(head, offered_);
  if (!is_open()) return false;
  if (grip_) {
    session_ = std::make_unique<GripSession>(route(), channels_, *socket(),
                                             static_cast<GripSession::Owner&>(*this));
  }
  return true;
}

// Returns whether further events count.
bool WebhookEventsBridge::handle(const Event& event) {
  switch (event.type) {
    case EventType::open:
      give_up_invalid("OPEN came again");
      return false;
    case EventType::text:
    case EventType::binary:
      deliver(event);
      return true;
    case EventType::ping:
    case EventType::pong:
      return true;
    case EventType::close:
      close_client(event.content);
      return false;
    case EventType::disconnect:
      socket()->abort({.code = ws::abnormal,
                       .text = {},
                       .initiator = metrics::Initiator::upstream,
                       .reason = metrics::CloseReason::application,
                       .detail = "the backend disconnected"});
      finish();
      return false;
  }
  return false;
}

void WebhookEventsBridge::deliver(const Event& event) {
  constexpr std::string_view control_prefix = "c:";
  const bool text = event.type == EventType::text;
  std::string_view content = event.content;
  if (session_ != nullptr) {
    if (text && content.starts_with(control_prefix)) {
      return session_->on_control(content.substr(control_prefix.size()));
    }
    if (!content.starts_with(grip_->message_prefix)) {
      return on_grip_ignored("a message without the prefix of GRIP");
    }
    content.remove_prefix(grip_->message_prefix.size());
  }
  if (text && !is_valid_utf8(as_bytes(content))) return give_up_invalid("a text is not UTF-8");
  const MessageType type = text ? MessageType::text : MessageType::binary;
  if (session_ != nullptr) {
    session_->send(type, as_bytes(content));
  } else {
    socket()->send(type, as_bytes(content));
  }
}

// Libraries write 0 for "no code in particular".
void WebhookEventsBridge::close_client(std::string_view content) {
  const CloseContent close = parse_close(content);
  std::uint16_t code = ws::no_status;
  if (content.size() >= 2) code = close.code.value_or(ws::normal);
  const bool normal = code == ws::no_status || code == ws::normal;
  socket()->close_with(
      {.code = code,
       .text = close.reason,
       .initiator = metrics::Initiator::upstream,
       .reason = normal ? metrics::CloseReason::normal : metrics::CloseReason::application});
}

void WebhookEventsBridge::after_reply() {
  if (over()) return;
  if (socket() == nullptr) return after_last_reply();
  if (given_up()) return;
  if (poll_interval_ms_ > 0 && !detached_) poll_.set(poll_interval_ms_);
  if (replay_events_ > 0 && queue().size() == replay_events_) {
    // The backend waits for the rest of something: it has to have room here.
    if (is_full()) {
      poll_due_ = true;
    } else {
      read_client();
    }
  }
  wake();
}

// Nothing comes from the client any more: the backend takes what there is now, or never.
void WebhookEventsBridge::after_last_reply() {
  opened_ = true;
  if (queue().empty()) return finish();
  if (queue().size() == replay_events_) {
    if (!progress_) return give_up_invalid("what the client said last was not accepted");
    poll_due_ = true;
  }
  wake();
}

void WebhookEventsBridge::on_call_failed(const WebhookCall::Failure& failure) {
  if (detached_) {
    warn_of_loss(failure.detail);
    return after_detach();
  }
  give_up_unanswered(failure);
}

// ---- GRIP

void WebhookEventsBridge::on_grip_refresh() {
  if (detached_) return;
  poll_due_ = true;
  wake();
}

void WebhookEventsBridge::on_grip_detach() {
  if (detached_) return;
  detached_ = true;
  push(EventType::close, {});
}

// Once a client: a service makes the same mistake with each message.
void WebhookEventsBridge::on_grip_ignored(std::string_view why) {
  if (!std::exchange(told_of_ignored_, true)) log_warning("webhook message ignored", why);
}

void WebhookEventsBridge::on_queue_dropped() {
  sent_events_ = sent_bytes_ = 0;
  replay_events_ = replay_bytes_ = 0;
}

// What the client had said before the backend detached was in the last request.
void WebhookEventsBridge::warn_of_loss(std::string_view why) const {
  if (sent_events_ > 1) log_warning("webhook failed", why);
}

// That was the last request, whatever became of it.
void WebhookEventsBridge::after_detach() {
  clear_queue();
  replay_events_ = replay_bytes_ = 0;
  if (socket() == nullptr) finish();
  wake();  // what is buffered has changed
}

}  // namespace sluice::bridges
