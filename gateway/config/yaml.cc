#include "config/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <sstream>
#include <unordered_map>

#include "base/field.h"
#include "config/text.h"

namespace sluice::config {
namespace {

Position position_of(const YAML::Mark& mark) {
  return {static_cast<std::uint32_t>(mark.line) + 1, static_cast<std::uint32_t>(mark.column) + 1};
}

constexpr const char* open_quote = "this quote is not closed";

// Whether a quote opens at the offset and nothing closes it.
bool is_open_quote(std::string_view text, std::size_t offset) {
  const char quote = offset < text.size() ? text[offset] : '\0';
  if (quote != '"' && quote != '\'') return false;
  for (std::size_t i = offset + 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      const bool doubled = quote == '\'' && text.substr(i + 1).starts_with(quote);
      if (!doubled) return false;
      ++i;
    }
  }
  return true;
}

// What ends the reading at once. Not derived from the parser's exceptions: those are about syntax.
struct Refused {
  Position at;
  std::string message;
};

// Turns the parser's events into a tree. Leaves the parser by an exception where going on is
// pointless: nested too deeply, a quote without an end, or a second document.
class Builder final : public YAML::EventHandler {
 public:
  Builder(std::string_view text, const Environment& environment, Findings& findings)
      : text_(text), environment_(environment), findings_(findings) {}

  std::optional<Node> take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0)
      throw Refused{position_of(mark), "only one document is allowed in the file"};
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node node = begin(Node::Kind::null, mark, "", anchor);
    // The parser has read on to the next token: a value that is absent stands where its key does,
    // an item where its dash does.
    if (!frames_.empty()) {
      const Frame& frame = frames_.back();
      if (frame.key) node.at = frame.key->key_at;
      if (frame.dashes) node.at = dash_before(mark, frame.node.at.column);
    }
    add(std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Node node = begin(Node::Kind::null, mark, "", 0);
    report(node, "aliases (*) are not supported: write the value out");
    add(std::move(node));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    // The parser takes the end of the file for the end of the quote.
    const auto offset = static_cast<std::size_t>(mark.pos);
    if (is_open_quote(text_, offset)) throw Refused{position_of(mark), open_quote};
    Node node = begin(Node::Kind::scalar, mark, tag, anchor);
    node.plain = tag != "!";
    node.text = value;
    if (!expects_key()) fill_in(node, offset);
    add(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    open(mark, begin(Node::Kind::sequence, mark, tag, anchor));
    frames_.back().dashes = style == YAML::EmitterStyle::Block;
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, begin(Node::Kind::mapping, mark, tag, anchor));
  }
  void OnMapEnd() override { close(); }

 private:
  // A collection that is not closed yet.
  struct Frame {
    Node node;
    std::optional<Entry> key;                             // of a mapping: read, waits for its value
    bool drops = false;                                   // the key was reported
    bool dashes = false;                                  // of a sequence: not in brackets
    std::unordered_map<std::string, std::uint32_t> keys;  // seen so far, with their lines
  };

  void report(Node& node, std::string message) {
    node.faulty = true;
    findings_.add(node.at, std::move(message));
  }

  Node begin(Node::Kind kind, const YAML::Mark& mark, const std::string& tag,
             YAML::anchor_t anchor) {
    Node node;
    node.kind = kind;
    node.at = position_of(mark);
    // The parser gives plain scalars the tag "?" and quoted ones "!".
    const bool tagged = !tag.empty() && tag != "?" && tag != "!";
    if (tagged) report(node, "tags (!) are not supported");
    if (anchor != 0) report(node, "anchors (&) are not supported");
    return node;
  }

  // The dash that nothing but blank lines and comments stand between and the mark; all of a
  // sequence stand in the same column. The mark itself if something stands behind its dash.
  Position dash_before(const YAML::Mark& mark, std::uint32_t column) const {
    Position at = position_of(mark);
    auto above = text_.substr(0, static_cast<std::size_t>(mark.pos));
    for (;; --at.line) {
      const auto newline = above.rfind('\n');
      const auto line = above.substr(newline + 1);  // npos + 1 is 0
      const auto content = std::min(line.find_first_not_of(" \t\r"), line.size());
      if (content < line.size() && line[content] != '#') {
        const bool dash = line.find_first_not_of(" -") >= column && line.size() >= column &&
                          line[column - 1] == '-';
        if (dash && at.line != position_of(mark).line) return {at.line, column};
        return position_of(mark);
      }
      if (newline == std::string_view::npos) return position_of(mark);
      above = above.substr(0, newline);
    }
  }

  bool expects_key() const {
    if (frames_.empty()) return false;
    const Frame& frame = frames_.back();
    return frame.node.kind == Node::Kind::mapping && !frame.key;
  }

  void fill_in(Node& node, std::size_t offset) {
    if (node.text.find("${") == std::string::npos) {
      filled_bytes_ += node.text.size();
      return;
    }
    node.variable = is_variable(node.text);
    const std::size_t left = yaml_bytes_max - std::min(filled_bytes_, yaml_bytes_max);
    const auto lookup = [&](const std::string& name) {
      auto value = environment_(name);
      node.filled |= value && !value->empty();
      return value;
    };
    auto text = expand(node.text, lookup, left);
    if (text) {
      filled_bytes_ += text->size();
      node.text = std::move(*text);
      return;
    }
    // Point at the variable if the text shows it there; escapes and folding can move it.
    const std::size_t begin = offset + (node.plain ? 0 : 1) + text.error().offset;
    Position at = node.at;
    if (begin < text_.size() && text_.substr(begin).starts_with("${")) {
      at.column += static_cast<std::uint32_t>(begin - offset);
    }
    node.faulty = true;
    findings_.add(at, text.error().message);
  }

  void open(const YAML::Mark& mark, Node node) {
    if (frames_.size() >= yaml_depth_max) {
      throw Refused{position_of(mark),
                    "nested more than " + std::to_string(yaml_depth_max) + " levels deep"};
    }
    frames_.push_back({std::move(node), {}, false, false, {}});
  }

  void close() {
    Node node = std::move(frames_.back().node);
    frames_.pop_back();
    add(std::move(node));
  }

  void add(Node node) {
    if (frames_.empty()) {
      root_ = std::move(node);
    } else if (expects_key()) {
      add_key(frames_.back(), std::move(node));
    } else {
      add_value(frames_.back(), std::move(node));
    }
  }

  void add_key(Frame& frame, Node node) {
    frame.drops = !check_key(frame, node);
    frame.key = Entry{std::move(node.text), node.at, {}};
  }

  bool check_key(Frame& frame, Node& node) {
    if (node.faulty) return false;
    if (node.kind != Node::Kind::scalar) {
      report(node, "a key must be a word");
    } else if (node.text.find("${") != std::string::npos) {
      report(node, "variables stand for values, not for keys");
    } else if (node.text == "<<") {
      report(node, "merge keys (<<) are not supported: write the keys out");
    } else if (const auto [first, is_new] = frame.keys.emplace(node.text, node.at.line); !is_new) {
      report(node, "duplicate key " + in_quotes(node.text) + " (first in line " +
                       std::to_string(first->second) + ")");
    }
    frame.node.faulty |= node.faulty;
    return !node.faulty;
  }

  void add_value(Frame& frame, Node node) {
    if (frame.node.kind == Node::Kind::sequence) {
      frame.node.items.push_back(std::move(node));
      return;
    }
    frame.key->value = std::move(node);
    auto& entries = frame.drops ? frame.node.dropped : frame.node.entries;
    entries.push_back(std::move(*frame.key));
    frame.key.reset();
  }

  std::string_view text_;
  const Environment& environment_;
  Findings& findings_;
  std::vector<Frame> frames_;
  std::optional<Node> root_;
  std::size_t documents_ = 0;
  std::size_t filled_bytes_ = 0;
};

Position position_at(std::string_view text, std::size_t offset) {
  const auto before = text.substr(0, offset);
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const auto newline = before.rfind('\n');
  const auto column = newline == std::string_view::npos ? offset : offset - newline - 1;
  return {static_cast<std::uint32_t>(lines) + 1, static_cast<std::uint32_t>(column) + 1};
}

std::string describe_control(char c) {
  if (c == '\0') return "a NUL byte is not allowed (is this a UTF-8 text?)";
  return "the control character " + in_quotes(std::string_view(&c, 1)) +
         " is not allowed (in double quotes it can be escaped)";
}

// If a block scalar ("key: |") begins in this line, how far its lines are indented at least: more
// than its key or its dash (YAML 1.2.2 8.1).
std::optional<std::size_t> block_scalar_indent(std::string_view line) {
  const auto trimmed = [](std::string_view text, std::string_view characters) {
    return text.substr(0, text.find_last_not_of(characters) + 1);  // npos + 1 is 0
  };
  line = trimmed(line.substr(0, line.find(" #")), " \t\r");
  line = trimmed(line, "+-0123456789");
  if (!line.ends_with('|') && !line.ends_with('>')) return std::nullopt;
  line.remove_suffix(1);
  const auto before = trimmed(line, " \t");
  if (before.size() == line.size() || (!before.ends_with(':') && !before.ends_with('-'))) {
    return std::nullopt;
  }
  auto at = before.find_first_not_of(' ');
  // Behind a dash there may be a mapping or another sequence, whose indentation counts.
  while (before.substr(at).starts_with("- ")) at = before.find_first_not_of(' ', at + 1);
  return at + 1;
}

// How lines must not begin. YAML forbids tabs in the indentation, and parsers disagree about what
// they mean there. Ours takes a "%" for the end of the document, and skips the rest of its line.
void report_beginnings(std::string_view text, Findings& findings) {
  std::uint32_t number = 0;
  std::optional<std::size_t> scalar_indent;  // of the block scalar that we may be in
  while (!text.empty()) {
    ++number;
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.starts_with('%')) {
      findings.add({number, 1}, "directives (%) are not supported: no line begins with \"%\"");
    }
    const auto content = std::min(line.find_first_not_of(" \t\r"), line.size());
    if (content == line.size()) continue;
    if (scalar_indent && line.find_first_not_of(' ') >= *scalar_indent) continue;
    scalar_indent.reset();
    if (line[content] == '#') continue;
    scalar_indent = block_scalar_indent(line);
    const auto tab = line.substr(0, content).find('\t');
    if (tab == std::string_view::npos) continue;
    findings.add({number, static_cast<std::uint32_t>(tab) + 1},
                 "a tab in the indentation: YAML wants spaces");
  }
}

// What the parser would take amiss, or not notice.
bool check_bytes(std::string_view text, Findings& findings) {
  if (const auto bad = invalid_utf8_at(text)) {
    findings.add(position_at(text, *bad), "not valid UTF-8");
    return false;
  }
  const auto allowed = std::string_view("\t\n\r");
  const auto control = std::find_if(text.begin(), text.end(), [&](char c) {
    return is_control(c) && allowed.find(c) == std::string_view::npos;
  });
  if (control != text.end()) {
    const auto offset = static_cast<std::size_t>(control - text.begin());
    findings.add(position_at(text, offset), describe_control(*control));
    return false;
  }
  report_beginnings(text, findings);
  return findings.empty();
}

std::string line_at(std::string_view text, Position at) {
  for (std::uint32_t line = 1; line < at.line && !text.empty(); ++line) {
    text.remove_prefix(std::min(text.size(), std::min(text.find('\n'), text.size()) + 1));
  }
  return std::string(text.substr(0, text.find('\n')));
}

void report_syntax(std::string_view text, const YAML::Exception& error, Findings& findings) {
  const Position at = position_of(error.mark);
  if (is_open_quote(text, static_cast<std::size_t>(error.mark.pos))) {
    return findings.add(at, open_quote);
  }
  std::string message = "not valid YAML here: " + error.msg;
  if (line_at(text, at).find("${") != std::string::npos) {
    message += " (inside of [ ] and { } a ${NAME} must stand in quotes)";
  }
  findings.add(at, std::move(message));
}

std::optional<Node> build(std::string_view text, const Environment& environment,
                          Findings& findings) {
  Builder builder(text, environment, findings);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Refused& refused) {
    findings.add(refused.at, refused.message);
    return std::nullopt;
  } catch (const YAML::Exception& error) {
    // In a last line without its end the parser does notice that a quote is open, and tells where
    // the text ends. With it the builder is told where the quote opens.
    const bool cut_short = error.msg == YAML::ErrorMsg::EOF_IN_SCALAR && !text.ends_with('\n');
    if (cut_short) return build(std::string(text) + "\n", environment, findings);
    report_syntax(text, error, findings);
    return std::nullopt;
  }
  auto root = builder.take();
  if (!root || (root->kind == Node::Kind::null && !root->faulty)) {
    findings.add({1, 1}, "the file is empty: it needs at least listeners and routes");
    return std::nullopt;
  }
  return root;
}

}  // namespace

const Node* Node::find(std::string_view key) const {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const Entry& entry) { return entry.key == key; });
  return found == entries.end() ? nullptr : &found->value;
}

std::optional<Node> parse_yaml(std::string_view text, const Environment& environment,
                               Findings& findings) {
  if (text.size() > yaml_bytes_max) {
    findings.add({}, "larger than " + std::to_string(yaml_bytes_max) + " bytes");
    return std::nullopt;
  }
  if (!check_bytes(text, findings)) return std::nullopt;
  return build(text, environment, findings);
}

}  // namespace sluice::config
