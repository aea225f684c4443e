// What no single key shows: whether the parts of a configuration fit together.
#pragma once

#include "config/config.h"
#include "config/yaml.h"

namespace sluice::config {

// `root` is what the reader made `config` from; what it has reported is not reported again.
void check(const Config& config, const Node& root, Findings& findings);

}  // namespace sluice::config
