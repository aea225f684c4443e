#include "config/check_targets.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include "base/field.h"
#include "base/path_pattern.h"
#include "base/units.h"
#include "config/syntax.h"
#include "config/text.h"
#include "config/webhook_fields.h"

namespace sluice::config {
namespace {

// Says nothing where guessing would cost more than reading.
template <typename Value>
std::string did_you_mean(std::string_view name, const std::map<std::string, Value>& declared,
                         const Findings& findings) {
  constexpr std::size_t compared_max = 1000;
  if (findings.full() || declared.size() > compared_max) return "";
  std::vector<std::string_view> known;
  known.reserve(declared.size());
  for (const auto& [id, value] : declared) known.push_back(id);
  const auto meant = nearest(name, known);
  return meant ? " (did you mean " + in_quotes(*meant) + "?)" : "";
}

// ---- Upstreams.

void check_weights(const Upstream& upstream, const Node& endpoints, Findings& findings) {
  const bool used = std::any_of(upstream.endpoints.begin(), upstream.endpoints.end(),
                                [](const Endpoint& endpoint) { return endpoint.weight > 0; });
  if (!used) findings.add(endpoints.at, "no endpoint gets a client: every weight is 0");
}

void check_addresses(const Upstream& upstream, const Node& endpoints, Findings& findings) {
  std::unordered_map<std::string_view, std::uint32_t> seen;  // with their lines
  for (std::size_t i = 0; i < upstream.endpoints.size(); ++i) {
    const Node* address = endpoints.items[i].find("address");
    if (!address || address->faulty) continue;
    const auto [first, is_new] = seen.emplace(upstream.endpoints[i].address, address->at.line);
    if (is_new) continue;
    findings.add(address->at, "the endpoint " + upstream.endpoints[i].address + " stands in line " +
                                  std::to_string(first->second) + " already: give it a weight");
  }
}

void check_endpoints(const Upstream& upstream, const Node& node, Findings& findings) {
  const Node* endpoints = node.find("endpoints");
  if (!endpoints || endpoints->faulty || upstream.endpoints.empty()) return;
  check_weights(upstream, *endpoints, findings);
  check_addresses(upstream, *endpoints, findings);
}

void check_balance(const Upstream& upstream, const Node& node, Findings& findings) {
  const Node* hash_on = node.find("hash_on");
  if (!hash_on || hash_on->faulty || is_faulty(node.find("lb"))) return;
  if (upstream.balance != Balance::hash) {
    findings.add(hash_on->at, "hash_on is of use with \"lb: hash\" only");
  }
}

// Reports that the duration `low` exceeds `high`, at the one that the file gives.
void check_order(const Node& section, std::string_view low, std::uint64_t low_ms,
                 std::string_view high, std::uint64_t high_ms, Findings& findings) {
  const Node* first = section.find(low);
  const Node* second = section.find(high);
  if (low_ms <= high_ms || is_faulty(first) || is_faulty(second)) return;
  const Node* at = first ? first : second;
  findings.add(at ? at->at : section.at, std::string(low) + " (" + format_duration(low_ms) +
                                             ") must not exceed " + std::string(high) + " (" +
                                             format_duration(high_ms) + ")");
}

void check_health(const Upstream& upstream, const Node& node, Findings& findings) {
  if (const Node* section = node.find("health_check"); section && upstream.health_check) {
    check_order(*section, "timeout", upstream.health_check->timeout_ms, "interval",
                upstream.health_check->interval_ms, findings);
  }
  if (const Node* section = node.find("outlier_detection")) {
    const OutlierDetection& outliers = upstream.outlier_detection;
    check_order(*section, "base_ejection_time", outliers.base_ejection_time_ms, "max_ejection_time",
                outliers.max_ejection_time_ms, findings);
  }
}

void check_tls(const Upstream& upstream, const Node& node, Findings& findings) {
  const Node* section = node.find("tls");
  if (!upstream.tls || !section || section->faulty) return;
  const Node* cert = section->find("cert");
  const Node* key = section->find("key");
  if (!cert != !key) {
    findings.add((cert ? cert : key)->at, "cert and key belong together: give both or none");
  }
  if (!upstream.tls->verify || section->find("server_name")) return;
  const bool nameless =
      std::any_of(upstream.endpoints.begin(), upstream.endpoints.end(),
                  [](const Endpoint& endpoint) { return endpoint.address.starts_with("unix:"); });
  if (nameless) {
    findings.add(section->at, "a unix socket has no name to verify: \"server_name\" is missing");
  }
}

// ---- Targets.

void check_plugin(const Config& config, const PluginTarget& target, const Node& node,
                  const Node& root, Findings& findings) {
  const Node* name = node.find("plugin");
  if (!name || name->faulty || is_faulty(root.find("plugins"))) return;
  if (config.plugins.contains(target.plugin)) return;
  findings.add(name->at, "no plugin " + in_quotes(target.plugin) + " is declared in \"plugins\"" +
                             did_you_mean(target.plugin, config.plugins, findings));
}

void check_upstream(const Config& config, const std::string& upstream, const Node* node,
                    const Node& root, Findings& findings) {
  if (!node || node->faulty || is_faulty(root.find("upstreams"))) return;
  if (config.upstreams.contains(upstream)) return;  // as is each that is an address
  const bool number = upstream.find_first_not_of("0123456789") == std::string::npos;
  const auto meant = did_you_mean(upstream, config.upstreams, findings);
  const auto hint =
      "; an address is a host and a port: " + (number ? "127.0.0.1:" + upstream : upstream + ":80");
  findings.add(node->at, "no upstream " + in_quotes(upstream) + " is declared in \"upstreams\"" +
                             (meant.empty() ? hint : meant));
}

void check_tokens(const Config& config, const TcpTarget& target, const Node& tokens,
                  const Node& root, Findings& findings) {
  for (const Entry& entry : tokens.entries) {
    const auto token = target.tokens.find(entry.key);
    if (token == target.tokens.end()) continue;
    check_upstream(config, token->second, &entry.value, root, findings);
  }
}

void check_rewrite(const Route& route, const std::string& rewrite, const Node& node,
                   const Node& target, Findings& findings) {
  const Node* at = target.find("rewrite");
  const Node* path = node.find("path");
  if (!at || at->faulty || !path || path->faulty) return;
  const auto to = parse_path_pattern(rewrite);
  const auto from = parse_path_pattern(route.path);
  if (!to || !from) return;
  for (const auto& segment : to->segments) {
    const auto same = [&](const auto& other) {
      return other.parameter && other.text == segment.text;
    };
    if (!segment.parameter || std::any_of(from->segments.begin(), from->segments.end(), same)) {
      continue;
    }
    findings.add(at->at, "the route's path has no parameter {" + segment.text + "}");
  }
  if (to->any_suffix && !from->any_suffix) {
    findings.add(at->at,
                 "\"*\" stands for the rest of a path that ends in \"/*\": this one's does not");
  }
}

void check_grip(const WebhookTarget& target, const Node& section, Findings& findings) {
  const Node* grip = section.find("grip");
  if (!grip || grip->faulty || is_faulty(section.find("protocol"))) return;
  if (target.protocol == WebhookTarget::Protocol::message && target.grip) {
    findings.add(grip->at, "grip is of use with \"protocol: websocket-events\" only");
  }
}

// What is between two neighbours is passed on to nobody (RFC 9110 11.7, RFC 9113 3.2.1).
bool is_between_neighbours(std::string_view header) {
  static constexpr std::string_view names[] = {"proxy-authorization", "proxy-authenticate",
                                               "proxy-authentication-info", "http2-settings"};
  return std::ranges::find(names, to_lower(header)) != std::end(names);
}

void check_headers(const Node& target, Findings& findings) {
  const Node* headers = target.find("headers");
  std::set<std::string> seen;  // names know no case
  if (const Node* set = find(headers, "set")) {
    for (const Entry& entry : set->entries) {
      if (!seen.insert(to_lower(entry.key)).second) {
        findings.add(entry.key_at, in_quotes(entry.key) + " is set twice");
      }
      if (is_between_neighbours(entry.key)) {
        findings.add(entry.key_at, in_quotes(entry.key) + ": this field is not passed on");
      }
    }
  }
  if (const Node* remove = find(headers, "remove")) {
    for (const Node& name : remove->items) {
      if (equals_ignoring_case(name.text, "host")) {
        findings.add(name.at, "every request needs a Host field: set it instead");
      }
    }
  }
}

void check_webhook_headers(const Node& target, Findings& findings) {
  const Node* set = find(target.find("headers"), "set");
  if (set == nullptr) return;
  for (const Entry& entry : set->entries) {
    if (!is_webhook_field(entry.key)) continue;
    findings.add(entry.key_at,
                 in_quotes(entry.key) + ": this field is reserved in requests of webhooks");
  }
}

}  // namespace

bool is_stream(const Target& target) {
  return std::holds_alternative<TcpTarget>(target) || std::holds_alternative<HttpTarget>(target);
}

bool drops(SlowConsumer slow_consumer) {
  return slow_consumer == SlowConsumer::drop_oldest || slow_consumer == SlowConsumer::drop_newest;
}

std::vector<const std::string*> upstreams_of(const Target& target) {
  if (const auto* http = std::get_if<HttpTarget>(&target)) return {&http->upstream};
  if (const auto* webhook = std::get_if<WebhookTarget>(&target)) return {&webhook->upstream};
  const auto* tcp = std::get_if<TcpTarget>(&target);
  if (!tcp) return {};
  std::vector<const std::string*> all = {&tcp->upstream};
  for (const auto& [token, upstream] : tcp->tokens) all.push_back(&upstream);
  return all;
}

void check_upstreams(const Config& config, const Node& root, Findings& findings) {
  const Node* upstreams = root.find("upstreams");
  if (!upstreams) return;
  for (const Entry& entry : upstreams->entries) {
    const auto upstream = config.upstreams.find(entry.key);
    if (upstream == config.upstreams.end() || entry.value.kind != Node::Kind::mapping) continue;
    check_endpoints(upstream->second, entry.value, findings);
    check_balance(upstream->second, entry.value, findings);
    check_health(upstream->second, entry.value, findings);
    check_tls(upstream->second, entry.value, findings);
  }
}

void check_target(const Config& config, const Route& route, const Node& node, const Node& root,
                  Findings& findings) {
  if (const auto* plugin = std::get_if<PluginTarget>(&route.target)) {
    check_plugin(config, *plugin, node, root, findings);
  } else if (const auto* tcp = std::get_if<TcpTarget>(&route.target)) {
    const Node* section = node.find("tcp");
    check_upstream(config, tcp->upstream, find(section, "upstream"), root, findings);
    if (const Node* tokens = find(section, "tokens")) {
      check_tokens(config, *tcp, *tokens, root, findings);
    }
  } else if (const auto* http = std::get_if<HttpTarget>(&route.target)) {
    const Node* section = node.find("http");
    check_upstream(config, http->upstream, find(section, "upstream"), root, findings);
    check_rewrite(route, http->rewrite, node, *section, findings);
    check_headers(*section, findings);
  } else if (const auto* webhook = std::get_if<WebhookTarget>(&route.target)) {
    const Node* section = node.find("webhook");
    check_upstream(config, webhook->upstream, find(section, "upstream"), root, findings);
    check_rewrite(route, webhook->rewrite, node, *section, findings);
    check_headers(*section, findings);
    check_webhook_headers(*section, findings);
    check_grip(*webhook, *section, findings);
  }
}

}  // namespace sluice::config
