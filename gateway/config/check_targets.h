// What no single key shows about upstreams and the targets that name them.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "config/yaml.h"

namespace sluice::config {

// tcp and http: what comes is passed on as it comes, and no message is held.
bool is_stream(const Target& target);
bool drops(SlowConsumer slow_consumer);
// What a target gives as upstreams, names and addresses. They point into it.
std::vector<const std::string*> upstreams_of(const Target& target);

void check_upstreams(const Config& config, const Node& root, Findings& findings);

// `node` is the route's.
void check_target(const Config& config, const Route& route, const Node& node, const Node& root,
                  Findings& findings);

}  // namespace sluice::config
