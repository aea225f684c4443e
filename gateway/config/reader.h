// Reader: fills a Config from a YAML tree, and finds what does not fit.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/keys.h"
#include "config/yaml.h"

namespace sluice::config {

// Every mistake goes to `findings`, and the node that it is about is marked as faulty; its field
// keeps its default.
class Reader final : public Keys {
 public:
  Reader(Node& root, const std::string& base_dir, Findings& findings)
      : root_(root), base_dir_(base_dir), findings_(findings) {}

  void read(Config& config);

  void number(const Key& key, std::uint64_t& field, const Range& range) override;
  void flag(const Key& key, bool& field) override;
  void choice(const Key& key, std::size_t& field, const Words& words) override;
  void text(const Key& key, std::string& field, Syntax syntax) override;
  void text_map(const Key& key, std::map<std::string, std::string>& field, Syntax names,
                Syntax values) override;
  void texts(const Key& key, std::vector<std::string>& field, Syntax syntax) override;
  void json(const Key& key, std::string& field) override;
  bool section(const Key& key, const std::function<void()>& body,
               std::string_view short_form) override;
  void section_or_off(const Key& key, bool& on, const std::function<void()>& body) override;
  void list(const Key& key, const std::function<void(std::size_t)>& item,
            std::string_view short_form) override;
  void map(const Key& key, Syntax names,
           const std::function<void(const std::string&)>& item) override;
  void exactly_one(std::string_view noun, const Words& words) override;
  void later(const Words& words) override;

 private:
  void within(Node& mapping, const std::function<void()>& body);
  void report_unknown();
  void report(Node& node, std::string message);
  Node* find(const Key& key);
  Node* find(const Key& key, Node::Kind kind, std::string_view expected);
  // Reports "<expected>, found ..." unless the node is of this kind.
  bool is(Node& node, Node::Kind kind, std::string_view expected);
  std::optional<std::string> checked(Node& node, Syntax syntax);
  void check_name(const Entry& entry, Syntax syntax);

  Node& root_;
  const std::string& base_dir_;
  Findings& findings_;
  Node* node_ = nullptr;  // the mapping whose keys are being visited
  Words known_;           // its keys
  Words later_;           // its keys of later versions
};

}  // namespace sluice::config
