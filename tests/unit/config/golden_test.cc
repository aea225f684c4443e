// Every file of cases/: a routes.yaml, a line of ten dashes, then what comes of it, exactly: the
// diagnostics, or the values that are not the defaults. Lines are ended by "\n"; see files.h.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/units.h"
#include "config/load.h"
#include "files.h"

namespace sluice::config::testing {
namespace {

std::optional<std::string> environment(const std::string& name) {
  static const std::map<std::string, std::string> variables = {
      {"PORT", "9998"},      {"EMPTY", ""},         {"TRICKY", "a: {b}, \"c\" ${PORT} #d"},
      {"TRUE", "true"},      {"LATIN1", "caf\xe9"}, {"LONG", std::string(100'000, 'x')},
      {"LINES", "one\ntwo"},
  };
  const auto found = variables.find(name);
  return found == variables.end() ? std::nullopt : std::optional(found->second);
}

std::string text_of(const std::string& value) {
  return value;
}
std::string text_of(bool value) {
  return value ? "true" : "false";
}
template <typename Integer>
std::string text_of(Integer value) {
  return std::to_string(value);
}
std::string text_of(const std::vector<std::string>& values) {
  std::string out;
  for (const auto& value : values) out += (out.empty() ? "[" : ", ") + value;
  return out.empty() ? "[]" : out + "]";
}

// The fields that differ from those of a default value, one a line.
class Values {
 public:
  std::string out;

  template <typename T>
  void put(const std::string& name, const T& value, const T& fallback) {
    if (value == fallback) return;
    if constexpr (std::is_enum_v<T>) {
      out += name + " = #" + std::to_string(static_cast<int>(value)) + "\n";
    } else {
      out += name + " = " + text_of(value) + "\n";
    }
  }
};

void describe(Values& values, const std::string& name, const Listener& listener) {
  const Listener fallback;
  values.put(name + "address", listener.address, fallback.address);
  values.put(name + "backlog", listener.backlog, fallback.backlog);
  if (!listener.tls) return;
  for (const auto& [cert, key] : listener.tls->certificates) {
    values.out += name + "tls.certificate = " + cert + " + " + key + "\n";
  }
  values.put(name + "tls.min_version", listener.tls->min_version, TlsVersion::tls1_2);
}

void describe(Values& values, const std::string& name, const HealthCheck& check) {
  const HealthCheck fallback;
  values.out += name + "path = " + check.path + "\n";
#define PUT(field) values.put(name + #field, check.field, fallback.field)
  PUT(host);
  PUT(interval_ms);
  PUT(timeout_ms);
  PUT(healthy_threshold);
  PUT(unhealthy_threshold);
#undef PUT
}

void describe(Values& values, const std::string& name, const UpstreamTls& tls) {
  values.out += name + "ca_file = " + tls.ca_file + "\n";
  values.put(name + "cert_file", tls.cert_file, {});
  values.put(name + "key_file", tls.key_file, {});
  values.put(name + "server_name", tls.server_name, {});
  values.put(name + "verify", tls.verify, true);
}

void describe(Values& values, const std::string& name, const Upstream& upstream) {
  const Upstream fallback;
  for (const auto& [address, weight] : upstream.endpoints) {
    values.out += name + "endpoint = " + address + " * " + std::to_string(weight) + "\n";
  }
  if (upstream.health_check) describe(values, name + "health_check.", *upstream.health_check);
  if (upstream.tls) describe(values, name + "tls.", *upstream.tls);
#define PUT(field) values.put(name + #field, upstream.field, fallback.field)
  PUT(balance);
  PUT(hash_on.kind);
  PUT(hash_on.name);
  PUT(outlier_detection.consecutive_failures);
  PUT(outlier_detection.base_ejection_time_ms);
  PUT(outlier_detection.max_ejection_time_ms);
  PUT(outlier_detection.max_ejection_percent);
  PUT(connect_timeout_ms);
  PUT(connect_attempts);
  PUT(connections_max);
  PUT(slow_start_ms);
  PUT(dns_refresh_ms);
  PUT(on_endpoint_down);
  PUT(idle_connections_max);
  PUT(idle_timeout_ms);
#undef PUT
}

void describe(Values& values, const std::string& name, const HeaderRules& rules) {
  for (const auto& [header, value] : rules.set) {
    values.out += name + "set = " + header + ": " + value + "\n";
  }
  values.put(name + "remove", rules.remove, {});
}

void describe(Values& values, const std::string& name, const PluginTarget& plugin) {
  values.out += name + "plugin = " + plugin.plugin + "\n";
}

void describe(Values& values, const std::string& name, const StaticTarget& files) {
  values.out += name + "static = " + files.root + " + " + files.index + "\n";
}

void describe(Values& values, const std::string& name, const TcpTarget& tcp) {
  const TcpTarget fallback;
  values.out += name + "tcp = " + tcp.upstream + "\n";
  values.put(name + "tcp.frames", tcp.frames, fallback.frames);
  values.put(name + "tcp.proxy_protocol", tcp.proxy_protocol, fallback.proxy_protocol);
  for (const auto& [token, upstream] : tcp.tokens) {
    values.out += name + "tcp.token = " + token + ": " + upstream + "\n";
  }
  values.put(name + "tcp.token_file", tcp.token_file, fallback.token_file);
}

void describe(Values& values, const std::string& name, const HttpTarget& http) {
  const HttpTarget fallback;
  values.out += name + "http = " + http.upstream + "\n";
  values.put(name + "http.rewrite", http.rewrite, fallback.rewrite);
  describe(values, name + "http.headers.", http.headers);
  values.put(name + "http.validate_utf8", http.validate_utf8, fallback.validate_utf8);
  values.put(name + "http.compression", http.compression, fallback.compression);
  values.put(name + "http.response_timeout_ms", http.response_timeout_ms,
             fallback.response_timeout_ms);
}

void describe(Values& values, const std::string& name, const WebhookTarget& webhook) {
  const WebhookTarget fallback;
  values.out += name + "webhook = " + webhook.upstream + "\n";
#define PUT(field) values.put(name + "webhook." + #field, webhook.field, fallback.field)
  PUT(protocol);
  PUT(rewrite);
  describe(values, name + "webhook.headers.", webhook.headers);
  PUT(grip);
  PUT(grip_key);
  PUT(grip_issuer);
  PUT(channel_prefix);
  PUT(response_timeout_ms);
#undef PUT
}

void describe(Values& values, const std::string& name, const Route& route) {
  const Route fallback;
  values.put(name + "name", route.name, fallback.name);
  values.put(name + "host", route.host, fallback.host);
  values.put(name + "path", route.path, fallback.path);
  std::visit([&](const auto& target) { describe(values, name, target); }, route.target);
  values.put(name + "allowed_origins", route.allowed_origins, fallback.allowed_origins);
  values.put(name + "require_origin", route.require_origin, fallback.require_origin);
  values.put(name + "subprotocols", route.subprotocols, fallback.subprotocols);
  values.put(name + "slow_consumer", route.slow_consumer, fallback.slow_consumer);
#define PUT(field) values.put(name + #field, route.field, fallback.field)
  PUT(buffers.high_watermark_bytes);
  PUT(buffers.low_watermark_bytes);
  PUT(buffers.high_watermark_timeout_ms);
  PUT(buffers.limit_bytes);
  PUT(limits.message_bytes_max);
  PUT(limits.fragments_max);
  PUT(limits.connections_max);
  PUT(limits.messages_per_second);
  PUT(limits.bytes_per_second);
  PUT(limits.control_frames_per_second);
  PUT(timeouts.idle_ms);
  PUT(timeouts.message_ms);
  PUT(timeouts.close_ms);
  PUT(keepalive.ping_interval_ms);
  PUT(keepalive.pong_timeout_ms);
  PUT(keepalive.tcp_user_timeout_ms);
  PUT(compression.mode);
  PUT(compression.level);
  PUT(compression.min_bytes);
  PUT(compression.window_bits);
  PUT(compression.ratio_max);
#undef PUT
}

std::string describe(const Config& config) {
  Values values;
  const Config fallback;
#define PUT(field) values.put(#field, config.field, fallback.field)
  PUT(workers);
  PUT(connections_max);
  PUT(metrics.address);
  PUT(metrics.connections_max);
  PUT(admin.address);
  PUT(admin.key);
  PUT(admin.connections_max);
  PUT(trusted_proxies);
  PUT(requests.headers_max);
  PUT(requests.head_bytes_max);
  PUT(requests.target_bytes_max);
  PUT(requests.handshake_timeout_ms);
  PUT(requests.keep_alive_timeout_ms);
  PUT(log.level);
  PUT(log.format);
  PUT(log.access);
  PUT(log.query_strings);
  PUT(clients.connections_max);
  PUT(clients.handshakes_max);
  PUT(memory.budget_bytes);
  PUT(memory.compression_bytes);
  PUT(shutdown.drain_timeout_ms);
#undef PUT
  for (const auto& listener : config.listeners) describe(values, "listener.", listener);
  for (const auto& [id, plugin] : config.plugins) {
    values.out += "plugin." + id + " = " + plugin.library + " " + plugin.config + "\n";
  }
  for (const auto& [id, upstream] : config.upstreams) {
    describe(values, "upstream." + id + ".", upstream);
  }
  for (const auto& route : config.routes) describe(values, "route.", route);
  return values.out;
}

std::string outcome(const std::string& yaml) {
  const auto config = parse(yaml, "routes.yaml", environment, "/etc/sluice");
  return config ? describe(*config) : render(config.error(), yaml);
}

std::vector<std::filesystem::path> cases() {
  std::vector<std::filesystem::path> all;
  for (const auto& entry :
       std::filesystem::directory_iterator(source_path("tests/unit/config/cases"))) {
    if (entry.path().extension() == ".yamltest") all.push_back(entry.path());
  }
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

TEST_CASE("every case of cases/ gives exactly the diagnostics or values below its line") {
  const std::string separator = "\n----------\n";
  const auto all = cases();
  REQUIRE(all.size() >= 20);
  for (const auto& path : all) {
    const std::string name = path.filename().string();
    CAPTURE(name);
    const auto text = read_text(path.string());
    const auto middle = text.rfind(separator);
    REQUIRE(middle != text.npos);
    const auto yaml = text.substr(0, middle + 1);
    const auto actual = outcome(yaml);
    if (regenerating()) write_text(path.string(), text.substr(0, middle) + separator + actual);
    CHECK(read_text(path.string()).substr(middle + separator.size()) == actual);
  }
}

TEST_CASE("the shipped configuration and the examples are valid") {
  const auto none = [](const std::string&) { return std::optional<std::string>(); };
  std::vector<std::string> files = {source_path("config/routes.yaml")};
  for (const auto& entry : std::filesystem::directory_iterator(source_path("config/examples"))) {
    files.push_back(entry.path().string());
  }
  CHECK(files.size() >= 4);
  for (const auto& file : files) {
    CAPTURE(file);
    const auto text = read_text(file);
    const auto config = parse(text, file, none);
    CHECK((config ? std::string() : render(config.error(), text)) == "");
    const auto first = text.substr(0, text.find('\n'));
    CHECK(first.starts_with("# yaml-language-server: $schema="));
    CHECK(first.ends_with("routes.schema.json"));
  }
}

TEST_CASE("the shipped configuration is what the tutorial says") {
  const auto config = load_file(source_path("config/routes.yaml"));
  REQUIRE(config);
  CHECK(describe(*config) ==
        "metrics.address = 127.0.0.1:9464\n"
        "listener.address = 0.0.0.0:9998\n"
        "plugin.echo = echo.so {}\n"
        "route.name = /echo\nroute.path = /echo\n"
        "route.plugin = echo\nroute.allowed_origins = [*]\n"
        "route.name = /*\nroute.path = /*\n"
        "route.static = " +
            source_path("config/www") + " + index.html\n");
}

}  // namespace sluice::config::testing
