#include "bridges/publish.h"

#include <arpa/inet.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/crypto.h"
#include "base/field.h"
#include "http/authority.h"

namespace sluice::bridges {
namespace {

std::int64_t unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

// ---- Host

bool is_ip_address(std::string host) {
  in6_addr address{};
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return inet_pton(AF_INET, host.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

bool is_own_host(const std::string& host) {
  return host.empty() || host == "localhost" || is_ip_address(host);
}

// ---- Authorization

bool is_key(std::string_view text, std::string_view key) {
  return equal_in_constant_time(as_bytes(text), as_bytes(key));
}

bool is_authorized(std::string_view field, std::string_view key, std::int64_t now_s) {
  const std::size_t space = field.find(' ');
  if (space == std::string_view::npos) return false;
  const std::string scheme = to_lower(field.substr(0, space));
  const std::string_view credentials = trim(field.substr(space));
  if (scheme == "bearer") {
    return is_key(credentials, key) || is_valid_token(credentials, decode_grip_key(key), now_s);
  }
  if (scheme != "basic") return false;
  const auto pair = base64_decode(credentials);
  const std::size_t colon = pair ? pair->find(':') : std::string::npos;
  return colon != std::string::npos && is_key(std::string_view(*pair).substr(colon + 1), key);
}

// ---- Accept

// A quality of RFC 9110 12.4.2 in thousandths.
int quality(std::string_view parameters) {
  const std::size_t begin = parameters.find("q=");
  if (begin == std::string_view::npos) return 1000;
  int value = 0;
  int weight = 1000;
  for (const char c : parameters.substr(begin + 2)) {
    if (c == '.') continue;
    if (c < '0' || c > '9' || weight == 0) break;
    value += (c - '0') * weight;
    weight /= 10;
  }
  return value;
}

// How much the client wants a media type, by the most specific range that it names (RFC 9110
// 12.5.1).
int wanted(std::string_view accept, std::string_view type) {
  const std::string subtypes = std::string(type.substr(0, type.find('/'))) + "/*";
  int best = 0;
  std::size_t best_rank = 0;
  for (const std::string_view entry : split_list(accept)) {
    const std::size_t semicolon = std::min(entry.find(';'), entry.size());
    const std::string_view range = trim(entry.substr(0, semicolon));
    const std::size_t rank = equals_ignoring_case(range, type)       ? 3
                             : equals_ignoring_case(range, subtypes) ? 2
                             : range == "*/*"                        ? 1
                                                                     : 0;
    if (rank <= best_rank) continue;
    best_rank = rank;
    best = quality(entry.substr(semicolon));
  }
  return best;
}

enum class Answer : std::uint8_t { json, text, neither };

Answer wanted_answer(const http::Request& request) {
  const auto accept = request.header("Accept");
  if (!accept || accept->empty()) return Answer::json;
  const int json = wanted(*accept, "application/json");
  const int text = wanted(*accept, "text/plain");
  if (json == 0 && text == 0) return Answer::neither;
  return text > json ? Answer::text : Answer::json;
}

class PublishRelay final : public Relay {
 public:
  PublishRelay(Publisher& publisher, uv::Loop& home, std::string_view key, Refusals& refusals)
      : publisher_(publisher), home_(home), key_(key), refusals_(refusals) {}

  void on_request(const ClientRequest& request, RelayClient& client) override {
    client_ = &client;
    request_ = &request.request;
    publisher_address_ = request.client;
    if (const auto refusal = refuse_publisher(*request_, key_, unix_seconds())) refuse(*refusal);
  }

  void on_body(Bytes piece) override {
    if (answered_) return;
    if (body_.size() + piece.size() > publish_bytes_max) {
      return refuse(http::refusal(
          413, "more than " + std::to_string(publish_bytes_max) + " bytes to publish at once"));
    }
    body_ += as_text(piece);
  }

  void on_body_end(const std::vector<http::Header>&) override {
    if (answered_) return;
    auto items = parse_publish(body_);
    body_ = {};
    if (!items) return refuse(http::refusal(400, items.error().message));
    publisher_.publish(std::make_shared<const std::vector<Published>>(std::move(*items)), home_,
                       [this, alive = std::weak_ptr<bool>(alive_)](const Receipt& receipt) {
                         if (!alive.expired()) answer(published(*request_, receipt));
                       });
  }

  void on_drain() override {}
  void on_gone() override { alive_.reset(); }

 private:
  // Who guesses keys is seen, and who has a wrong one.
  void refuse(const http::Response& refusal) {
    ++refusals_.count;
    if (refusals_.log.due(home_.now_ms())) {
      const std::string_view why(refusal.body);  // one line
      log::warning("publish refused", {{"client", publisher_address_.to_string()},
                                       {"status", refusal.status},
                                       {"why", why.substr(0, why.find('\n'))},
                                       {"refused_so_far", refusals_.count}});
    }
    answer(refusal);
  }

  void answer(const http::Response& response) {
    answered_ = true;
    if (response.status != 200) return client_->refuse(response, response.body);
    http::Response head{.headers = response.headers, .body = {}, .content_length = {}};
    head.content_length = response.body.size();
    client_->respond(head);
    client_->send_body(as_bytes(response.body));
    client_->end_response();
  }

  Publisher& publisher_;
  uv::Loop& home_;
  const std::string_view key_;
  Refusals& refusals_;
  RelayClient* client_ = nullptr;
  const http::Request* request_ = nullptr;
  net::Endpoint publisher_address_;
  std::string body_;
  bool answered_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // until on_gone()
};

}  // namespace

std::optional<http::Response> refuse_publisher(const http::Request& request, std::string_view key,
                                               std::int64_t now_s) {
  if (request.count("Origin") > 0) return http::refusal(403, "not from a web page");
  if (!is_own_host(request.host)) {
    return http::refusal(403, "Host must be an IP address or localhost");
  }
  if (request.method != "POST") return http::refusal(405, "only POST", {{"Allow", "POST"}});
  const auto credentials = request.header("Authorization");
  if (!key.empty() && !is_authorized(credentials.value_or(""), key, now_s)) {
    return http::refusal(401, "the key is missing or wrong", {{"WWW-Authenticate", "Bearer"}});
  }
  if (wanted_answer(request) == Answer::neither) {
    return http::refusal(406, "answers are application/json or text/plain");
  }
  return {};
}

http::Response published(const http::Request& request, const Receipt& receipt) {
  http::Response response;
  if (wanted_answer(request) == Answer::text) {
    response.headers = {{"Content-Type", "text/plain"}};
    response.body = "Published\n";
    return response;
  }
  response.headers = {{"Content-Type", "application/json"}};
  response.body = R"({"message":"Published","matched":)" + std::to_string(receipt.matched) +
                  R"(,"written":)" + std::to_string(receipt.written) + R"(,"queued":)" +
                  std::to_string(receipt.queued) + R"(,"dropped":)" +
                  std::to_string(receipt.dropped) + "}\n";
  return response;
}

PublishRelayFactory::PublishRelayFactory(Publisher& publisher, uv::Loop& home, std::string key)
    : publisher_(publisher), home_(home), key_(std::move(key)) {}

std::unique_ptr<Relay> PublishRelayFactory::create() {
  return std::make_unique<PublishRelay>(publisher_, home_, key_, refusals_);
}

}  // namespace sluice::bridges
