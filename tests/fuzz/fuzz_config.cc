// routes.yaml: any text, with variables that are set to this and that.
//
// What must hold: the same text gives the same result; every mistake has a place in the text and a
// message of one line of UTF-8; a mistake is there or a configuration, and a configuration is one
// that the gateway can use: names lead somewhere, paths are patterns, watermarks are in order.
// (That it takes no longer than it should is the fuzzer's business: -timeout=5.)
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/path_pattern.h"
#include "config/load.h"
#include "config/text.h"
#include "fuzz/input.h"

namespace {

using namespace sluice;
using config::Config;
using config::Diagnostic;
using config::Diagnostics;
using fuzz::require;

std::optional<std::string> environment(const std::string& name) {
  if (name == "PORT") return "8080";
  if (name == "EMPTY") return "";
  if (name == "LINES") return "a: b\n- c";
  if (name == "LONG") return std::string(100'000, 'x');
  if (name == "BYTES") return "\xff\xfe";
  return std::nullopt;
}

tl::expected<Config, Diagnostics> parse(std::string_view text) {
  return config::parse(text, "routes.yaml", environment, "etc");
}

// ---- Mistakes

std::string_view line_of(std::string_view text, std::uint32_t number) {
  for (; number > 1; --number) {
    const std::size_t end = text.find('\n');
    require(end != std::string_view::npos, "the text has that line");
    text.remove_prefix(end + 1);
  }
  return text.substr(0, text.find('\n'));
}

void check_mistake(const Diagnostic& mistake, std::string_view text) {
  require(mistake.file == "routes.yaml", "the file's name");
  require(!mistake.message.empty() && !config::invalid_utf8_at(mistake.message) &&
              !config::has_control(mistake.message),
          "a message is a line of UTF-8");
  if (mistake.line == 0) return require(mistake.column == 0, "the whole file has no column");
  const std::string_view line = line_of(text, mistake.line);
  require(mistake.column >= 1 && mistake.column <= line.size() + 1, "the line has that column");
}

std::string describe(const Diagnostics& mistakes) {
  std::string lines;
  for (const Diagnostic& mistake : mistakes) lines += config::to_string(mistake) + "\n";
  return lines;
}

void check_mistakes(const Diagnostics& mistakes, std::string_view text) {
  require(!mistakes.empty() && mistakes.size() <= config::Findings::findings_max,
          "some mistakes, and not too many");
  const std::string_view body = text.substr(text.starts_with("\xef\xbb\xbf") ? 3 : 0);
  for (const Diagnostic& mistake : mistakes) check_mistake(mistake, body);
  const std::string shown = config::render(mistakes, text);
  require(!config::invalid_utf8_at(shown), "what is shown of the text is UTF-8");
}

// ---- Configurations

void check_upstream(const Config& config, const std::string& name) {
  const auto found = config.upstreams.find(name);
  require(found != config.upstreams.end(), "a target's upstream is there");
  require(!found->second.endpoints.empty(), "an upstream has endpoints");
}

void check_target(const Config& config, const config::Target& target) {
  if (const auto* plugin = std::get_if<config::PluginTarget>(&target)) {
    require(config.plugins.contains(plugin->plugin), "a route's plugin is there");
  } else if (const auto* tcp = std::get_if<config::TcpTarget>(&target)) {
    if (!tcp->upstream.empty()) check_upstream(config, tcp->upstream);
    for (const auto& [token, upstream] : tcp->tokens) check_upstream(config, upstream);
  } else if (const auto* http = std::get_if<config::HttpTarget>(&target)) {
    check_upstream(config, http->upstream);
  }
}

void check_route(const Config& config, const config::Route& route) {
  const auto pattern = parse_path_pattern(route.path);
  require(pattern.has_value() && !route.name.empty(), "a route has a path and a name");
  require(route.host.empty() || normalise_host(route.host) == route.host, "a host in its form");
  require(route.buffers.low_watermark_bytes <= route.buffers.high_watermark_bytes &&
              route.buffers.high_watermark_bytes <= route.buffers.limit_bytes,
          "watermarks are in order");
  check_target(config, route.target);
}

std::string describe(const Config& config) {
  std::string lines;
  for (const config::Listener& listener : config.listeners) lines += listener.address + "\n";
  for (const config::Route& route : config.routes) {
    lines += route.name + " " + route.host + route.path + " " +
             std::to_string(route.target.index()) + " " +
             std::to_string(route.buffers.limit_bytes) + "\n";
  }
  for (const auto& [name, plugin] : config.plugins) lines += name + plugin.config + "\n";
  for (const auto& [name, upstream] : config.upstreams) {
    lines += name + " " + std::to_string(upstream.endpoints.size()) + "\n";
  }
  return lines;
}

void check_config(const Config& config) {
  require(!config.listeners.empty() && !config.routes.empty(), "listeners and routes");
  for (const config::Route& route : config.routes) check_route(config, route);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = as_text(Bytes(data, size));
  const auto result = parse(text);
  const auto again = parse(text);
  require(result.has_value() == again.has_value(), "the same text is valid again");
  if (!result) {
    require(describe(result.error()) == describe(again.error()), "the same mistakes again");
    check_mistakes(result.error(), text);
  } else {
    require(describe(*result) == describe(*again), "the same configuration again");
    check_config(*result);
  }
  return 0;
}
