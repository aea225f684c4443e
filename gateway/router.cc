#include "router.h"

namespace sluice {

// Where a pattern ends: its route, and the names of its parameters in their order.
struct Router::Found {
  std::uint32_t route = 0;
  std::vector<std::string> names;
};

// One segment of the patterns that share what stands before it.
struct Router::Node {
  ByText<std::unique_ptr<Node>> literals;
  std::unique_ptr<Node> parameter;
  std::optional<Found> exact;   // a pattern ends here
  std::optional<Found> suffix;  // a pattern continues here with "/*"
};

namespace {

// The first segment of what is left of a path, and the rest with its slash. "/" has one empty
// segment and no rest.
std::pair<std::string_view, std::string_view> split(std::string_view path) {
  path.remove_prefix(1);
  const auto slash = path.find('/');
  if (slash == std::string_view::npos) return {path, {}};
  return {path.substr(0, slash), path.substr(slash)};
}

// Walks the tree for one path. Recursion ends with the pattern: pattern_segments_max levels.
template <typename Node, typename Found>
class Walk {
 public:
  const Found* find(const Node& node, std::string_view rest) {
    if (rest.empty()) return node.exact ? &*node.exact : nullptr;
    if (const Found* found = find_deeper(node, rest)) return found;
    return node.suffix ? &*node.suffix : nullptr;
  }

  // What stood where the pattern that was found has its parameters. Those of a prefix's longer
  // siblings were taken back on the way out.
  const std::vector<std::string_view>& values() const { return values_; }

 private:
  const Found* find_deeper(const Node& node, std::string_view path) {
    const auto [segment, rest] = split(path);
    if (const auto literal = node.literals.find(segment); literal != node.literals.end()) {
      if (const Found* found = find(*literal->second, rest)) return found;
    }
    // A parameter stands for something: "/chat/" has no room.
    if (!node.parameter || segment.empty()) return nullptr;
    values_.push_back(segment);
    if (const Found* found = find(*node.parameter, rest)) return found;
    values_.pop_back();
    return nullptr;
  }

  std::vector<std::string_view> values_;
};

std::vector<std::string> parameter_names(const PathPattern& pattern) {
  std::vector<std::string> names;
  for (const auto& segment : pattern.segments) {
    if (segment.parameter) names.push_back(segment.text);
  }
  return names;
}

}  // namespace

Router::Router() : any_host_(std::make_unique<Node>()) {}
Router::~Router() = default;

Result<> Router::add(std::string_view host, std::string_view pattern, std::uint32_t route) {
  auto parsed = parse_path_pattern(pattern);
  if (!parsed) return tl::unexpected(parsed.error());
  Node* root = any_host_.get();
  if (!host.empty()) {
    const auto name = normalise_host(host);
    if (!name) return tl::unexpected(name.error());
    auto& slot = hosts_[*name];
    if (!slot) slot = std::make_unique<Node>();
    root = slot.get();
  }
  Node& node = descend(*root, *parsed);
  auto& end = parsed->any_suffix ? node.suffix : node.exact;
  if (end) return fail("another route matches the same requests as " + std::string(pattern));
  end = Found{route, parameter_names(*parsed)};
  return {};
}

Router::Node& Router::descend(Node& root, const PathPattern& pattern) {
  Node* node = &root;
  for (const auto& segment : pattern.segments) {
    auto& next = segment.parameter ? node->parameter : node->literals[segment.text];
    if (!next) next = std::make_unique<Node>();
    node = next.get();
  }
  return *node;
}

std::optional<Router::Match> Router::match(std::string_view host, std::string_view path) const {
  if (!path.starts_with('/')) return std::nullopt;
  if (const auto own = hosts_.find(host); own != hosts_.end()) {
    if (auto match = match_in(*own->second, path)) return match;
  }
  return match_in(*any_host_, path);
}

std::optional<Router::Match> Router::match_in(const Node& root, std::string_view path) {
  Walk<Node, Found> walk;
  const Found* found = walk.find(root, path);
  if (!found) return std::nullopt;
  Match match{found->route, {}};
  for (std::size_t i = 0; i < found->names.size(); ++i) {
    match.parameters.emplace_back(found->names[i], walk.values()[i]);
  }
  return match;
}

}  // namespace sluice
