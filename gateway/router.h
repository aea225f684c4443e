// Router: host and path to route. Pure; built once a configuration, then only read, so any number
// of threads may match at the same time.
//
// The most specific pattern wins, whatever the order in which they were added:
// 1. patterns of the request's host before those of any host: a host's "/*" beats any host's
//    "/echo"; if no pattern of the host matches, those of any host are tried;
// 2. then segment by segment from the left: the literal, before {param}, before "/*". So the longer
//    of two matching prefixes wins, and "/chat/{room}" beats "/chat/*".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/path_pattern.h"
#include "base/result.h"

namespace sluice {

class Router {
 public:
  Router();
  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  // `pattern` as base/path_pattern.h reads it; `host` without port, empty for any. Fails if either
  // is malformed, or if an earlier pattern matches the same requests.
  Result<> add(std::string_view host, std::string_view pattern, std::uint32_t route);

  // Views: the names point into the router, the values into the path.
  struct Match {
    std::uint32_t route = 0;
    // In the order of the pattern. Values are as they stand in the path, percent-encoded.
    std::vector<std::pair<std::string_view, std::string_view>> parameters;
  };

  // `host` in lower case without port; `path` normalised, beginning with "/".
  //
  // Costs one hash look-up a segment, however many routes there are. Where a literal and a
  // parameter both fit a segment, both branches may have to be tried; a node of the tree is never
  // entered twice, so a match enters no more nodes than there are patterns with a common prefix
  // that fits, and never goes deeper than pattern_segments_max, however long the path is.
  std::optional<Match> match(std::string_view host, std::string_view path) const;

 private:
  struct Node;
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  template <typename T>
  using ByText = std::unordered_map<std::string, T, Hash, std::equal_to<>>;
  struct Found;

  static Node& descend(Node& root, const PathPattern& pattern);
  static std::optional<Match> match_in(const Node& root, std::string_view path);

  std::unique_ptr<Node> any_host_;
  ByText<std::unique_ptr<Node>> hosts_;
};

}  // namespace sluice
