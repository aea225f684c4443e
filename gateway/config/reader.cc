#include "config/reader.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "config/syntax.h"
#include "config/text.h"

namespace sluice::config {
namespace {

using Json = nlohmann::ordered_json;

std::string describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::null:
      return "nothing";
    case Node::Kind::scalar:
      // Out of place it may be anything, a secret too.
      return node.filled ? "the value of a variable" : in_quotes(node.text);
    case Node::Kind::sequence:
      return "a list";
    case Node::Kind::mapping:
      return "a mapping";
  }
  return {};
}

bool contains(const Words& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool has_digits_only(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

template <typename Number>
std::optional<Number> whole(std::string_view text) {
  Number number{};
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || rest != end) return std::nullopt;
  return number;
}

std::string format(std::uint64_t value, Unit unit) {
  switch (unit) {
    case Unit::bytes:
      return format_size(value);
    case Unit::milliseconds:
      return format_duration(value);
    case Unit::count:
      break;
  }
  return std::to_string(value);
}

Result<std::uint64_t> parse(std::string_view text, Unit unit) {
  if (unit == Unit::bytes) return parse_size(text);
  if (unit == Unit::milliseconds) return parse_duration(text);
  if (const auto number = whole<std::uint64_t>(text)) return *number;
  return fail(has_digits_only(text) ? std::string(number_too_large) : "expected a whole number");
}

std::string or_zero_word(const Range& range) {
  return range.zero_word.empty() ? "" : " or " + in_quotes(range.zero_word);
}

Result<std::uint64_t> parse_number(std::string_view text, const Range& range) {
  if (!range.zero_word.empty() && text == range.zero_word) return 0;
  const auto value = parse(text, range.unit);
  if (!value && value.error().message != number_too_large) {
    return fail(value.error().message + or_zero_word(range) + ", found " + in_quotes(text));
  }
  if (!value || *value < range.min || *value > range.max) {
    return fail("must be from " + format(range.min, range.unit) + " to " +
                format(range.max, range.unit) + or_zero_word(range));
  }
  return *value;
}

// YAML 1.2.2 10.3.2, the core schema: "+12", "0x1f", "0o17".
bool looks_like_integer(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  return has_digits_only(text);
}

bool looks_like_float(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  const bool digit =
      std::any_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digit && text.find_first_not_of("0123456789.eE+-") == std::string_view::npos;
}

Result<Json> json_integer(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  if (const auto number = whole<std::int64_t>(text)) return Json(*number);
  if (const auto number = whole<std::uint64_t>(text)) return Json(*number);
  return fail("the number does not fit in 64 bits: put it in quotes to make it a text");
}

Result<Json> json_scalar(const Node& node) {
  if (!node.plain) return Json(node.text);
  if (node.text == "true" || node.text == "false") return Json(node.text == "true");
  if (looks_like_integer(node.text)) return json_integer(node.text);
  if (looks_like_float(node.text)) {
    const auto unsigned_text = std::string_view(node.text).substr(node.text[0] == '+' ? 1 : 0);
    if (const auto number = whole<double>(unsigned_text)) return Json(*number);
  }
  return Json(node.text);
}

Json json_of(const Node& node, Findings& findings) {
  switch (node.kind) {
    case Node::Kind::null:
      return nullptr;
    case Node::Kind::scalar: {
      const auto value = json_scalar(node);
      if (!value) findings.add(node.at, value.error().message);
      return value.value_or(Json());
    }
    case Node::Kind::sequence: {
      Json array = Json::array();
      for (const Node& item : node.items) array.push_back(json_of(item, findings));
      return array;
    }
    case Node::Kind::mapping: {
      Json object = Json::object();
      // Appended as they come: the tree holds no key twice, and a search for each would cost
      // quadratic time.
      auto& members = object.get_ref<Json::object_t&>();
      for (const Entry& entry : node.entries) {
        members.push_back({entry.key, json_of(entry.value, findings)});
      }
      return object;
    }
  }
  return nullptr;
}

// May not be written elsewhere, such as in the log of a start that failed.
bool is_secret(Syntax syntax) {
  return syntax == Syntax::secret || syntax == Syntax::signing_key ||
         syntax == Syntax::header_value;
}

// Whether a secret may be written out in a key's place. "!..." and "&..." are taken for a tag and
// an anchor, with nothing behind them.
bool may_show_secret(const Node& node) {
  const bool nothing =
      node.kind == Node::Kind::null || (node.kind == Node::Kind::scalar && node.text.empty());
  return node.faulty ? !node.variable : !nothing && !node.variable;
}

template <typename Visit>
void for_each_entry(const Node& mapping, const Visit& visit) {
  for (const Entry& entry : mapping.entries) visit(entry);
  for (const Entry& entry : mapping.dropped) visit(entry);
}

void hide_lines(const Node& node, Findings& findings) {
  findings.hide_line(node.at.line);
  for (const Node& item : node.items) hide_lines(item, findings);
  for_each_entry(node, [&](const Entry& entry) {
    findings.hide_line(entry.key_at.line);
    hide_lines(entry.value, findings);
  });
}

// No message shows a line in which a key may stand written out, wherever that is and however wrong.
// Those of a tls section are names of files.
void hide_keys(const Node& node, Findings& findings) {
  for (const Node& item : node.items) hide_keys(item, findings);
  for_each_entry(node, [&](const Entry& entry) {
    if (entry.key == "tls") return;
    if (entry.key != "key" || !may_show_secret(entry.value)) {
      return hide_keys(entry.value, findings);
    }
    findings.hide_line(entry.key_at.line);
    hide_lines(entry.value, findings);
  });
}

// What a text in the place of a mapping is short for.
void expand(Node& node, std::string_view key) {
  Node mapping;
  mapping.kind = Node::Kind::mapping;
  mapping.at = node.at;
  mapping.entries.push_back({std::string(key), node.at, std::move(node)});
  node = std::move(mapping);
}

}  // namespace

void Reader::read(Config& config) {
  hide_keys(root_, findings_);
  if (is(root_, Node::Kind::mapping, "expected a mapping"))
    within(root_, [&] { visit(*this, config); });
}

void Reader::within(Node& mapping, const std::function<void()>& body) {
  Node* outer = std::exchange(node_, &mapping);
  Words outer_known = std::exchange(known_, {});
  Words outer_later = std::exchange(later_, {});
  body();
  report_unknown();
  node_ = outer;
  known_ = std::move(outer_known);
  later_ = std::move(outer_later);
}

void Reader::report_unknown() {
  for (const auto& [key, key_at, value] : node_->entries) {
    if (contains(known_, key)) continue;
    if (findings_.full()) return;  // guessing what was meant costs more than reading
    if (contains(later_, key)) {
      findings_.add(key_at, key + ": not available in this version");
      continue;
    }
    const auto meant = nearest(key, known_);
    findings_.add(key_at, "unknown key " + in_quotes(key) +
                              (meant ? " (did you mean " + in_quotes(*meant) + "?)" : ""));
  }
}

void Reader::report(Node& node, std::string message) {
  node.faulty = true;
  findings_.add(node.at, std::move(message));
}

Node* Reader::find(const Key& key) {
  known_.push_back(key.name);
  const auto& entries = node_->entries;
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const Entry& entry) { return entry.key == key.name; });
  if (found != entries.end()) {
    auto& value = node_->entries[static_cast<std::size_t>(found - entries.begin())].value;
    return &value;
  }
  // A key that was given twice, or whose neighbour was, is not missing too.
  if (key.required && !node_->faulty) {
    findings_.add(node_->at, in_quotes(key.name) + " is missing");
  }
  return nullptr;
}

Node* Reader::find(const Key& key, Node::Kind kind, std::string_view expected) {
  Node* node = find(key);
  const auto subject = std::string(key.name) + ": expected " + std::string(expected);
  return node && is(*node, kind, subject) ? node : nullptr;
}

bool Reader::is(Node& node, Node::Kind kind, std::string_view expected) {
  if (node.kind == kind) return kind != Node::Kind::scalar || !node.faulty;
  if (!node.faulty) {
    report(node, std::string(expected) + ", found " + describe(node));
  }
  return false;
}

void Reader::number(const Key& key, std::uint64_t& field, const Range& range) {
  constexpr std::string_view expected[] = {"a number", "a size", "a duration"};
  Node* node = find(key, Node::Kind::scalar, expected[static_cast<std::size_t>(range.unit)]);
  if (!node) return;
  const auto value = parse_number(node->text, range);
  if (!value) return report(*node, std::string(key.name) + ": " + value.error().message);
  field = *value;
}

void Reader::flag(const Key& key, bool& field) {
  Node* node = find(key, Node::Kind::scalar, "true or false");
  if (!node) return;
  if (node->text != "true" && node->text != "false") {
    return report(
        *node, std::string(key.name) + ": expected true or false, found " + in_quotes(node->text));
  }
  field = node->text == "true";
}

void Reader::choice(const Key& key, std::size_t& field, const Words& words) {
  Node* node = find(key, Node::Kind::scalar, alternatives(words));
  if (!node) return;
  const auto found = std::find(words.begin(), words.end(), node->text);
  if (found == words.end()) {
    return report(*node, std::string(key.name) + ": expected " + alternatives(words) + ", found " +
                             in_quotes(node->text));
  }
  field = static_cast<std::size_t>(found - words.begin());
}

std::optional<std::string> Reader::checked(Node& node, Syntax syntax) {
  auto value = check_syntax(syntax, node.text, base_dir_);
  if (value) return *value;
  const bool shown = !is_secret(syntax);
  report(node, (shown ? in_quotes(node.text) : "this value") + ": " + value.error().message);
  return std::nullopt;
}

void Reader::check_name(const Entry& entry, Syntax syntax) {
  const auto name = check_syntax(syntax, entry.key, base_dir_);
  if (!name) findings_.add(entry.key_at, in_quotes(entry.key) + ": " + name.error().message);
}

void Reader::text(const Key& key, std::string& field, Syntax syntax) {
  Node* node = find(key, Node::Kind::scalar, "a text");
  if (!node) return;
  if (auto value = checked(*node, syntax)) field = std::move(*value);
}

void Reader::text_map(const Key& key, std::map<std::string, std::string>& field, Syntax names,
                      Syntax values) {
  Node* node = find(key, Node::Kind::mapping, "a mapping");
  if (!node) return;
  if (node->entries.empty()) report(*node, in_quotes(key.name) + " must not be empty");
  for (Entry& entry : node->entries) {
    check_name(entry, names);
    if (!is(entry.value, Node::Kind::scalar, in_quotes(entry.key) + ": expected a text")) continue;
    if (auto value = checked(entry.value, values)) field[entry.key] = std::move(*value);
  }
}

void Reader::texts(const Key& key, std::vector<std::string>& field, Syntax syntax) {
  Node* node = find(key, Node::Kind::sequence, "a list such as [a, b]");
  if (!node) return;
  field.clear();  // a route's list takes the place of the default one
  field.reserve(node->items.size());
  for (Node& item : node->items) {
    if (!is(item, Node::Kind::scalar, "expected a text")) continue;
    auto value = checked(item, syntax);
    if (!value) continue;
    field.push_back(std::move(*value));
  }
  auto sorted = field;
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) report(*node, in_quotes(*twice) + " is listed twice");
}

void Reader::json(const Key& key, std::string& field) {
  Node* node = find(key, Node::Kind::mapping, "a mapping");
  if (node) field = json_of(*node, findings_).dump();
}

bool Reader::section(const Key& key, const std::function<void()>& body,
                     std::string_view short_form) {
  Node* node = find(key);
  if (!node) return false;
  const bool may_be_short = !short_form.empty();
  if (may_be_short && node->kind == Node::Kind::scalar) expand(*node, short_form);
  const auto subject = std::string(key.name) +
                       (may_be_short ? ": expected a word or a mapping" : ": expected a mapping");
  if (!is(*node, Node::Kind::mapping, subject)) return false;
  within(*node, body);
  return true;
}

void Reader::section_or_off(const Key& key, bool& on, const std::function<void()>& body) {
  Node* node = find(key);
  if (!node) return;
  on = node->kind != Node::Kind::scalar || node->text != "off";
  const auto subject = std::string(key.name) + ": expected a mapping or \"off\"";
  if (on && is(*node, Node::Kind::mapping, subject)) within(*node, body);
}

void Reader::list(const Key& key, const std::function<void(std::size_t)>& item,
                  std::string_view short_form) {
  Node* node = find(key, Node::Kind::sequence, "a list");
  if (!node) return;
  if (node->items.empty()) report(*node, in_quotes(key.name) + " must not be empty");
  const bool may_be_short = !short_form.empty();
  for (std::size_t i = 0; i < node->items.size(); ++i) {
    Node& mapping = node->items[i];
    if (may_be_short && mapping.kind == Node::Kind::scalar) expand(mapping, short_form);
    // Visited in any case, so that the items and what was made of them keep their numbers.
    is(mapping, Node::Kind::mapping,
       may_be_short ? "expected a text or a mapping" : "expected a mapping");
    within(mapping, [&] { item(i); });
  }
}

void Reader::map(const Key& key, Syntax names,
                 const std::function<void(const std::string&)>& item) {
  Node* node = find(key, Node::Kind::mapping, "a mapping");
  if (!node) return;
  for (Entry& entry : node->entries) {
    check_name(entry, names);
    is(entry.value, Node::Kind::mapping, in_quotes(entry.key) + ": expected a mapping");
    within(entry.value, [&] { item(entry.key); });
  }
}

void Reader::exactly_one(std::string_view noun, const Words& words) {
  if (node_->faulty) return;
  std::vector<const Entry*> given;
  for (const Entry& entry : node_->entries) {
    if (contains(words, entry.key)) given.push_back(&entry);
  }
  if (given.empty()) {
    findings_.add(node_->at, "a " + std::string(noun) + " is missing: give " + alternatives(words));
  }
  for (std::size_t i = 1; i < given.size(); ++i) {
    findings_.add(given[i]->key_at, "a second " + std::string(noun) + ": there is only one of " +
                                        alternatives(words));
  }
}

void Reader::later(const Words& words) {
  later_.insert(later_.end(), words.begin(), words.end());
}

}  // namespace sluice::config
