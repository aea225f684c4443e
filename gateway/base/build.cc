#include "base/build.h"

// CMake defines both for this file alone, so that a new revision compiles nothing else again.
#ifndef SLUICE_VERSION
#define SLUICE_VERSION "unknown"
#endif
#ifndef SLUICE_REVISION
#define SLUICE_REVISION "unknown"
#endif

namespace sluice {

const char* version() {
  return SLUICE_VERSION;
}

const char* revision() {
  return SLUICE_REVISION;
}

}  // namespace sluice
