#include "config/webhook_fields.h"

#include <algorithm>
#include <array>

#include "base/field.h"

namespace sluice::config {

bool is_webhook_field(std::string_view name) {
  static constexpr std::array<std::string_view, 14> names = {
      "accept",           "accept-encoding",  "connection-id",       "content-bytes-replayed",
      "content-digest",   "content-encoding", "content-disposition", "content-language",
      "content-location", "content-md5",      "content-range",       "content-type",
      "digest",           "repr-digest"};
  static constexpr std::array<std::string_view, 3> prefixes = {"meta-", "grip-", "sluice-"};
  const std::string lower = to_lower(name);
  return std::ranges::find(names, lower) != names.end() ||
         std::ranges::any_of(prefixes,
                             [&](std::string_view prefix) { return lower.starts_with(prefix); });
}

}  // namespace sluice::config
