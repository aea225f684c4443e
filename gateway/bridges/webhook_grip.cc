#include "bridges/webhook_grip.h"

#include <algorithm>
#include <utility>

#include "ws/close_code.h"

namespace sluice::bridges {
namespace {

// Of a message whose variables were substituted.
constexpr std::size_t substituted_bytes_max = 1'000'000;

bool has_long_names(const GripControl& control) {
  const auto is_long = [](const std::string& name) {
    return name.size() > GripSession::name_bytes_max;
  };
  return is_long(control.name) || std::ranges::any_of(control.filters, is_long);
}

}  // namespace

GripSession::GripSession(const HttpRoute& route, Channels& channels, ClientSocket& socket,
                         Owner& owner)
    : Subscriber(channels),
      channel_prefix_(std::get<config::WebhookTarget>(route.route.target).channel_prefix),
      socket_(socket),
      owner_(owner),
      keep_alive_alarm_(route.context.wheel, *this, &GripSession::send_keep_alive),
      delay_(route.context.wheel, *this, &GripSession::flush_delayed) {}

// ---- What the backend asks for

void GripSession::on_control(std::string_view json) {
  const auto control = parse_control(json);
  if (!control)
    return owner_.on_grip_ignored("a control message is malformed or of an unknown type");
  if (has_long_names(*control))
    return owner_.on_grip_ignored("a name in a control message is too long");
  switch (control->type) {
    case GripControl::Type::subscribe:
      return subscribe_to(*control);
    case GripControl::Type::unsubscribe:
      return unsubscribe(channel_prefix_ + control->name);
    case GripControl::Type::detach:
      return owner_.on_grip_detach();
    case GripControl::Type::session:
      return;  // names a session across connections, which nobody asks about here
    case GripControl::Type::set_meta:
      return set_meta(*control);
    case GripControl::Type::keep_alive:
      return keep_alive(*control);
    case GripControl::Type::send_delayed:
      return send_delayed(*control);
    case GripControl::Type::flush_delayed:
      return flush_delayed();
  }
}

void GripSession::subscribe_to(const GripControl& control) {
  if (control.filters.size() > filters_max) {
    return owner_.on_grip_violation("a subscription with more than " + std::to_string(filters_max) +
                                    " filters");
  }
  if (!subscribe(channel_prefix_ + control.name, control.filters)) {
    owner_.on_grip_ignored("too many subscriptions");
  }
}

void GripSession::set_meta(const GripControl& control) {
  if (!control.value) {
    meta_.erase(control.name);
  } else if (control.value->size() <= meta_value_bytes_max &&
             (meta_.size() < meta_max || meta_.contains(control.name))) {
    meta_[control.name] = *control.value;
  } else {
    owner_.on_grip_ignored("too many meta values, or one that is too long");
  }
}

void GripSession::keep_alive(const GripControl& control) {
  keep_alive_.reset();
  keep_alive_alarm_.clear();
  if (!control.content) return;
  keep_alive_ = {*control.content, control.timeout_ms, control.interval};
  keep_alive_alarm_.set(control.timeout_ms);
}

void GripSession::send_delayed(const GripControl& control) {
  flush_delayed();
  delayed_ = control.content;
  delay_.set(control.timeout_ms);
}

// ---- What is sent

void GripSession::send(MessageType type, Bytes payload) {
  socket_.send(type, payload);
  begin_silence();
}

// After which a keep-alive is due.
void GripSession::begin_silence() {
  if (keep_alive_ && !keep_alive_->interval) keep_alive_alarm_.set(keep_alive_->timeout_ms);
}

void GripSession::send_content(const GripContent& content) {
  if (content.is_message()) send(content.message_type(), as_bytes(content.bytes));
}

void GripSession::send_keep_alive() {
  send_content(keep_alive_->content);
  keep_alive_alarm_.set(keep_alive_->timeout_ms);
}

void GripSession::flush_delayed() {
  delay_.clear();
  if (const auto content = std::exchange(delayed_, std::nullopt)) send_content(*content);
}

// ---- What is published

Subscriber::Outcome GripSession::deliver(const Published& item, ws::PreparedMessage& message,
                                         const std::vector<std::string>& filters) {
  const GripReceiver receiver{filters, meta_, subscriptions()};
  if (item.action == Published::Action::none || !passes_filters(item, receiver)) {
    return Outcome::filtered;
  }
  if (socket_.ready_state() != ReadyState::open) return Outcome::dropped;
  if (item.action == Published::Action::send) return deliver_content(item, message, receiver);
  if (item.action == Published::Action::close) {
    close(item);
  } else {
    owner_.on_grip_refresh();
  }
  return Outcome::sent;
}

Subscriber::Outcome GripSession::deliver_content(const Published& item,
                                                 ws::PreparedMessage& message,
                                                 const GripReceiver& receiver) {
  std::string buffer;
  const auto content = filtered_content(item, receiver, substituted_bytes_max, buffer);
  if (!content || !item.content.is_message()) return Outcome::dropped;
  // Whose variables were substituted is the only one to get those words.
  ws::PreparedMessage substituted(message.type(), as_bytes(*content), 1);
  const bool as_it_is = content->data() == item.content.bytes.data();
  const bool sent = socket_.send_prepared(as_it_is ? message : substituted);
  begin_silence();
  return sent ? Outcome::sent : Outcome::dropped;
}

void GripSession::close(const Published& item) {
  const std::uint16_t code = item.code.value_or(ws::no_status);
  const bool normal = code == ws::no_status || code == ws::normal;
  owner_.on_grip_close();
  socket_.close_with(
      {.code = code,
       .text = item.reason,
       .initiator = metrics::Initiator::upstream,
       .reason = normal ? metrics::CloseReason::normal : metrics::CloseReason::application,
       .detail = "published"});
}

}  // namespace sluice::bridges
