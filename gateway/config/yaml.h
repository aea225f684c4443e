// A YAML text as a tree of nodes that know where they stand.
//
// Reads the part of YAML that a configuration needs: one document of mappings, sequences and
// scalars. Anchors, aliases, merge keys, tags, directives and duplicate keys are errors, so a text
// never grows while it is read, and it means what it says. The tree is built from the parser's
// events; nesting is bounded before it is followed.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/diagnostic.h"
#include "config/environment.h"

namespace sluice::config {

struct Entry;

struct Node {
  enum class Kind { null, scalar, sequence, mapping };

  Kind kind = Kind::null;
  Position at;
  bool plain = false;          // a scalar without quotes
  bool filled = false;         // a scalar that holds a variable's value
  bool variable = false;       // a scalar that is_variable()
  bool faulty = false;         // something about it has been reported: say nothing more
  std::string text;            // of a scalar, variables filled in
  std::vector<Node> items;     // of a sequence
  std::vector<Entry> entries;  // of a mapping, in the order of the file, no key twice
  std::vector<Entry> dropped;  // those whose key was reported, as one that repeats

  const Node* find(std::string_view key) const;
};

struct Entry {
  std::string key;
  Position key_at;
  Node value;
};

// For nodes that may be absent.
inline const Node* find(const Node* node, std::string_view key) {
  return node ? node->find(key) : nullptr;
}
inline bool is_faulty(const Node* node) {
  return node && node->faulty;
}

// Of the text, and of its values filled in. 100,000 routes take half of it.
inline constexpr std::size_t yaml_bytes_max = 8 * 1024 * 1024;
inline constexpr std::size_t yaml_depth_max = 64;

// What is wrong goes to `findings`. Nothing if the text cannot be read at all; otherwise a tree
// whose faulty parts are marked.
std::optional<Node> parse_yaml(std::string_view text, const Environment& environment,
                               Findings& findings);

}  // namespace sluice::config
