#include "config/keys.h"

namespace sluice::config {
namespace {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t gib = kib * kib * kib;
constexpr std::uint64_t day_ms = 24 * 3'600'000;

constexpr Range count_or_off{Unit::count, 0, 10'000'000, "off"};
constexpr Range buffer_size{Unit::bytes, 1, gib};
constexpr Range duration{Unit::milliseconds, 1, 365 * day_ms};
constexpr Range duration_or_off{Unit::milliseconds, 0, 365 * day_ms, "off"};

void visit(Keys& keys, Tls& tls) {
  keys.list({"certificates",
             "Certificates. The client's SNI chooses among them; the first one is served without "
             "SNI or for an unknown name.",
             true},
            [&](std::size_t i) {
              if (i == tls.certificates.size()) tls.certificates.emplace_back();
              keys.text({"cert", "PEM file with the certificate, then its chain.", true},
                        tls.certificates[i].cert_file, Syntax::path);
              keys.text({"key", "PEM file with the private key.", true},
                        tls.certificates[i].key_file, Syntax::path);
            });
  keys.choice_of({"min_version", "The oldest version of TLS that is spoken."}, tls.min_version,
                 {"1.2", "1.3"});
}

void visit(Keys& keys, Listener& listener) {
  keys.text({"address",
             "Where to listen: `0.0.0.0:9998`, `[::]:9998` or `unix:/run/sluice.sock`. Port 0 "
             "takes a free one.",
             true},
            listener.address, Syntax::address);
  Tls tls;
  if (keys.section({"tls", "Makes this a TLS listener."}, [&] { visit(keys, tls); })) {
    listener.tls = std::move(tls);
  }
  keys.number({"backlog", "How many connections may wait to be accepted."}, listener.backlog,
              {Unit::count, 1, 65'535});
}

void visit(Keys& keys, RequestLimits& requests) {
  keys.number({"max_headers", "Header fields of a request; 431 above."}, requests.headers_max,
              {Unit::count, 1, 10'000});
  keys.number({"max_head_size", "Size of a request's head, request line included; 431 above."},
              requests.head_bytes_max, {Unit::bytes, 512, kib * kib});
  keys.number({"max_target_size", "Size of a request's target; 414 above."},
              requests.target_bytes_max, {Unit::bytes, 64, kib * kib});
  keys.number({"handshake_timeout",
               "Time for the TLS handshake and the head of a request (408 after it), and then for "
               "the plugin to accept or reject (504)."},
              requests.handshake_timeout_ms, duration);
  keys.number({"keep_alive_timeout",
               "Time that a connection may idle between two requests, or leave a "
               "response unread."},
              requests.keep_alive_timeout_ms, duration);
}

void visit(Keys& keys, Log& log) {
  keys.choice_of({"level", "The least important records that are written."}, log.level,
                 {"debug", "info", "warning", "error"});
  keys.choice_of({"format", "`auto`: text on a terminal, JSON otherwise."}, log.format,
                 {"auto", "text", "json"});
  keys.flag({"access",
             "A record when a WebSocket opens, one when it closes, and one for each "
             "request that is answered or refused."},
            log.access);
  keys.choice_of({"query_strings", "Whether query strings, which often hold tokens, are logged."},
                 log.query_strings, {"redact", "show"});
}

void visit(Keys& keys, Buffers& buffers) {
  keys.number({"high_watermark",
               "The client counts as slow when its `bufferedAmount` goes over "
               "this, and `slow_consumer` says what happens."},
              buffers.high_watermark_bytes, buffer_size);
  keys.number({"low_watermark",
               "Sending resumes when `bufferedAmount` has fallen to this. A quarter "
               "of `high_watermark` unless given."},
              buffers.low_watermark_bytes, {Unit::bytes, 0, gib});
  keys.number({"high_watermark_timeout",
               "With `slow_consumer: close`, how long a client may stay "
               "over the high watermark."},
              buffers.high_watermark_timeout_ms, duration);
  keys.number(
      {"limit",
       "No client's `bufferedAmount` goes over this by more than one message: a client that "
       "would is closed with 1013 (`pause`, `close`). 16 times `high_watermark` unless "
       "given."},
      buffers.limit_bytes, buffer_size);
}

void visit(Keys& keys, Limits& limits) {
  keys.number({"max_message_size", "Size of a message from the client; close code 1009 above."},
              limits.message_bytes_max, buffer_size);
  keys.number({"max_fragments", "Fragments of one message; close code 1008 above."},
              limits.fragments_max, {Unit::count, 1, 1'000'000});
  keys.number({"max_connections", "Open WebSockets of the route; 503 above."},
              limits.connections_max, count_or_off);
  keys.number({"messages_per_second", "Messages from one client; close code 1008 above."},
              limits.messages_per_second, count_or_off);
  keys.number({"bytes_per_second", "Payload from one client; close code 1008 above."},
              limits.bytes_per_second, {Unit::bytes, 0, 1024 * gib, "off"});
  keys.number(
      {"control_frames_per_second", "Pings and pongs from one client; close code 1008 above."},
      limits.control_frames_per_second, count_or_off);
}

void visit(Keys& keys, Timeouts& timeouts) {
  keys.number({"idle",
               "Time without a message in either direction; close code 1001 after it. "
               "Pings are no messages."},
              timeouts.idle_ms, duration_or_off);
  keys.number({"message",
               "Time without a further byte of an unfinished message; close code 1008 "
               "after it."},
              timeouts.message_ms, duration_or_off);
  keys.number(
      {"close",
       "Time that the client has to answer our Close frame, from when it last took something "
       "of what stands before it."},
      timeouts.close_ms, duration);
}

void visit(Keys& keys, Keepalive& keepalive) {
  keys.number({"ping_interval", "How often a quiet client is pinged."}, keepalive.ping_interval_ms,
              duration_or_off);
  keys.number({"pong_timeout", "Time that the client has to answer a ping."},
              keepalive.pong_timeout_ms, duration);
  // An int of milliseconds for the kernel, so less than 25 days.
  keys.number({"tcp_user_timeout",
               "Time that sent bytes may stay unacknowledged before the kernel "
               "gives up; `off` leaves the kernel's own."},
              keepalive.tcp_user_timeout_ms, {Unit::milliseconds, 0, 24 * day_ms, "off"});
}

// What holds for any target: on a route, and in `defaults` for all of them.
void visit_common(Keys& keys, Route& route) {
  keys.texts({"allowed_origins",
              "Origins whose pages may open a WebSocket, such as `https://example.com`. Empty: the "
              "same origin only. `*`: all; `null`: pages opened from a file."},
             route.allowed_origins, Syntax::origin);
  keys.flag({"require_origin", "Refuse clients that send no Origin: they are no browsers."},
            route.require_origin);
  keys.texts({"subprotocols", "Subprotocols that the route speaks, the preferred ones first."},
             route.subprotocols, Syntax::subprotocol);
  keys.choice_of(
      {"slow_consumer",
       "What happens to a client over the high watermark. `pause`: the client is not read "
       "until it reads; `drop_oldest`, `drop_newest`: whole messages are dropped; "
       "`close`: as `pause`, and close code 1013 after "
       "`buffers.high_watermark_timeout`."},
      route.slow_consumer, {"pause", "drop_oldest", "drop_newest", "close"});
  keys.section({"buffers", "How much may wait for a slow client."},
               [&] { visit(keys, route.buffers); });
  keys.section({"limits", "How much a client may send."}, [&] { visit(keys, route.limits); });
  keys.section({"timeouts", "How long things may take."}, [&] { visit(keys, route.timeouts); });
  keys.section({"keepalive", "How dead connections are found."},
               [&] { visit(keys, route.keepalive); });
  keys.later({"compression"});
}

void visit_target(Keys& keys, Target& target) {
  PluginTarget plugin;
  keys.text({"plugin", "Target: the plugin of this name in `plugins`."}, plugin.plugin,
            Syntax::plugin);
  StaticTarget files;
  const bool serves_files = keys.section({"static", "Target: files of a folder."}, [&] {
    keys.text({"root", "The folder.", true}, files.root, Syntax::path);
    keys.text({"index", "The file that is served for a folder."}, files.index, Syntax::file_name);
  });
  keys.one_target({"plugin", "static"}, {"tcp", "http", "webhook"});
  if (serves_files) {
    target = std::move(files);
  } else {
    target = std::move(plugin);
  }
}

void visit(Keys& keys, Route& route) {
  keys.text({"path",
             "What requests must ask for: `/echo`, `/chat/{room}` or `/app/*`. The most specific "
             "route wins, wherever it stands in the file.",
             true},
            route.path, Syntax::pattern);
  keys.text({"host", "The host that requests must ask for, without port. Without it: any."},
            route.host, Syntax::host);
  keys.text({"name", "How metrics and logs call the route. Without it: host and path."}, route.name,
            Syntax::route_name);
  visit_target(keys, route.target);
  visit_common(keys, route);
}

void visit(Keys& keys, Plugin& plugin) {
  keys.text({"library",
             "The plugin's shared object: a file name, looked for in the plugin folder, or a path.",
             true},
            plugin.library, Syntax::library);
  keys.json({"config", "Settings for the plugin, which gets them as JSON."}, plugin.config);
}

void visit_routes(Keys& keys, Config& config) {
  Route defaults;
  keys.section({"defaults", "What holds for every route that does not say otherwise."},
               [&] { visit_common(keys, defaults); });
  keys.list({"routes", "Which requests go where.", true}, [&](std::size_t i) {
    if (i == config.routes.size()) config.routes.push_back(defaults);
    visit(keys, config.routes[i]);
  });
}

}  // namespace

void visit(Keys& keys, Config& config) {
  keys.number({"workers", "Threads. `auto`: one for each core that the process may use."},
              config.workers, {Unit::count, 1, 1024, "auto"});
  keys.number({"max_connections",
               "Open connections of the whole process; 503 above. `auto`: what the limit of open "
               "files allows."},
              config.connections_max, {Unit::count, 1, 100'000'000, "auto"});
  keys.list({"listeners", "Where clients connect.", true}, [&](std::size_t i) {
    if (i == config.listeners.size()) config.listeners.emplace_back();
    visit(keys, config.listeners[i]);
  });
  keys.section({"metrics", "The listener of /metrics, /healthz and /readyz."}, [&] {
    keys.text({"address", "Where it listens. It is not meant for the public.", true},
              config.metrics_address, Syntax::address);
  });
  keys.section({"requests", "Bounds of HTTP requests, before a route is known."},
               [&] { visit(keys, config.requests); });
  keys.section({"log", "What is logged, and how."}, [&] { visit(keys, config.log); });
  keys.section({"shutdown", "What SIGTERM does."}, [&] {
    keys.number({"drain_timeout",
                 "Time that open WebSockets have to close before they are cut; `0`: none."},
                config.shutdown.drain_timeout_ms, {Unit::milliseconds, 0, 365 * day_ms});
  });
  keys.map({"plugins", "The plugins that routes can name."},
           [&](const std::string& name) { visit(keys, config.plugins[name]); });
  visit_routes(keys, config);
  keys.later({"admin", "upstreams"});
}

}  // namespace sluice::config
