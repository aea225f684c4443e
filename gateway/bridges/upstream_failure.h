// What becomes of a client whose upstream cannot be had: the answer, and what the metrics count.
#pragma once

#include "http/response.h"
#include "metrics/counters.h"
#include "upstreams/dial.h"
#include "upstreams/http_exchange.h"

namespace sluice::bridges {

// The answer says nothing of the upstream's name or address; the failure's `detail` is for the log.
http::Response refusal_after(const upstreams::DialFailure& failure);
http::Response refusal_after(const upstreams::HttpFailure& failure);

// How an opening handshake that is refused with this status (502, 503, 504) is counted.
metrics::HandshakeResult handshake_result(int http_status);

}  // namespace sluice::bridges
