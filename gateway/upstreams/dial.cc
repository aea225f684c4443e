#include "upstreams/dial.h"

namespace sluice::upstreams {

int DialFailure::http_status() const {
  switch (reason) {
    case metrics::ConnectFailure::timeout:
      return 504;
    case metrics::ConnectFailure::no_endpoint:
    case metrics::ConnectFailure::full:
      return 503;
    default:
      return 502;
  }
}

}  // namespace sluice::upstreams
