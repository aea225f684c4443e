// What is wrong with a configuration, and where.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace sluice::config {

// One mistake. Lines and columns count from 1, columns in characters; line 0 means the whole file.
struct Diagnostic {
  std::string file;
  std::uint32_t line = 0;
  std::uint32_t column = 0;
  std::string message;
  bool line_hidden = false;  // it holds a secret
};

using Diagnostics = std::vector<Diagnostic>;

// "routes.yaml:14:7: unknown key "timout" (did you mean "timeouts"?)"
std::string to_string(const Diagnostic& diagnostic);

// Every diagnostic on a line of its own, each followed by the line of `text` (the file's content)
// that is at fault, unless it is hidden, and a caret below the place. Ends with a newline.
std::string render(const Diagnostics& diagnostics, std::string_view text);

// Where something stands, while a file is read: columns count bytes.
struct Position {
  std::uint32_t line = 0;
  std::uint32_t column = 0;
};

// Collects the mistakes of one file.
class Findings {
 public:
  Findings(std::string file, std::string_view text) : file_(std::move(file)), text_(text) {}

  // At most `findings_max` are kept; the last one then says that there are more.
  void add(Position at, std::string message);
  // A secret stands in this line: no diagnostic shows it.
  void hide_line(std::uint32_t line) { hidden_lines_.insert(line); }
  bool empty() const { return findings_.empty(); }
  bool full() const { return findings_.size() == findings_max; }

  // Sorted by position, none twice.
  Diagnostics diagnostics() const;

  static constexpr std::size_t findings_max = 1000;

 private:
  struct Finding {
    Position at;
    std::string message;
  };

  std::string file_;
  std::string_view text_;
  std::vector<Finding> findings_;
  std::unordered_set<std::uint32_t> hidden_lines_;
};

}  // namespace sluice::config
