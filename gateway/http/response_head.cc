#include "http/response_head.h"

#include "http/fields.h"

namespace sluice::http {

std::optional<std::string> ResponseHead::header(std::string_view name) const {
  return find_field(headers, name);
}

std::size_t ResponseHead::count(std::string_view name) const {
  return count_fields(headers, name);
}

bool ResponseHead::has_token(std::string_view name, std::string_view token) const {
  return has_list_token(headers, name, token);
}

}  // namespace sluice::http
