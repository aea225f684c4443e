#include "config/environment.h"

#include <algorithm>

#include "config/text.h"

namespace sluice::config {
namespace {

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool is_name(std::string_view text) {
  return !text.empty() && !(text[0] >= '0' && text[0] <= '9') &&
         std::all_of(text.begin(), text.end(), is_name_character);
}

// What stands for "NAME" or "NAME:-default".
tl::expected<std::string, std::string> value_of(std::string_view reference,
                                                const Environment& environment) {
  if (reference.find("${") != std::string_view::npos) {
    return tl::unexpected<std::string>("variables cannot stand in each other's defaults");
  }
  const auto separator = reference.find(":-");
  const std::string name(reference.substr(0, separator));
  if (!is_name(name)) {
    return tl::unexpected<std::string>(
        "expected ${NAME} or ${NAME:-default} (write $${ for a plain ${)");
  }
  const auto value = environment(name);
  if (separator != std::string_view::npos && value.value_or("").empty()) {
    return std::string(reference.substr(separator + 2));
  }
  if (!value) {
    return tl::unexpected("the environment variable " + name + " is not set (write ${" + name +
                          ":-default} to give a default)");
  }
  if (invalid_utf8_at(*value)) {
    return tl::unexpected("the environment variable " + name + " is not valid UTF-8");
  }
  return *value;
}

}  // namespace

tl::expected<std::string, ExpansionError> expand(std::string_view text,
                                                 const Environment& environment,
                                                 std::size_t size_max) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto rest = text.substr(i);
    if (rest.starts_with("$${")) {
      out += "${";
      i += 3;
    } else if (rest.starts_with("${")) {
      const auto end = rest.find('}');
      if (end == std::string_view::npos) {
        return tl::unexpected(ExpansionError{i, "\"${\" is not closed by \"}\""});
      }
      auto value = value_of(rest.substr(2, end - 2), environment);
      if (!value) return tl::unexpected(ExpansionError{i, value.error()});
      out += *value;
      i += end + 1;
    } else {
      out += rest.front();
      ++i;
    }
    if (out.size() > size_max) {
      return tl::unexpected(ExpansionError{i, "too long once its variables are filled in"});
    }
  }
  return out;
}

bool is_variable(std::string_view text) {
  return text.starts_with("${") && text.ends_with('}') && is_name(text.substr(2, text.size() - 3));
}

}  // namespace sluice::config
