// Config: what routes.yaml says, as plain values with every default filled in.
//
// A Config is never changed after it was loaded; a reload makes another one. Each field's default
// below is the documented default. Sizes are bytes and durations milliseconds.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/log.h"

namespace sluice::config {

struct Certificate {
  std::string cert_file;  // PEM, leaf first, then the chain
  std::string key_file;   // PEM
};

enum class TlsVersion { tls1_2, tls1_3 };

struct Tls {
  std::vector<Certificate>
      certificates;  // at least one; the first is used without or with unknown SNI
  TlsVersion min_version = TlsVersion::tls1_2;
};

struct Listener {
  std::string
      address;  // "0.0.0.0:9998", "[::]:9998", "unix:/run/sluice.sock"; port 0 takes a free one
  std::optional<Tls> tls;
  std::uint32_t backlog = 4096;
};

// What happens to a client that does not read what it is sent.
enum class SlowConsumer {
  pause,        // the client is not read either; over `limit` it is closed with 1013
  drop_oldest,  // whole messages that have not begun to be sent are dropped, oldest first
  drop_newest,  // new messages are dropped
  close,        // closed with 1013 after `high_watermark_timeout` over the high watermark
};

struct Buffers {
  std::uint64_t high_watermark_bytes = 256 * 1024;
  std::uint64_t low_watermark_bytes = 64 * 1024;  // a quarter of the high one unless given
  std::uint64_t high_watermark_timeout_ms = 30'000;
  // No client's bufferedAmount ever exceeds this by more than one message: a client that would is
  // closed with 1013 (pause, close). 16 times the high watermark unless given.
  std::uint64_t limit_bytes = 4 * 1024 * 1024;
};

struct Limits {
  std::uint64_t message_bytes_max = 1024 * 1024;  // max_message_size: 1009 above
  std::uint32_t fragments_max = 1024;             // max_fragments of one message: 1008 above
  std::uint32_t connections_max = 0;              // max_connections of the route: 503; 0: no limit
  std::uint32_t messages_per_second = 0;          // 1008 above; 0: no limit
  std::uint64_t bytes_per_second = 0;             // 1008 above; 0: no limit
  std::uint32_t control_frames_per_second = 100;  // pings and pongs: 1008 above; 0: no limit
};

struct Timeouts {
  std::uint64_t idle_ms = 0;          // no message in either direction: closed with 1001; 0: never
  std::uint64_t message_ms = 60'000;  // without a byte of an unfinished message: 1008; 0: never
  std::uint64_t close_ms =
      5'000;  // for the peer's Close frame, while it takes nothing of what stands before ours
};

struct Keepalive {
  std::uint64_t ping_interval_ms = 30'000;  // 0: no pings
  std::uint64_t pong_timeout_ms = 15'000;
  std::uint64_t tcp_user_timeout_ms = 60'000;  // TCP_USER_TIMEOUT; 0: the kernel's
};

struct PluginTarget {
  std::string plugin;  // a key of Config::plugins
};

struct StaticTarget {
  std::string root;                  // a folder
  std::string index = "index.html";  // served for a folder
};

using Target = std::variant<PluginTarget, StaticTarget>;

struct Route {
  std::string name;  // the metrics' `route` label; unique; host and path unless `name:` is given
  std::string host;  // lower case, without port; empty: any
  std::string path;  // as written: "/echo", "/chat/{room}", "/app/*"
  std::vector<std::string> allowed_origins;  // empty: same origin only; "*": all
  bool require_origin = false;               // refuse clients that send no Origin
  std::vector<std::string> subprotocols;     // in the order of our preference
  SlowConsumer slow_consumer = SlowConsumer::pause;
  Buffers buffers;
  Limits limits;
  Timeouts timeouts;
  Keepalive keepalive;
  Target target;
};

struct Plugin {
  std::string library;  // "echo.so": searched in the plugin path; with a slash: a path
  std::string config;   // the `config:` mapping as JSON text, handed to the plugin; "{}" if absent
};

// Caps on what is read before a route is known.
struct RequestLimits {
  std::uint32_t headers_max = 100;               // max_headers: 431 above
  std::uint32_t head_bytes_max = 32 * 1024;      // max_head_size, request line included: 431 above
  std::uint32_t target_bytes_max = 8 * 1024;     // max_target_size: 414 above
  std::uint64_t handshake_timeout_ms = 10'000;   // TLS and the head: 408; then the plugin: 504
  std::uint64_t keep_alive_timeout_ms = 60'000;  // between two requests, or of an unread response
};

struct Log {
  log::Level level = log::Level::info;
  log::Format format = log::Format::automatic;
  bool access = true;          // open, close, request, refused
  bool query_strings = false;  // false: redacted
};

struct Shutdown {
  std::uint64_t drain_timeout_ms = 30'000;  // then whatever is still open is cut
};

struct Config {
  std::uint32_t workers = 0;  // 0: auto
  std::uint32_t connections_max =
      0;  // max_connections of the process: 503; 0: auto, from RLIMIT_NOFILE
  std::vector<Listener> listeners;  // at least one
  std::string metrics_address;      // empty: no metrics listener
  RequestLimits requests;
  Log log;
  Shutdown shutdown;
  std::map<std::string, Plugin> plugins;
  std::vector<Route> routes;  // in the order of the file
};

}  // namespace sluice::config
