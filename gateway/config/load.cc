#include "config/load.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "config/check.h"
#include "config/check_targets.h"
#include "config/reader.h"
#include "config/syntax.h"
#include "config/yaml.h"

namespace sluice::config {
namespace {

// Whether the route or the defaults give a setting themselves.
class Given {
 public:
  Given(const Node& root, const Node& route) : defaults_(root.find("defaults")), route_(route) {}

  bool says(std::string_view section, std::string_view key) const {
    return says(&route_, section, key) || says(defaults_, section, key);
  }
  bool route_says(std::string_view key) const { return route_.find(key) != nullptr; }

 private:
  static bool says(const Node* holder, std::string_view section, std::string_view key) {
    const Node* settings = find(holder, section);
    return settings && settings->find(key);
  }

  const Node* defaults_;
  const Node& route_;
};

// Whoever sets the high watermark alone gets the others in proportion.
void complete_buffers(Buffers& buffers, const Given& given) {
  if (!given.says("buffers", "low_watermark")) {
    buffers.low_watermark_bytes = buffers.high_watermark_bytes / 4;
  }
  if (!given.says("buffers", "limit")) buffers.limit_bytes = buffers.high_watermark_bytes * 16;
}

// tcp and http routes relay messages without holding them: no size is too large, and none can be
// dropped whole.
void complete_stream(Route& route, const Given& given) {
  if (!given.says("limits", "max_message_size")) route.limits.message_bytes_max = 0;
  if (!given.says("limits", "max_fragments")) route.limits.fragments_max = 0;
  if (drops(route.slow_consumer) && !given.route_says("slow_consumer")) {
    route.slow_consumer = SlowConsumer::pause;
  }
}

// An address in the place of an upstream's name becomes an upstream of that name.
void complete_upstream(Config& config, const std::string& upstream) {
  if (!is_endpoint(upstream)) return;
  const auto [declared, is_new] = config.upstreams.try_emplace(upstream);
  if (is_new) declared->second.endpoints.push_back({upstream});
}

void complete_upstreams(Config& config, const Target& target) {
  for (const std::string* upstream : upstreams_of(target)) complete_upstream(config, *upstream);
}

// Whoever sets the interval alone gets checks that fit in it.
void complete_health_check(Upstream& upstream, const Node& node) {
  const Node* section = node.find("health_check");
  if (!upstream.health_check || !section || section->find("timeout")) return;
  HealthCheck& check = *upstream.health_check;
  check.timeout_ms = std::min(check.timeout_ms, check.interval_ms);
}

// What follows from other settings.
void complete(Config& config, const Node& root) {
  if (const Node* upstreams = root.find("upstreams")) {
    for (const Entry& entry : upstreams->entries) {
      complete_health_check(config.upstreams[entry.key], entry.value);
    }
  }
  const Node* routes = root.find("routes");
  for (std::size_t i = 0; i < config.routes.size(); ++i) {
    Route& route = config.routes[i];
    const Given given(root, routes->items[i]);
    if (route.name.empty()) route.name = route.host + route.path;
    complete_buffers(route.buffers, given);
    if (is_stream(route.target)) complete_stream(route, given);
    complete_upstreams(config, route.target);
  }
  for (auto& [id, plugin] : config.plugins) {
    if (plugin.config.empty()) plugin.config = "{}";
  }
}

std::string_view without_byte_order_mark(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  return text;
}

std::optional<std::string> process_environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value ? std::optional<std::string>(value) : std::nullopt;
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return "";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

tl::expected<Config, Diagnostics> parse(std::string_view text, const std::string& file_name,
                                        const Environment& environment,
                                        const std::string& base_dir) {
  text = without_byte_order_mark(text);
  Findings findings(file_name, text);
  Config config;
  if (auto root = parse_yaml(text, environment, findings)) {
    Reader(*root, base_dir, findings).read(config);
    complete(config, *root);
    check(config, *root, findings);
  }
  if (!findings.empty()) return tl::unexpected(findings.diagnostics());
  return config;
}

Result<std::string> read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &std::fclose);
  if (!file) return fail_errno("cannot read the file", errno);
  // In pieces: malloc(3) takes the largest block that was freed for a measure of what it may keep,
  // and would keep megabytes of what slow clients had waiting for them.
  std::string text;
  char piece[16 * 1024];
  std::size_t size = 0;
  do {
    size = std::fread(piece, 1, sizeof piece, file.get());
    text.append(piece, size);
  } while (size == sizeof piece &&
           text.size() <= yaml_bytes_max);  // more shows that it is too large
  if (std::ferror(file.get())) return fail_errno("cannot read the file", errno);
  return text;
}

tl::expected<Config, Diagnostics> load_file(const std::string& path) {
  const auto text = read_file(path);
  if (!text) return tl::unexpected(Diagnostics{{path, 0, 0, text.error().message}});
  return parse(*text, path, process_environment, folder_of(path));
}

tl::expected<std::string, Diagnostics> load_metrics_address(const std::string& path) {
  const auto text = read_file(path);
  if (!text) return tl::unexpected(Diagnostics{{path, 0, 0, text.error().message}});
  Findings findings(path, without_byte_order_mark(*text));
  auto root = parse_yaml(without_byte_order_mark(*text), process_environment, findings);
  if (!root) return tl::unexpected(findings.diagnostics());
  Config config;
  Reader(*root, folder_of(path), findings).read(config);
  const bool faulty = config.metrics.address.empty() && root->find("metrics") && !findings.empty();
  if (faulty) return tl::unexpected(findings.diagnostics());
  return config.metrics.address;
}

}  // namespace sluice::config
