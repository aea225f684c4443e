#include "http/fields.h"

#include <algorithm>

#include "base/field.h"

namespace sluice::http {

std::optional<std::string> find_field(const std::vector<Header>& fields, std::string_view name) {
  std::optional<std::string> joined;
  for (const Header& field : fields) {
    if (!equals_ignoring_case(field.name, name)) continue;
    joined = joined ? *joined + ", " + field.value : field.value;
  }
  return joined;
}

std::size_t count_fields(const std::vector<Header>& fields, std::string_view name) {
  return static_cast<std::size_t>(std::count_if(
      fields.begin(), fields.end(),
      [name](const Header& field) { return equals_ignoring_case(field.name, name); }));
}

bool has_list_token(const std::vector<Header>& fields, std::string_view name,
                    std::string_view token) {
  for (const Header& field : fields) {
    if (!equals_ignoring_case(field.name, name)) continue;
    for (const std::string_view element : split_list(field.value)) {
      if (equals_ignoring_case(element, token)) return true;
    }
  }
  return false;
}

}  // namespace sluice::http
