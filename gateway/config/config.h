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
  bool reuse_port = false;  // other processes of the same user may listen there too
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
  // max_message_size: 1009 above; 0: no limit, as for tcp and http targets unless given
  std::uint64_t message_bytes_max = 1024 * 1024;
  // max_fragments of one message: 1008 above; 0: no limit, as for tcp and http targets unless given
  std::uint32_t fragments_max = 1024;
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
  std::uint64_t tcp_user_timeout_ms = 60'000;  // net/send_watch.h; 0: the kernel's
};

// permessage-deflate (RFC 7692).
struct Compression {
  enum class Mode {
    off,
    shared,       // no context takeover: a socket holds no memory for it between its messages
    dedicated,    // context takeover: better compression, and memory for each socket
    passthrough,  // http: the upstream's affair, compressed messages are relayed as they are
  };
  Mode mode = Mode::off;
  std::uint32_t level = 2;         // as zlib counts, 1 to 9
  std::uint64_t min_bytes = 256;   // min_size: smaller messages are sent as they are
  std::uint32_t window_bits = 12;  // dedicated: of either direction, if the client lets us choose
  std::uint32_t ratio_max = 100;   // max_ratio of messages over ratio_bytes_min: 1009; 0: no limit
  static constexpr std::uint64_t ratio_bytes_min = 1024 * 1024;
};

struct PluginTarget {
  std::string plugin;  // a key of Config::plugins
};

struct StaticTarget {
  std::string root;                  // a folder
  std::string index = "index.html";  // served for a folder
};

// ---- Upstreams: the services behind tcp, http and webhook routes.

struct Endpoint {
  std::string address;       // "10.0.0.5:8080", "[::1]:80", "backend:80", "unix:/run/app.sock"
  std::uint32_t weight = 1;  // 0: gets no new connections
};

enum class Balance { least_connections, round_robin, random, hash };

// What `lb: hash` hashes.
struct HashOn {
  enum class Kind { client, header, cookie, parameter };
  Kind kind = Kind::client;
  std::string name;  // of the header, the cookie or the parameter of path or query
};

struct HealthCheck {
  std::string path;  // GET; 200 to 399 is healthy. Empty: a TCP (or TLS) connect is enough
  std::string host;  // the Host field; empty: the endpoint's address
  std::uint64_t interval_ms = 5'000;
  std::uint64_t timeout_ms = 2'000;  // at most the interval
  std::uint32_t healthy_threshold = 2;
  std::uint32_t unhealthy_threshold = 3;
};

// Passive: what connections tell.
struct OutlierDetection {
  std::uint32_t consecutive_failures = 5;        // 0: off
  std::uint64_t base_ejection_time_ms = 10'000;  // doubled each time in a row
  std::uint64_t max_ejection_time_ms = 300'000;
  std::uint32_t max_ejection_percent = 50;  // of the endpoints; a single one is never ejected
};

struct UpstreamTls {
  std::string ca_file;      // PEM; empty: the system's
  std::string cert_file;    // PEM, for the upstream that asks for a client certificate
  std::string key_file;     // PEM
  std::string server_name;  // SNI and the name that is verified; empty: the endpoint's host
  bool verify = true;
};

enum class OnEndpointDown { keep, close };

struct Upstream {
  std::vector<Endpoint> endpoints;  // at least one
  Balance balance = Balance::least_connections;
  HashOn hash_on;
  std::optional<HealthCheck> health_check;
  OutlierDetection outlier_detection;
  std::optional<UpstreamTls> tls;
  std::uint64_t connect_timeout_ms = 5'000;  // of one attempt, TLS included
  std::uint32_t connect_attempts = 3;        // endpoints that are tried for one client
  std::uint32_t connections_max = 0;         // max_connections of each endpoint: 503; 0: no limit
  std::uint64_t slow_start_ms = 0;           // an endpoint that came back gets its share gradually
  std::uint64_t dns_refresh_ms = 30'000;
  OnEndpointDown on_endpoint_down = OnEndpointDown::keep;
  std::uint32_t idle_connections_max = 64;  // kept for HTTP requests, on each worker
  std::uint64_t idle_timeout_ms = 60'000;   // and for how long
};

enum class ProxyProtocol { off, v1, v2 };

// `upstream` of the targets is a key of Config::upstreams. An address written in its place has
// become an upstream of that name with one endpoint and every default.
struct TcpTarget {
  enum class Frames { binary, text };
  std::string upstream;  // empty: by token
  Frames frames = Frames::binary;
  ProxyProtocol proxy_protocol = ProxyProtocol::off;
  // The token is the path's {token} or the query's `token`. Values are like `upstream`.
  std::map<std::string, std::string> tokens;
  std::string token_file;  // websockify's format, read again when it changes
};

struct HeaderRules {
  std::map<std::string, std::string> set;
  std::vector<std::string> remove;
};

struct HttpTarget {
  std::string upstream;
  std::string rewrite;        // "/v2/{room}/*": the upstream's path; empty: the client's
  HeaderRules headers;        // of requests, upgrades among them
  bool validate_utf8 = true;  // text from either side; 1007
  Compression::Mode compression = Compression::Mode::off;  // of WebSockets to the upstream
  std::uint64_t response_timeout_ms = 60'000;              // until the response's head; 504
};

struct WebhookTarget {
  enum class Protocol { websocket_events, message };
  std::string upstream;
  Protocol protocol = Protocol::websocket_events;
  std::string rewrite;
  HeaderRules headers;
  bool grip = true;      // offer the `grip` extension
  std::string grip_key;  // signs Grip-Sig; "base64:..." or plain text; empty: no Grip-Sig
  std::string grip_issuer = "sluice";
  std::string channel_prefix;                  // before the names of channels
  std::uint64_t response_timeout_ms = 30'000;  // for one request
};

using Target = std::variant<PluginTarget, StaticTarget, TcpTarget, HttpTarget, WebhookTarget>;

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
  Compression compression;
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

// The listener of what only tells.
struct Metrics {
  std::string address;                  // empty: none
  std::uint32_t connections_max = 256;  // max_connections: closed at once
};

// The listener of what changes something.
struct Admin {
  std::string address;  // empty: none. Loopback or unix unless there is a key
  std::string key;      // Authorization: Bearer <key>, or a JWT (HS256) signed with it; empty: open
  std::uint32_t connections_max = 256;  // max_connections: closed at once
};

// Of one client address: an IPv4 address, or an IPv6 network of 64 bits.
struct Clients {
  std::uint32_t connections_max = 0;  // max_connections_per_ip: 503; 0: no limit
  std::uint32_t handshakes_max = 0;   // max_handshakes_per_ip: closed at once; 0: no limit
};

struct Memory {
  // budget of the process; `auto`: nine tenths of what the cgroup or the machine has
  std::uint64_t budget_bytes = automatic;
  static constexpr std::uint64_t automatic = ~std::uint64_t{0};
  std::uint64_t compression_bytes = 64 * 1024 * 1024;  // compression, of each worker
};

struct Shutdown {
  std::uint64_t drain_timeout_ms = 30'000;  // then whatever is still open is cut
};

struct Config {
  std::uint32_t workers = 0;  // 0: auto
  std::uint32_t connections_max =
      0;  // max_connections of the process: 503; 0: auto, from RLIMIT_NOFILE
  std::vector<Listener> listeners;  // at least one
  Metrics metrics;
  Admin admin;
  std::vector<std::string> trusted_proxies;  // "10.0.0.0/8", "::1", "unix": their X-Forwarded-*
  RequestLimits requests;
  Log log;
  Clients clients;
  Memory memory;
  Shutdown shutdown;
  std::map<std::string, Plugin> plugins;
  std::map<std::string, Upstream> upstreams;  // those written as an address in a target too
  std::vector<Route> routes;                  // in the order of the file
};

}  // namespace sluice::config
