#include "bridges/upstream_request.h"

#include <algorithm>
#include <string_view>
#include <variant>

#include "base/field.h"
#include "http/body.h"
#include "http/forward.h"

namespace sluice::bridges {
namespace {

using upstreams::HttpRequest;

// One pair of a Cookie field (RFC 6265 4.2.1) or of a query; empty if there is none.
std::string_view find_pair(std::string_view list, char separator, std::string_view name) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(separator), list.size());
    const std::string_view pair = trim(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
    if (pair.starts_with(name) && pair.substr(name.size()).starts_with('=')) {
      return pair.substr(name.size() + 1);
    }
  }
  return {};
}

std::string_view find_parameter(const ClientRequest& request, std::string_view name) {
  for (const auto& [parameter, value] : request.parameters) {
    if (parameter == name) return value;
  }
  return find_pair(request.request.query, '&', name);
}

http::ForwardRules forward_rules(const config::HeaderRules& rules) {
  http::ForwardRules result{.set = {}, .remove = rules.remove};
  for (const auto& [name, value] : rules.set) result.set.push_back({name, value});
  return result;
}

// The query as it came, even if it is no more than its question mark.
std::string upstream_target(const std::string& rewrite, const ClientRequest& request) {
  const http::Request& received = request.request;
  if (received.path == "*") return received.path;  // OPTIONS for the whole server
  std::string result = http::rewrite_path(rewrite, received.path, request.rest, request.parameters);
  if (received.target.find('?') != std::string::npos) result.append("?").append(received.query);
  return result;
}

template <typename Target>  // HttpTarget or WebhookTarget
HttpRequest request_to(const Target& target, const HttpRoute& route, const ClientRequest& request) {
  const std::string client_ip = request.client.ip();
  const http::ForwardedFrom from{.client_ip = client_ip,
                                 .secure = request.secure,
                                 .trusted = route.trusted_proxies.contains(client_ip)};
  return {.method = request.request.method,
          .target = upstream_target(target.rewrite, request),
          .headers = http::forwarded_headers(request.request, from, forward_rules(target.headers)),
          .body = http::request_framing(request.request),
          .hash_key = hash_key(route.upstream->config(), request),
          .connect_timeout_ms = route.connect_timeout_ms,
          .response_timeout_ms = target.response_timeout_ms,
          .high_watermark_bytes = route.route.buffers.high_watermark_bytes,
          .low_watermark_bytes = route.route.buffers.low_watermark_bytes,
          .user_timeout_ms = route.route.keepalive.tcp_user_timeout_ms};
}

}  // namespace

std::vector<http::Header> upstream_trailers(const HttpRoute& route,
                                            std::vector<http::Header> trailers) {
  const config::HeaderRules& rules = std::get<config::HttpTarget>(route.route.target).headers;
  std::erase_if(trailers, [&](const http::Header& field) {
    const auto names_it = [&](const std::string& name) {
      return equals_ignoring_case(name, field.name);
    };
    const auto sets_it = [&](const auto& rule) { return names_it(rule.first); };
    return std::any_of(rules.remove.begin(), rules.remove.end(), names_it) ||
           std::any_of(rules.set.begin(), rules.set.end(), sets_it);
  });
  return trailers;
}

HttpRequest upstream_request(const HttpRoute& route, const ClientRequest& request) {
  if (const auto* webhook = std::get_if<config::WebhookTarget>(&route.route.target)) {
    return request_to(*webhook, route, request);
  }
  return request_to(std::get<config::HttpTarget>(route.route.target), route, request);
}

std::string hash_key(const config::Upstream& upstream, const ClientRequest& request) {
  using Kind = config::HashOn::Kind;
  if (upstream.balance != config::Balance::hash) return {};
  const std::string& name = upstream.hash_on.name;
  switch (upstream.hash_on.kind) {
    case Kind::client:
      return request.client.ip();
    case Kind::header:
      return request.request.header(name).value_or("");
    case Kind::cookie:
      return std::string(find_pair(request.request.header("cookie").value_or(""), ';', name));
    case Kind::parameter:
      return std::string(find_parameter(request, name));
  }
  return {};
}

std::uint64_t dial_timeout(std::uint64_t handshake_timeout_ms) {
  constexpr std::uint64_t answer_ms = 500;
  return handshake_timeout_ms > 2 * answer_ms ? handshake_timeout_ms - answer_ms
                                              : handshake_timeout_ms / 2;
}

}  // namespace sluice::bridges
