#include "metrics/upstream_counters.h"

namespace sluice::metrics {

const char* label(ConnectFailure failure) {
  switch (failure) {
    case ConnectFailure::refused:
      return "refused";
    case ConnectFailure::unreachable:
      return "unreachable";
    case ConnectFailure::reset:
      return "reset";
    case ConnectFailure::timeout:
      return "timeout";
    case ConnectFailure::tls:
      return "tls";
    case ConnectFailure::unresolved:
      return "unresolved";
    case ConnectFailure::no_endpoint:
      return "no_endpoint";
    case ConnectFailure::full:
      return "full";
    case ConnectFailure::descriptors:
      return "descriptors";
    case ConnectFailure::count:
      break;
  }
  return "other";
}

}  // namespace sluice::metrics
