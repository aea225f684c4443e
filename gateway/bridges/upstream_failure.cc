#include "bridges/upstream_failure.h"

namespace sluice::bridges {

http::Response refusal_after(const upstreams::DialFailure& failure) {
  switch (const int status = failure.http_status()) {
    case 503:
      return http::refusal(status, "the upstream has no room", {{"Retry-After", "1"}});
    case 504:
      return http::refusal(status, "the upstream did not answer in time");
    default:
      return http::refusal(status, "the upstream cannot be reached");
  }
}

http::Response refusal_after(const upstreams::HttpFailure& failure) {
  if (failure.dial) return refusal_after(*failure.dial);
  const int status = failure.http_status();
  return http::refusal(status, status == 504 ? "the upstream did not answer in time"
                                             : "the upstream did not answer properly");
}

metrics::HandshakeResult handshake_result(int http_status) {
  return http_status == 504 ? metrics::HandshakeResult::upstream_timeout
                            : metrics::HandshakeResult::upstream_failed;
}

}  // namespace sluice::bridges
