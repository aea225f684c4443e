// What bench_load can do. Each prints one line of JSON with its figures; idle and subscribers print
// one whenever they are asked. The CPU time of the server is read from its clock at both ends of
// the measured time, so that it is of these messages and of no others.
#pragma once

#include "options.h"

namespace load {

void run_echo(const Options& options);
void run_idle(const Options& options);
void run_handshakes(const Options& options);
void run_subscribers(const Options& options);
void run_reconnect(const Options& options);

}  // namespace load
