#include "config/load.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "config/check.h"
#include "config/reader.h"
#include "config/yaml.h"

namespace sluice::config {
namespace {

bool says(const Node* holder, std::string_view key) {
  const Node* buffers = holder ? holder->find("buffers") : nullptr;
  return buffers && buffers->find(key);
}

// Whoever sets the high watermark alone gets the others in proportion.
void complete_buffers(Buffers& buffers, const Node* defaults, const Node& route) {
  if (!says(defaults, "low_watermark") && !says(&route, "low_watermark")) {
    buffers.low_watermark_bytes = buffers.high_watermark_bytes / 4;
  }
  if (!says(defaults, "limit") && !says(&route, "limit")) {
    buffers.limit_bytes = buffers.high_watermark_bytes * 16;
  }
}

// What follows from other settings.
void complete(Config& config, const Node& root) {
  const Node* routes = root.find("routes");
  for (std::size_t i = 0; i < config.routes.size(); ++i) {
    Route& route = config.routes[i];
    if (route.name.empty()) route.name = route.host + route.path;
    complete_buffers(route.buffers, root.find("defaults"), routes->items[i]);
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
  std::string text(yaml_bytes_max + 1, '\0');  // a byte more shows that it is too large
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get())) return fail_errno("cannot read the file", errno);
  return text;
}

tl::expected<Config, Diagnostics> load_file(const std::string& path) {
  const auto text = read_file(path);
  if (!text) return tl::unexpected(Diagnostics{{path, 0, 0, text.error().message}});
  return parse(*text, path, process_environment, folder_of(path));
}

}  // namespace sluice::config
