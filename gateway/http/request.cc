#include "http/request.h"

#include "http/fields.h"

namespace sluice::http {

std::optional<std::string> Request::header(std::string_view name) const {
  return find_field(headers, name);
}

std::size_t Request::count(std::string_view name) const {
  return count_fields(headers, name);
}

bool Request::has_token(std::string_view name, std::string_view token) const {
  return has_list_token(headers, name, token);
}

}  // namespace sluice::http
