// ${NAME} and ${NAME:-default} in the values of routes.yaml.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace sluice::config {

// The value of an environment variable, or nothing if it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

struct ExpansionError {
  std::size_t offset = 0;  // of the "${" at fault
  std::string message;
};

// Replaces ${NAME} by the variable's value and ${NAME:-default} by the default if the variable is
// not set or empty. "$${" stands for "${"; any other "$" is itself. What a variable holds is not
// expanded again. The result is valid UTF-8 of at most `size_max` bytes.
tl::expected<std::string, ExpansionError> expand(std::string_view text,
                                                 const Environment& environment,
                                                 std::size_t size_max);

// Whether a text is "${NAME}" and nothing else: then it shows nothing that somebody has written
// out.
bool is_variable(std::string_view text);

}  // namespace sluice::config
