#include "config/keys.h"

#include "config/syntax.h"

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
  keys.flag({"reuse_port",
             "Other processes of the same user may listen on the same address if they say so too; "
             "the kernel spreads the clients over them. Not for unix sockets."},
            listener.reuse_port);
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
               "the plugin or the upstream to accept or reject (504)."},
              requests.handshake_timeout_ms, duration);
  keys.number(
      {"keep_alive_timeout",
       "Time that a connection may idle between two requests, leave a response unread, "
       "pause amid a request's body (408), or wait for an answer once the client has closed "
       "its direction."},
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
       "given. `tcp` and `http` routes do not come so far: over `high_watermark` they do not "
       "read their upstream."},
      buffers.limit_bytes, buffer_size);
}

void visit(Keys& keys, Limits& limits) {
  keys.number({"max_message_size",
               "Size of a message from the client; close code 1009 above. `off` for `tcp` and "
               "`http` routes unless given; plugins and webhooks need a size."},
              limits.message_bytes_max, {Unit::bytes, 0, gib, "off"});
  keys.number({"max_fragments",
               "Fragments of one message; close code 1008 above. `off` for `tcp` and `http` routes "
               "unless given."},
              limits.fragments_max, {Unit::count, 0, 1'000'000, "off"});
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
               "Time without anything of a message in either direction; close code 1001 "
               "after it. Pings are no messages."},
              timeouts.idle_ms, duration_or_off);
  keys.number({"message",
               "Time without a further byte of an unfinished message; close code 1008 "
               "after it."},
              timeouts.message_ms, duration_or_off);
  keys.number(
      {"close",
       "Time that the client has to answer our Close frame, from when it last took something "
       "of what stands before it, or sent something that still reaches its upstream."},
      timeouts.close_ms, duration);
}

void visit(Keys& keys, Keepalive& keepalive) {
  keys.number({"ping_interval", "How often a client is pinged."}, keepalive.ping_interval_ms,
              duration_or_off);
  keys.number({"pong_timeout", "Time that the client has to answer a ping."},
              keepalive.pong_timeout_ms, duration);
  keys.number({"tcp_user_timeout",
               "Time that sent bytes may stay unacknowledged by the peer's kernel before the "
               "connection is given up. A peer that does not read, and whose kernel says so, is "
               "not meant. Where no pings are sent, TCP keep-alives find out. `off` leaves the "
               "kernel's own."},
              keepalive.tcp_user_timeout_ms, {Unit::milliseconds, 0, 24 * day_ms, "off"});
}

void visit(Keys& keys, Compression& compression) {
  keys.choice_of(
      {"mode",
       "`off`: none. `shared`: without context takeover, so that a socket holds no memory for it "
       "between its messages. `dedicated`: with context takeover. `passthrough`: an `http` route "
       "relays what client and upstream agree on, and validates no compressed text."},
      compression.mode, {"off", "shared", "dedicated", "passthrough"});
  keys.number({"min_size", "Smaller messages are sent as they are."}, compression.min_bytes,
              {Unit::bytes, 0, gib});
  keys.number({"level", "How hard to try, from `1` (fast) to `9`."}, compression.level,
              {Unit::count, 1, 9});
  keys.number({"window_bits",
               "`dedicated`: how far back a message may refer, 2 to the power of it in bytes, and "
               "with it the memory of a socket."},
              compression.window_bits, {Unit::count, 9, 15});
  keys.number({"max_ratio",
               "How many times as large as its compressed form a message over 1MiB may be; close "
               "code 1009 above."},
              compression.ratio_max, {Unit::count, 0, 10'000, "off"});
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
       "`close`: as `pause`, and close code 1013 after `buffers.high_watermark_timeout`. `tcp` and "
       "`http` routes relay streams: they drop nothing."},
      route.slow_consumer, {"pause", "drop_oldest", "drop_newest", "close"});
  keys.section({"buffers", "How much may wait for a slow client."},
               [&] { visit(keys, route.buffers); });
  keys.section({"limits", "How much a client may send."}, [&] { visit(keys, route.limits); });
  keys.section({"timeouts", "How long things may take."}, [&] { visit(keys, route.timeouts); });
  keys.section({"keepalive", "How dead connections are found."},
               [&] { visit(keys, route.keepalive); });
  keys.section(
      {"compression", "permessage-deflate, between client and gateway."},
      [&] { visit(keys, route.compression); }, "mode");
}

void visit(Keys& keys, HeaderRules& rules) {
  keys.text_map({"set", "Fields and their values. They replace those that the client sent."},
                rules.set, Syntax::header_name, Syntax::header_value);
  keys.texts({"remove", "Names of fields that are not passed on."}, rules.remove,
             Syntax::header_name);
}

void visit(Keys& keys, StaticTarget& files) {
  keys.text({"root", "The folder.", true}, files.root, Syntax::path);
  keys.text({"index", "The file that is served for a folder."}, files.index, Syntax::file_name);
}

void visit_upstream_name(Keys& keys, std::string& upstream) {
  keys.text(
      {"upstream",
       "Where requests go: a name in `upstreams`, or an address such as `127.0.0.1:3000`.", true},
      upstream, Syntax::upstream);
}

// What http and webhook routes change about a request on its way.
void visit_request(Keys& keys, std::string& rewrite, HeaderRules& headers) {
  keys.text({"rewrite",
             "The path that the upstream is asked for: `/v2/{room}/*`, with parameters of the "
             "route's `path`. Without it: the client's."},
            rewrite, Syntax::rewrite);
  keys.section({"headers", "Changes to the header fields of requests."},
               [&] { visit(keys, headers); });
}

void visit(Keys& keys, TcpTarget& tcp) {
  keys.text({"upstream", "A name in `upstreams`, or an address such as `127.0.0.1:5900`."},
            tcp.upstream, Syntax::upstream);
  keys.text_map(
      {"tokens",
       "Where each client goes: its token is the path's `{token}` or the query's `token`; "
       "404 for any other. Values are like `upstream`."},
      tcp.tokens, Syntax::token, Syntax::upstream);
  keys.text({"token_file",
             "As `tokens`, from a file with lines such as `alice: 10.0.0.5:5900`. It is read again "
             "when it changes."},
            tcp.token_file, Syntax::path);
  keys.exactly_one("destination", {"upstream", "tokens", "token_file"});
  keys.choice_of({"frames",
                  "What the client is sent, and may send; close code 1003 for the other. `text` is "
                  "for services that speak UTF-8."},
                 tcp.frames, {"binary", "text"});
  keys.choice_of({"proxy_protocol",
                  "Whether the upstream is told the client's address first, in which version."},
                 tcp.proxy_protocol, {"off", "v1", "v2"});
}

void visit(Keys& keys, HttpTarget& http) {
  visit_upstream_name(keys, http.upstream);
  visit_request(keys, http.rewrite, http.headers);
  keys.flag({"validate_utf8",
             "Whether text messages of either side must be UTF-8; close code 1007 otherwise."},
            http.validate_utf8);
  keys.choice_of({"compression",
                  "permessage-deflate between gateway and upstream, on the terms of the route's "
                  "`compression`, whatever the client has agreed on."},
                 http.compression, {"off", "shared", "dedicated"});
  keys.number({"response_timeout",
               "Time that the upstream has to begin its response to a request; 504 after it."},
              http.response_timeout_ms, duration);
}

void visit(Keys& keys, WebhookTarget& webhook) {
  visit_upstream_name(keys, webhook.upstream);
  keys.choice_of({"protocol",
                  "`websocket-events`: WebSocket-over-HTTP, as Pushpin speaks it; `message`: one "
                  "POST for each message."},
                 webhook.protocol, {"websocket-events", "message"});
  visit_request(keys, webhook.rewrite, webhook.headers);
  keys.section_or_off(
      {"grip", "GRIP for `websocket-events`: channels, and signed requests. `off`: not offered."},
      webhook.grip, [&] {
        keys.text({"key",
                   "Signs requests (Grip-Sig): a text, or `base64:` and the key in base64. Without "
                   "it: they are not signed."},
                  webhook.grip_key, Syntax::signing_key);
        keys.text({"issuer", "The `iss` claim of the signature."}, webhook.grip_issuer,
                  Syntax::words);
        keys.text({"channel_prefix",
                   "Stands before the name of each channel, to keep those of services apart."},
                  webhook.channel_prefix, Syntax::words);
      });
  keys.number({"response_timeout",
               "Time for one request and its whole response, once there is a connection."},
              webhook.response_timeout_ms, duration);
}

// The section of one target. `target` becomes it if the route gives it.
template <typename Kind>
void visit_section(Keys& keys, const Key& key, Target& target) {
  Kind kind;
  if (keys.section(key, [&] { visit(keys, kind); })) target = std::move(kind);
}

void visit_target(Keys& keys, Target& target) {
  PluginTarget plugin;
  keys.text({"plugin", "Target: the plugin of this name in `plugins`."}, plugin.plugin,
            Syntax::plugin);
  target = std::move(plugin);
  visit_section<StaticTarget>(keys, {"static", "Target: files of a folder."}, target);
  visit_section<TcpTarget>(
      keys, {"tcp", "Target: a TCP service. Messages become raw bytes, and bytes messages."},
      target);
  visit_section<HttpTarget>(
      keys, {"http", "Target: an HTTP service. Plain requests and WebSockets are passed on."},
      target);
  visit_section<WebhookTarget>(
      keys, {"webhook", "Target: an HTTP service that gets WebSockets as requests."}, target);
  keys.exactly_one("target", {"plugin", "static", "tcp", "http", "webhook"});
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

void visit(Keys& keys, Endpoint& endpoint) {
  keys.text({"address",
             "`10.0.0.5:8080`, `[::1]:80`, `backend:80` or `unix:/run/app.sock`. Names are looked "
             "up.",
             true},
            endpoint.address, Syntax::endpoint);
  keys.number({"weight", "Its share of the clients, next to the others'; `0`: no new ones."},
              endpoint.weight, {Unit::count, 0, 256});
}

void visit(Keys& keys, HealthCheck& check) {
  keys.text({"path",
             "What is asked for with GET: 200 to 399 is healthy. Without it: a connection is "
             "enough."},
            check.path, Syntax::request_target);
  keys.text({"host", "The request's Host field. Without it: the endpoint's address."}, check.host,
            Syntax::authority);
  keys.number({"interval", "Time between two checks of an endpoint."}, check.interval_ms, duration);
  keys.number(
      {"timeout", "Time that a check may take; at most `interval`, also if it is not given."},
      check.timeout_ms, duration);
  keys.number({"healthy_threshold", "Checks in a row that bring an endpoint back."},
              check.healthy_threshold, {Unit::count, 1, 100});
  keys.number({"unhealthy_threshold", "Failed checks in a row that take an endpoint out."},
              check.unhealthy_threshold, {Unit::count, 1, 100});
}

void visit(Keys& keys, OutlierDetection& outliers) {
  keys.number({"consecutive_failures",
               "Failures in a row that eject an endpoint: it gets no new clients for a while."},
              outliers.consecutive_failures, {Unit::count, 0, 1000, "off"});
  keys.number({"base_ejection_time", "For how long, the first time; twice that the next one."},
              outliers.base_ejection_time_ms, duration);
  keys.number({"max_ejection_time", "For how long at most."}, outliers.max_ejection_time_ms,
              duration);
  keys.number(
      {"max_ejection_percent", "How many of the endpoints may be ejected. A single one never is."},
      outliers.max_ejection_percent, {Unit::count, 1, 100});
}

void visit(Keys& keys, UpstreamTls& tls) {
  keys.text({"ca", "PEM file with the authorities that are trusted. Without it: the system's."},
            tls.ca_file, Syntax::path);
  keys.text({"cert", "PEM file with our certificate, for an upstream that asks for one."},
            tls.cert_file, Syntax::path);
  keys.text({"key", "PEM file with the private key of `cert`."}, tls.key_file, Syntax::path);
  keys.text({"server_name",
             "The name that is asked for (SNI) and that the certificate must have. Without it: the "
             "endpoint's host."},
            tls.server_name, Syntax::host);
  keys.flag({"verify", "Whether the upstream's certificate is verified."}, tls.verify);
}

void visit_balance(Keys& keys, Upstream& upstream) {
  keys.choice_of({"lb",
                  "Which endpoint a client gets. `random`: the one of two with fewer connections; "
                  "`hash`: always the same for the same `hash_on`."},
                 upstream.balance, {"least_connections", "round_robin", "random", "hash"});
  std::string hash_on = "client";
  keys.text({"hash_on",
             "With `lb: hash`: `client` (its address), `header:X-User`, `cookie:sid` or "
             "`parameter:room`, of path or query."},
            hash_on, Syntax::hash_on);
  upstream.hash_on = parse_hash_on(hash_on);
}

void visit_health(Keys& keys, Upstream& upstream) {
  HealthCheck check;
  if (keys.section({"health_check", "Asks the endpoints from time to time whether they are well."},
                   [&] { visit(keys, check); })) {
    upstream.health_check = std::move(check);
  }
  keys.section({"outlier_detection", "Learns from connections that fail."},
               [&] { visit(keys, upstream.outlier_detection); });
  keys.choice_of(
      {"on_endpoint_down",
       "What happens to the clients of an endpoint that fails its `health_check`, or that "
       "`outlier_detection` has found: their WebSockets, and responses that have begun."},
      upstream.on_endpoint_down, {"keep", "close"});
  keys.number(
      {"slow_start", "Time in which an endpoint that came back grows to its share of new clients."},
      upstream.slow_start_ms, duration_or_off);
}

void visit(Keys& keys, Upstream& upstream) {
  keys.list(
      {"endpoints", "Its addresses.", true},
      [&](std::size_t i) {
        if (i == upstream.endpoints.size()) upstream.endpoints.emplace_back();
        visit(keys, upstream.endpoints[i]);
      },
      "address");
  visit_balance(keys, upstream);
  visit_health(keys, upstream);
  UpstreamTls tls;
  if (keys.section({"tls", "Connects with TLS. `{}` is enough."}, [&] { visit(keys, tls); })) {
    upstream.tls = std::move(tls);
  }
  keys.number({"connect_timeout", "Time to connect to an endpoint, TLS included."},
              upstream.connect_timeout_ms, duration);
  keys.number({"connect_attempts",
               "How many endpoints are tried for one client, within its handshake_timeout."},
              upstream.connect_attempts, {Unit::count, 1, 16});
  keys.number({"max_connections", "Connections to each endpoint; 503 when all are full."},
              upstream.connections_max, count_or_off);
  keys.number({"dns_refresh", "How often names are looked up again."}, upstream.dns_refresh_ms,
              {Unit::milliseconds, 1000, 365 * day_ms});
  keys.number(
      {"max_idle_connections",
       "Connections for HTTP requests that each worker keeps while it has no use for them."},
      upstream.idle_connections_max, {Unit::count, 0, 100'000, "off"});
  keys.number({"idle_timeout", "For how long it keeps them."}, upstream.idle_timeout_ms, duration);
}

void visit(Keys& keys, Plugin& plugin) {
  keys.text({"library",
             "The plugin's shared object: a file name, looked for in the plugin folder, or a path.",
             true},
            plugin.library, Syntax::library);
  keys.json({"config", "Settings for the plugin, which gets them as JSON."}, plugin.config);
}

// `auto` is no number, so that 0 can be `off`.
void visit_budget(Keys& keys, Memory& memory) {
  std::uint64_t bytes = memory.budget_bytes == Memory::automatic ? 0 : memory.budget_bytes;
  keys.number(
      {"budget",
       "Of the whole process. From 85 % on new clients are refused (503), from 90 % on what "
       "is kept for reuse is given back, from 95 % on the clients with the most bytes "
       "waiting are dropped. `auto`: nine tenths of what the container or the machine has."},
      bytes, {Unit::bytes, 1, 1024 * gib, "auto"});
  memory.budget_bytes = bytes == 0 ? Memory::automatic : bytes;
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
              config.metrics.address, Syntax::address);
    keys.number({"max_connections", "Connections that it has at once; more are closed."},
                config.metrics.connections_max, {Unit::count, 1, 1'000'000});
  });
  keys.section({"admin", "The listener of what changes something, such as `POST /publish/`."}, [&] {
    keys.text(
        {"address",
         "Where it listens: on 127.0.0.1, [::1] or a unix socket, or anywhere with a `key`.", true},
        config.admin.address, Syntax::address);
    keys.text({"key",
               "Requests must have `Authorization: Bearer` with this key, or with a JWT (HS256) "
               "that it signed: a text, or `base64:` and the key in base64. Without it: no "
               "authorization."},
              config.admin.key, Syntax::signing_key);
    keys.number({"max_connections", "Connections that it has at once; more are closed."},
                config.admin.connections_max, {Unit::count, 1, 1'000'000});
  });
  keys.texts({"trusted_proxies",
              "Addresses and ranges of proxies in front of the gateway, such as `10.0.0.0/8`, and "
              "`unix`: their X-Forwarded and Forwarded fields are believed."},
             config.trusted_proxies, Syntax::proxy_range);
  keys.section({"requests", "Bounds of HTTP requests, before a route is known."},
               [&] { visit(keys, config.requests); });
  keys.section({"log", "What is logged, and how."}, [&] { visit(keys, config.log); });
  keys.section({"clients",
                "How much one client address may have: an IPv4 address, or an IPv6 network of 64 "
                "bits. `trusted_proxies`, and clients of unix sockets, may have any number."},
               [&] {
                 keys.number({"max_connections_per_ip", "Connections of one address; 503 above."},
                             config.clients.connections_max, count_or_off);
                 keys.number({"max_handshakes_per_ip",
                              "Connections of one address that are no WebSocket yet; those above "
                              "are closed at once."},
                             config.clients.handshakes_max, count_or_off);
               });
  keys.section({"memory", "What the process may take."}, [&] {
    visit_budget(keys, config.memory);
    keys.number({"compression",
                 "Of each worker for permessage-deflate. Above: messages are sent as they are, "
                 "`dedicated` becomes `shared`, and a message that has to be inflated closes with "
                 "1013."},
                config.memory.compression_bytes, {Unit::bytes, 1, 1024 * gib});
  });
  keys.section({"shutdown", "What SIGTERM does."}, [&] {
    keys.number({"drain_timeout",
                 "Time that open WebSockets have to close before they are cut; `0`: none."},
                config.shutdown.drain_timeout_ms, {Unit::milliseconds, 0, 365 * day_ms});
  });
  keys.map({"plugins", "The plugins that routes can name."}, Syntax::plugin,
           [&](const std::string& name) { visit(keys, config.plugins[name]); });
  keys.map({"upstreams", "The services that routes can name."}, Syntax::upstream_name,
           [&](const std::string& name) { visit(keys, config.upstreams[name]); });
  visit_routes(keys, config);
}

}  // namespace sluice::config
