// What is sent to be echoed.
#pragma once

#include <vector>

#include "base.h"
#include "options.h"

namespace load {

// What a connection sends at once, and what has to come back: with permessage-deflate, inflated.
struct Batch {
  Buffer request;
  Buffer response;
};

// Several that differ, so that an echo of another message does not pass for the right one.
std::vector<Batch> make_batches(const Options& options);

}  // namespace load
