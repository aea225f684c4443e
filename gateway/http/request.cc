#include "http/request.h"

#include <algorithm>

#include "base/field.h"

namespace sluice::http {

std::optional<std::string> Request::header(std::string_view name) const {
  std::optional<std::string> joined;
  for (const Header& field : headers) {
    if (!equals_ignoring_case(field.name, name)) continue;
    joined = joined ? *joined + ", " + field.value : field.value;
  }
  return joined;
}

std::size_t Request::count(std::string_view name) const {
  return static_cast<std::size_t>(std::count_if(
      headers.begin(), headers.end(),
      [name](const Header& field) { return equals_ignoring_case(field.name, name); }));
}

bool Request::has_token(std::string_view name, std::string_view token) const {
  for (const Header& field : headers) {
    if (!equals_ignoring_case(field.name, name)) continue;
    for (const std::string_view element : split_list(field.value)) {
      if (equals_ignoring_case(element, token)) return true;
    }
  }
  return false;
}

}  // namespace sluice::http
