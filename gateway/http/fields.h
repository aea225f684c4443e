// Looking header fields up, for requests and responses alike. Names are compared without case.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/request.h"

namespace sluice::http {

// The field's value, or nothing if it is absent; several are joined with ", " (RFC 9110 5.3).
std::optional<std::string> find_field(const std::vector<Header>& fields, std::string_view name);
// How often the field came.
std::size_t count_fields(const std::vector<Header>& fields, std::string_view name);
// Whether a comma-separated list field contains the token, compared without case.
bool has_list_token(const std::vector<Header>& fields, std::string_view name,
                    std::string_view token);

}  // namespace sluice::http
