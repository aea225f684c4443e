// What to do.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace load {

enum class Mode { echo, idle, handshakes, subscribers, reconnect };

struct Options {
  Mode mode = Mode::echo;
  std::uint16_t port = 0;
  std::string path = "/echo";
  std::size_t connections = 1;
  std::size_t opening = 64;  // at most so many at once, so that no queue of the listener overflows
  std::uint32_t source = 0;  // the first IPv4 address to come from; 0: the kernel's choice
  std::size_t sources = 1;   // and how many from there on, which connections take by turns

  // What is spoken.
  bool raw = false;      // no WebSocket: the payloads alone
  bool stream = false;   // binary messages, whose boundaries may come back elsewhere
  bool deflate = false;  // JSON with permessage-deflate (RFC 7692), compressed once and for all
  // The parameters that the server has to agree to, as it writes them.
  std::string agreed = "server_no_context_takeover; client_no_context_takeover";
  bool tls = false;
  bool resume = false;  // with TLS: by the tickets of earlier connections

  // How much of it.
  std::size_t pipeline = 1;    // messages of a batch
  std::size_t size = 20;       // bytes of a payload
  double rate = 0;             // open loop: messages a second that are due; 0: closed loop
  std::size_t slow = 0;        // further connections that send and never read
  double seconds = 1;          // for so long, or
  std::uint64_t messages = 0;  // exactly so many, spread over the connections
  double warmup_seconds = 0.2;
  std::uint64_t total = 50'000;  // connections that `reconnect` has accepted
  bool wait = false;             // for a line on stdin, before and after the run

  pid_t server_pid = 0;
  unsigned limit_seconds = 300;  // whatever happens, it ends then
};

// Prints the usage and exits if they make no sense.
Options parse_options(int argc, char** argv);

}  // namespace load
