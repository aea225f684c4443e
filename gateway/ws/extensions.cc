#include "ws/extensions.h"

#include <utility>

#include "base/field.h"

namespace sluice::ws {
namespace {

// Reads the grammar of RFC 6455 9.1 from left to right, each character once.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) { skip_space(); }

  bool at_end() const { return text_.empty(); }

  // Takes the character and the space behind it, if it stands next.
  bool take(char c) {
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    skip_space();
    return true;
  }

  std::optional<std::string> token() {
    std::size_t size = 0;
    while (size < text_.size() && is_token_char(text_[size])) ++size;
    if (size == 0) return std::nullopt;
    std::string found(text_.substr(0, size));
    text_.remove_prefix(size);
    skip_space();
    return found;
  }

  // RFC 6455 9.1: "the value after quoted-string unescaping MUST conform to the 'token' ABNF".
  std::optional<std::string> quoted_token() {
    std::string found;
    while (!text_.empty() && text_.front() != '"') {
      if (text_.front() == '\\') text_.remove_prefix(1);
      if (text_.empty()) return std::nullopt;
      found.push_back(text_.front());
      text_.remove_prefix(1);
    }
    if (!take('"') || !is_token(found)) return std::nullopt;
    return found;
  }

 private:
  void skip_space() {
    while (!text_.empty() && (text_.front() == ' ' || text_.front() == '\t')) {
      text_.remove_prefix(1);
    }
  }

  std::string_view text_;
};

std::optional<ExtensionParameter> parse_parameter(Scanner& scanner) {
  auto name = scanner.token();
  if (!name) return std::nullopt;
  ExtensionParameter parameter{*std::move(name), {}};
  if (!scanner.take('=')) return parameter;
  parameter.value = scanner.take('"') ? scanner.quoted_token() : scanner.token();
  if (!parameter.value) return std::nullopt;
  return parameter;
}

std::optional<Extension> parse_extension(Scanner& scanner) {
  auto name = scanner.token();
  if (!name) return std::nullopt;
  Extension extension{*std::move(name), {}};
  while (scanner.take(';')) {
    auto parameter = parse_parameter(scanner);
    if (!parameter) return std::nullopt;
    extension.parameters.push_back(*std::move(parameter));
  }
  return extension;
}

}  // namespace

std::optional<std::vector<Extension>> parse_extensions(std::string_view field) {
  std::vector<Extension> extensions;
  Scanner scanner(field);
  while (!scanner.at_end()) {
    if (scanner.take(',')) continue;  // RFC 9110 5.6.1.2: empty elements are ignored
    auto extension = parse_extension(scanner);
    if (!extension) return std::nullopt;
    if (!scanner.at_end() && !scanner.take(',')) return std::nullopt;
    if (extensions.size() < extensions_max) extensions.push_back(*std::move(extension));
  }
  // RFC 6455 9.1: 1#extension, one at least.
  if (extensions.empty()) return std::nullopt;
  return extensions;
}

std::string to_string(const Extension& extension) {
  std::string text = extension.name;
  for (const ExtensionParameter& parameter : extension.parameters) {
    text += "; " + parameter.name;
    if (parameter.value) text += "=" + *parameter.value;
  }
  return text;
}

}  // namespace sluice::ws
