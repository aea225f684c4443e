// Which build this is.
#pragma once

namespace sluice {

// The version of the project, "0.1.0"; "unknown" if the build system did not say.
const char* version();

// The git revision it was built from, "3f2c1ab" or "3f2c1ab-dirty"; "unknown" outside a checkout.
const char* revision();

}  // namespace sluice
