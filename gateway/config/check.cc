#include "config/check.h"

#include <algorithm>
#include <unordered_map>

#include "base/path_pattern.h"
#include "base/units.h"
#include "config/check_targets.h"
#include "config/syntax.h"
#include "config/text.h"

namespace sluice::config {
namespace {

// Where a setting of a route comes from: the route, or the defaults, or nowhere.
class Origin {
 public:
  Origin(const Node& root, const Node& route) : defaults_(root.find("defaults")), route_(route) {}

  const Node* of(std::string_view section, std::string_view key) const {
    if (const Node* own = find(route_.find(section), key)) return own;
    return find(find(defaults_, section), key);
  }
  // The setting that the route gives itself, before one from the defaults.
  bool is_own(std::string_view section, std::string_view key) const {
    return find(route_.find(section), key) != nullptr;
  }
  Position route_at() const { return route_.at; }

 private:
  const Node* defaults_;
  const Node& route_;
};

struct Setting {
  std::string_view section;
  std::string_view key;
  std::uint64_t value;
};

// Reports that `first` and `second` do not go together, at the one that the route says itself.
void report_pair(const Origin& origin, const Setting& first, const Setting& second,
                 const std::string& message, Findings& findings) {
  const Node* a = origin.of(first.section, first.key);
  const Node* b = origin.of(second.section, second.key);
  if (is_faulty(a) || is_faulty(b)) return;
  const bool at_first = a && (origin.is_own(first.section, first.key) || !b ||
                              !origin.is_own(second.section, second.key));
  const Node* at = at_first ? a : b;
  findings.add(at ? at->at : origin.route_at(), message);
}

void check_buffers(const Route& route, const Origin& origin, Findings& findings) {
  const Setting high{"buffers", "high_watermark", route.buffers.high_watermark_bytes};
  const Setting low{"buffers", "low_watermark", route.buffers.low_watermark_bytes};
  const Setting limit{"buffers", "limit", route.buffers.limit_bytes};
  const auto sizes = [](const Setting& a, const char* relation, const Setting& b) {
    return std::string(a.key) + " (" + format_size(a.value) + ") must " + relation + " " +
           std::string(b.key) + " (" + format_size(b.value) + ")";
  };
  if (low.value >= high.value) {
    report_pair(origin, low, high, sizes(low, "be below", high), findings);
  }
  if (high.value > limit.value) {
    report_pair(origin, high, limit, sizes(high, "not exceed", limit), findings);
  }
}

// What a setting asks of the target.
void check_for_target(const Route& route, const Node& node, const Origin& origin,
                      Findings& findings) {
  const Node* slow_consumer = node.find("slow_consumer");
  if (slow_consumer && is_stream(route.target) && drops(route.slow_consumer)) {
    findings.add(slow_consumer->at,
                 "tcp and http routes relay streams, of which nothing may be dropped: write "
                 "\"pause\" or \"close\"");
  }
  const Node* compression = origin.of("compression", "mode");
  const auto* http = std::get_if<HttpTarget>(&route.target);
  if (compression && route.compression.mode == Compression::Mode::passthrough) {
    const Position at = origin.is_own("compression", "mode") ? compression->at : origin.route_at();
    if (http == nullptr) {
      findings.add(at,
                   "only http routes can let compressed messages pass: write \"off\", "
                   "\"shared\" or \"dedicated\"");
    } else if (http->compression != Compression::Mode::off) {
      findings.add(at,
                   "messages that pass as they are cannot be compressed for the upstream: "
                   "leave out one of the two");
    }
  }
  const bool holds_messages = std::holds_alternative<PluginTarget>(route.target) ||
                              std::holds_alternative<WebhookTarget>(route.target);
  const Node* size = origin.of("limits", "max_message_size");
  if (size && !size->faulty && holds_messages && route.limits.message_bytes_max == 0) {
    const bool own = origin.is_own("limits", "max_message_size");
    findings.add(own ? size->at : origin.route_at(),
                 "plugins and webhooks get whole messages, which are held in memory: "
                 "max_message_size must be a size");
  }
}

// The routes that were seen, by something that no two may share, with their lines.
using Seen = std::unordered_map<std::string, std::uint32_t>;

void check_requests(const Route& route, const Node& node, Seen& seen, Findings& findings) {
  const Node* path = node.find("path");
  const Node* host = node.find("host");
  if (!path || path->faulty || is_faulty(host)) return;
  const auto pattern = parse_path_pattern(route.path);
  if (!pattern) return;
  const auto [first, is_new] = seen.emplace(route.host + pattern->shape(), path->at.line);
  if (is_new) return;
  findings.add(path->at, "this route never sees a request: the path in line " +
                             std::to_string(first->second) + " matches the same ones");
}

void check_name(const Route& route, const Node& node, Seen& seen, Findings& findings) {
  const Node* path = node.find("path");
  const Node* name = node.find("name");
  if (!path || path->faulty || is_faulty(name)) return;
  const Position at = name ? name->at : path->at;
  if (route.name.size() > route_name_bytes_max) {
    findings.add(at, "too long to be the route's name: give it a \"name\" of at most " +
                         std::to_string(route_name_bytes_max) + " bytes");
  }
  if (route.name == "none") {
    findings.add(at,
                 "the metrics call the requests without a route \"none\": give it another name");
  }
  const auto [first, is_new] = seen.emplace(route.name, at.line);
  if (is_new) return;
  findings.add(at, "the route's name " + in_quotes(route.name) + " is taken by the route in line " +
                       std::to_string(first->second));
}

void check_routes(const Config& config, const Node& root, Findings& findings) {
  const Node* routes = root.find("routes");
  if (!routes || routes->items.size() != config.routes.size()) return;
  Seen requests;
  Seen names;
  for (std::size_t i = 0; i < config.routes.size(); ++i) {
    const Route& route = config.routes[i];
    const Node& node = routes->items[i];
    if (node.kind != Node::Kind::mapping) continue;
    check_target(config, route, node, root, findings);
    const std::size_t before = requests.size();
    check_requests(route, node, requests, findings);
    // A duplicate has the same name too; once is enough.
    if (requests.size() > before) check_name(route, node, names, findings);
    const Origin origin(root, node);
    check_buffers(route, origin, findings);
    check_for_target(route, node, origin, findings);
  }
}

// Every address that is listened on, in the order of the file.
struct Address {
  const std::string* text;
  const Node* node;
};

std::vector<Address> addresses(const Config& config, const Node& root) {
  std::vector<Address> all;
  const Node* listeners = root.find("listeners");
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    all.push_back({&config.listeners[i].address, listeners->items[i].find("address")});
  }
  all.push_back({&config.metrics.address, find(root.find("metrics"), "address")});
  all.push_back({&config.admin.address, find(root.find("admin"), "address")});
  std::erase_if(all, [](const Address& a) { return !a.node || a.node->faulty; });
  return all;
}

void check_shared_ports(const Config& config, const Node& root, Findings& findings) {
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    const Listener& listener = config.listeners[i];
    if (!listener.reuse_port || !listener.address.starts_with("unix:")) continue;
    findings.add(root.find("listeners")->items[i].find("reuse_port")->at,
                 "a unix socket cannot be shared: leave out \"reuse_port\"");
  }
}

void check_addresses(const Config& config, const Node& root, Findings& findings) {
  const auto all = addresses(config, root);
  constexpr std::size_t listeners_max = 1024;  // bounds the comparison of all with all
  if (all.size() > listeners_max) {
    findings.add(root.find("listeners")->at, "more than 1024 addresses to listen on");
    return;
  }
  for (std::size_t i = 1; i < all.size(); ++i) {
    const auto earlier = std::find_if(
        all.begin(), all.begin() + static_cast<std::ptrdiff_t>(i),
        [&](const Address& other) { return addresses_collide(*all[i].text, *other.text); });
    if (earlier == all.begin() + static_cast<std::ptrdiff_t>(i)) continue;
    findings.add(all[i].node->at, "the address " + *all[i].text + " collides with " +
                                      *earlier->text + " in line " +
                                      std::to_string(earlier->node->at.line));
  }
}

void check_admin(const Config& config, const Node& root, Findings& findings) {
  const Node* section = root.find("admin");
  const Node* address = find(section, "address");
  if (!address || address->faulty || section->find("key")) return;
  if (is_local(config.admin.address)) return;
  findings.add(address->at,
               "others reach " + config.admin.address +
                   ": give admin a \"key\", or listen on 127.0.0.1, [::1] or a unix socket");
}

void check_request_limits(const Config& config, const Node& root, Findings& findings) {
  const Node* section = root.find("requests");
  const Node* head = find(section, "max_head_size");
  const Node* target = find(section, "max_target_size");
  if (is_faulty(head) || is_faulty(target)) return;
  if (config.requests.target_bytes_max < config.requests.head_bytes_max) return;
  const Node* at = target ? target : head;
  findings.add(at ? at->at : Position{},
               "max_target_size (" + format_size(config.requests.target_bytes_max) +
                   ") must be below max_head_size (" + format_size(config.requests.head_bytes_max) +
                   "), which includes it");
}

}  // namespace

void check(const Config& config, const Node& root, Findings& findings) {
  check_addresses(config, root, findings);
  check_shared_ports(config, root, findings);
  check_admin(config, root, findings);
  check_request_limits(config, root, findings);
  check_upstreams(config, root, findings);
  check_routes(config, root, findings);
}

}  // namespace sluice::config
