// The fields of requests to webhook services that only the gateway writes: a client may not say
// them of itself, and a configuration cannot set them.
#pragma once

#include <string_view>

namespace sluice::config {

// The case of the name does not matter.
bool is_webhook_field(std::string_view name);

}  // namespace sluice::config
