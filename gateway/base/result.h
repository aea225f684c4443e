// Result<T>: a value, or an Error that says in words what went wrong.
//
// Errors rise through return values; only the roots of the call tree (Connection's event methods,
// main) decide what to do about them. Nothing on the data path throws.
#pragma once

#include <string>
#include <system_error>
#include <tl/expected.hpp>
#include <utility>

namespace sluice {

// What went wrong, fit to be shown to a person: "bind 0.0.0.0:80: Permission denied".
struct Error {
  std::string message;
};

template <typename T = void>
using Result = tl::expected<T, Error>;

// return fail("...") from a function that returns Result<T>.
inline tl::unexpected<Error> fail(std::string message) {
  return tl::unexpected<Error>(Error{std::move(message)});
}

// return fail_errno("bind 0.0.0.0:80", errno): the system's own words behind ours.
inline tl::unexpected<Error> fail_errno(const std::string& what, int error) {
  return fail(what + ": " + std::generic_category().message(error));
}

}  // namespace sluice
