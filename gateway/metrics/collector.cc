#include "metrics/collector.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "base/build.h"
#include "base/memory.h"
#include "metrics/process.h"

namespace sluice::metrics {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

constexpr std::array<const char*, direction_count> direction_names = {"client_to_upstream",
                                                                      "upstream_to_client"};
constexpr std::array<Direction, direction_count> directions = {client_to_upstream,
                                                               upstream_to_client};
constexpr double us_per_second = 1e6;

// So many routes are all told of, used or not. Each is 13 KB of text, which scrapers fetch every
// few seconds: of more routes only those are told of that somebody has asked for.
constexpr std::size_t unused_routes_max = 500;

constexpr double ms_per_second = 1e3;

// The counts of a Histogram at one moment, of one worker or of several.
template <std::size_t n>
struct Observations {
  std::array<std::uint64_t, n + 1> buckets{};  // not cumulative
  std::uint64_t sum = 0;

  void add(const Histogram<n>& histogram) {
    for (std::size_t i = 0; i <= n; ++i) buckets[i] += histogram.buckets[i].get();
    sum += histogram.sum.get();
  }
  void add(const std::array<std::uint64_t, n>& bounds, std::uint64_t value) {
    const auto bound = std::lower_bound(bounds.begin(), bounds.end(), value);
    ++buckets[static_cast<std::size_t>(bound - bounds.begin())];
    sum += value;
  }
};

// What the live WebSockets of one route hold at this moment.
struct LiveSockets {
  std::array<std::uint64_t, direction_count> app_bytes{};
  std::array<std::uint64_t, direction_count> tls_bytes{};
  std::array<std::uint64_t, direction_count> bytes_max{};
  std::array<std::uint64_t, direction_count> paused{};
  std::array<Observations<buffered_bounds.size()>, direction_count> distribution{};

  void add(const ConnectionSlot& slot) {
    const std::uint64_t outbound = slot.buffered_bytes.get();
    const std::uint64_t outbound_tls = slot.buffered_tls_bytes.get();
    const std::uint64_t inbound = slot.inbound_bytes.get() + slot.upstream_bytes.get();
    const std::uint64_t inbound_tls = slot.upstream_tls_bytes.get();
    ++seen_;
    app_bytes[upstream_to_client] += outbound;
    app_bytes[client_to_upstream] += inbound;
    tls_bytes[upstream_to_client] += outbound_tls;
    tls_bytes[client_to_upstream] += inbound_tls;
    observe(upstream_to_client, outbound + outbound_tls);
    observe(client_to_upstream, inbound + inbound_tls);
    paused[upstream_to_client] += slot.paused.load(std::memory_order_relaxed) ? 1 : 0;
    paused[client_to_upstream] += slot.read_paused.load(std::memory_order_relaxed) ? 1 : 0;
  }
  // Of `active` ones those that have no slot, since nothing waits for them.
  void add_quiet(std::uint64_t active) {
    const std::uint64_t quiet = active - std::min(active, seen_);
    for (auto& observations : distribution) observations.buckets[0] += quiet;
  }

 private:
  std::uint64_t seen_ = 0;

  void observe(Direction direction, std::uint64_t bytes) {
    bytes_max[direction] = std::max(bytes_max[direction], bytes);
    distribution[direction].add(buffered_bounds, bytes);
  }
};

// One route, seen over all workers.
class Route {
 public:
  Route(const Sources& sources, std::size_t index) : sources_(sources), index_(index) {}

  std::string name() const {
    return index_ < sources_.route_names.size() ? sources_.route_names[index_] : "none";
  }

  std::size_t index() const { return index_; }

  // Whether anything was counted for it.
  bool used() const {
    const auto is_used = [](const Number& number) { return number.get() != 0; };
    return std::ranges::any_of(sources_.workers, [&](const WorkerCounters* worker) {
      const RouteCounters& own = counters(*worker);
      return std::ranges::any_of(own.handshakes, is_used) ||
             std::ranges::any_of(own.http_responses, is_used) ||
             std::ranges::any_of(own.limit_rejections, is_used);
    });
  }

  // pick(const RouteCounters&) returns the Number to add up; a pointer to a member does as well.
  template <typename Pick>
  double sum(Pick pick) const {
    std::uint64_t total = 0;
    for (const WorkerCounters* worker : sources_.workers) {
      total += std::invoke(pick, counters(*worker)).get();
    }
    return static_cast<double>(total);
  }

  // pick(const RouteCounters&) returns the Histogram to add up; it has these bounds.
  template <std::size_t n, typename Pick>
  Observations<n> merge(const std::array<std::uint64_t, n>&, Pick pick) const {
    Observations<n> total;
    for (const WorkerCounters* worker : sources_.workers) {
      total.add(std::invoke(pick, counters(*worker)));
    }
    return total;
  }

 private:
  const RouteCounters& counters(const WorkerCounters& worker) const {
    return worker.routes[index_];
  }

  const Sources& sources_;
  std::size_t index_;
};

void sample(MetricFamily& family, Labels labels, double value) {
  ClientMetric& metric = family.metric.emplace_back();
  metric.label = std::move(labels);
  (family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
}

// `per_unit`: how many of the bounds' units make one of the metric's, 1000 from ms to seconds.
template <std::size_t n>
void sample(MetricFamily& family, Labels labels, const std::array<std::uint64_t, n>& bounds,
            const Observations<n>& observations, double per_unit = 1) {
  ClientMetric& metric = family.metric.emplace_back();
  metric.label = std::move(labels);
  ClientMetric::Histogram& histogram = metric.histogram;
  for (std::size_t i = 0; i < n; ++i) {
    histogram.sample_count += observations.buckets[i];
    histogram.bucket.push_back({histogram.sample_count, static_cast<double>(bounds[i]) / per_unit});
  }
  histogram.sample_count += observations.buckets[n];  // the serializer adds the bucket le="+Inf"
  histogram.sample_sum = static_cast<double>(observations.sum) / per_unit;
}

Labels route_and_direction(const Route& route, Direction direction) {
  return {{"route", route.name()}, {"direction", direction_names[direction]}};
}

double closes(const Route& route, Initiator initiator, CloseReason reason) {
  return route.sum([=](const RouteCounters& c) -> auto& {
    return c
        .connections_closed[static_cast<std::size_t>(initiator)][static_cast<std::size_t>(reason)];
  });
}

// A label's value, and the number that is shown under it.
using TrafficKind = std::pair<const char*, Number TrafficCounters::*>;
using RouteKind = std::pair<const char*, Number RouteCounters::*>;

// By direction. Towards the upstream it is the client that is held back, towards the client the
// bridge.
constexpr std::array<std::array<RouteKind, 2>, direction_count> transition_numbers = {
    {{{{"pause", &RouteCounters::read_pauses}, {"resume", &RouteCounters::read_resumes}}},
     {{{"pause", &RouteCounters::pauses}, {"resume", &RouteCounters::resumes}}}}};

constexpr std::array<RouteKind, 3> slow_consumer_numbers = {
    {{"drop_oldest", &RouteCounters::messages_dropped_oldest},
     {"drop_newest", &RouteCounters::messages_dropped_newest},
     {"close", &RouteCounters::slow_consumer_closes}}};

// One series for each route, direction and kind; no label for the kind if `kind_label` is null.
void sample_traffic(MetricFamily& family, const std::vector<Route>& routes, const char* kind_label,
                    const std::vector<TrafficKind>& kinds) {
  for (const Route& route : routes) {
    for (const Direction direction : directions) {
      for (const auto& [kind, number] : kinds) {
        Labels labels = route_and_direction(route, direction);
        if (kind_label != nullptr) labels.push_back({kind_label, kind});
        const auto pick = [&, n = number ](const RouteCounters& c) -> auto& {
          return c.traffic[direction].*n;
        };
        sample(family, std::move(labels), route.sum(pick));
      }
    }
  }
}

// One scrape: the families in the order in which they are written.
class Scrape {
 public:
  explicit Scrape(const Sources& sources);

  std::string text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  void look_at_live_sockets();

  void add_build();
  void add_process();
  void add_configuration();
  void add_connections();
  void add_closes();
  void add_close_frames();
  void add_durations();
  void add_handshakes();
  void add_tls_handshakes();
  void add_http_responses();
  void add_messages();
  void add_bytes();
  void add_protocol_errors();
  void add_buffered_amount();
  void add_pauses();
  void add_slow_consumers();
  void add_compression();
  void add_memory();
  void add_liveness();
  void add_upstream_connections();
  void add_upstream_failures();
  void add_upstream_health();
  void add_upstream_requests();
  void add_event_loops();
  void add_accept_errors();
  void add_limit_rejections();

  // Each begins a family; the reference is good until the next one begins.
  MetricFamily& counter(const char* name, const char* help);
  MetricFamily& gauge(const char* name, const char* help);
  MetricFamily& histogram(const char* name, const char* help);
  MetricFamily& begin(MetricType type, const char* name, const char* help);

  // The configured routes: what can have a WebSocket.
  const std::vector<Route>& routes() const { return routes_; }
  // And the one that stands for "no route".
  std::vector<Route> routes_and_none() const;
  double sum_of_listeners(Number ListenerCounters::*number) const;

  const LiveSockets& live(const Route& route) const { return live_[route.index()]; }

  // Calls add(route, direction) for all configured routes.
  template <typename Add>
  void for_each_direction(Add add) const {
    for (const Route& route : routes()) {
      for (const Direction direction : directions) add(route, direction);
    }
  }

  // One series for each upstream, or for each endpoint of each.
  void sample_upstreams(MetricFamily& family, SharedNumber UpstreamCounters::*number) const;
  void sample_endpoints(MetricFamily& family, SharedNumber EndpointCounters::*number) const;

  const Sources& sources_;
  std::vector<Route> routes_;
  std::vector<LiveSockets> live_;  // by route
  std::vector<MetricFamily> families_;
};

Scrape::Scrape(const Sources& sources) : sources_(sources), live_(sources.route_names.size()) {
  const bool all = live_.size() <= unused_routes_max;
  for (std::size_t i = 0; i < live_.size(); ++i) {
    if (const Route route(sources_, i); all || route.used()) routes_.push_back(route);
  }
  look_at_live_sockets();
  add_build();
  add_process();
  add_configuration();
  add_connections();
  add_closes();
  add_close_frames();
  add_durations();
  add_handshakes();
  add_tls_handshakes();
  add_http_responses();
  add_messages();
  add_bytes();
  add_protocol_errors();
  add_buffered_amount();
  add_pauses();
  add_slow_consumers();
  add_compression();
  add_liveness();
  add_upstream_connections();
  add_upstream_failures();
  add_upstream_health();
  add_upstream_requests();
  add_event_loops();
  add_accept_errors();
  add_limit_rejections();
  add_memory();
}

void Scrape::look_at_live_sockets() {
  for (const WorkerCounters* worker : sources_.workers) {
    worker->connections.for_each([this](const ConnectionSlot& slot) {
      const std::size_t route = slot.route.load(std::memory_order_relaxed);
      if (route < live_.size()) live_[route].add(slot);
    });
  }
  for (std::size_t route = 0; route < live_.size(); ++route) {
    std::uint64_t active = 0;
    for (const WorkerCounters* worker : sources_.workers) {
      for (const Number& count : worker->routes[route].connections_active) active += count.get();
    }
    live_[route].add_quiet(active);
  }
}

void Scrape::add_build() {
  sample(gauge("sluice_build_info", "Always 1; the labels tell which build is running."),
         {{"version", version()},
          {"revision", revision()},
          {"abi", std::to_string(sources_.plugin_abi)}},
         1);
}

void Scrape::add_process() {
  const ProcessFigures process = read_process();
  const auto number = [](std::uint64_t value) { return static_cast<double>(value); };
  sample(counter("process_cpu_seconds_total", "CPU time used, user and system, in seconds."), {},
         process.cpu_seconds);
  sample(gauge("process_resident_memory_bytes", "Memory in RAM, in bytes."), {},
         number(process.resident_bytes));
  sample(gauge("process_virtual_memory_bytes", "Address space in use, in bytes."), {},
         number(process.virtual_bytes));
  sample(gauge("process_open_fds", "Open file descriptors; every connection holds one."), {},
         number(process.open_fds));
  sample(gauge("process_max_fds", "File descriptors that the process may open."), {},
         number(process.max_fds));
  sample(gauge("process_start_time_seconds", "When the process started, in seconds since 1970."),
         {}, process.start_time_seconds);
  sample(gauge("process_threads", "Threads of the process."), {}, number(process.threads));
}

void Scrape::add_configuration() {
  sample(gauge("sluice_draining", "1 while the gateway is shutting down, otherwise 0."), {},
         sources_.draining->load(std::memory_order_relaxed) ? 1 : 0);
  sample(gauge("sluice_config_last_reload_success_timestamp_seconds",
               "When routes.yaml was last loaded with success, in seconds since 1970."),
         {}, sources_.config_last_reload_success_seconds);
}

void Scrape::add_connections() {
  sample(counter("sluice_connections_accepted_total",
                 "Sockets accepted by the listeners, whatever became of them."),
         {}, sum_of_listeners(&ListenerCounters::accepted));

  MetricFamily& active = gauge("sluice_connections_active", "Open WebSockets.");
  for (const Route& route : routes()) {
    for (const std::size_t tls : {0U, 1U}) {
      sample(active,
             {{"route", route.name()}, {"transport", "h1"}, {"tls", tls == 0 ? "false" : "true"}},
             route.sum([&](const RouteCounters& counters) -> const Number& {
               return counters.connections_active[tls];
             }));
    }
  }

  MetricFamily& opened =
      counter("sluice_connections_opened_total", "WebSockets whose opening handshake succeeded.");
  for (const Route& route : routes()) {
    sample(opened, {{"route", route.name()}}, route.sum(&RouteCounters::connections_opened));
  }
}

// Most of the combinations never happen: only those that did are written, and the most usual one,
// so that the family is there from the start.
void Scrape::add_closes() {
  MetricFamily& family = counter("sluice_connections_closed_total",
                                 "WebSockets that have ended, by who ended them and why.");
  const auto add = [&family](const Route& route, Initiator initiator, CloseReason reason) {
    const double count = closes(route, initiator, reason);
    const bool always = initiator == Initiator::client && reason == CloseReason::normal;
    if (count == 0 && !always) return;
    sample(family,
           {{"route", route.name()}, {"initiator", label(initiator)}, {"reason", label(reason)}},
           count);
  };
  for (const Route& route : routes()) {
    for (std::size_t i = 0; i < initiator_count; ++i) {
      for (std::size_t reason = 0; reason < close_reason_count; ++reason) {
        add(route, static_cast<Initiator>(i), static_cast<CloseReason>(reason));
      }
    }
  }
}

// As above: the codes that were seen, and 1000.
void Scrape::add_close_frames() {
  MetricFamily& family =
      counter("sluice_close_frames_total", "Close frames, by the status code that they carried.");
  const auto add = [&family](const Route& route, Direction direction, std::size_t code) {
    const double count = route.sum([&](const RouteCounters& c) -> auto& {
      return c.traffic[direction].close_codes[code];
    });
    if (count == 0 && code != close_code_index(1000)) return;
    Labels labels = route_and_direction(route, direction);
    labels.push_back({"code", close_code_label(code)});
    sample(family, std::move(labels), count);
  };
  for (const Route& route : routes()) {
    for (const Direction direction : directions) {
      for (std::size_t code = 0; code < close_code_count; ++code) add(route, direction, code);
    }
  }
}

void Scrape::add_durations() {
  MetricFamily& family = histogram("sluice_connection_duration_seconds",
                                   "How long WebSockets lasted, observed when they end.");
  for (const Route& route : routes()) {
    sample(family, {{"route", route.name()}}, duration_bounds_ms,
           route.merge(duration_bounds_ms, &RouteCounters::duration), ms_per_second);
  }
}

void Scrape::add_handshakes() {
  MetricFamily& results =
      counter("sluice_handshakes_total", "Opening handshakes, by how they ended.");
  for (const Route& route : routes_and_none()) {
    for (std::size_t i = 0; i < handshake_result_count; ++i) {
      sample(results, {{"route", route.name()}, {"result", label(static_cast<HandshakeResult>(i))}},
             route.sum([i](const RouteCounters& c) -> auto& { return c.handshakes[i]; }));
    }
  }

  MetricFamily& duration =
      histogram("sluice_handshake_duration_seconds",
                "Time from the start of an opening handshake to its acceptance.");
  for (const Route& route : routes()) {
    sample(duration, {{"route", route.name()}}, handshake_bounds_us,
           route.merge(handshake_bounds_us, &RouteCounters::handshake_duration), us_per_second);
  }
}

void Scrape::add_tls_handshakes() {
  // In the order of WorkerCounters::tls_handshakes.
  static constexpr std::array<std::pair<const char*, const char*>, 4> kinds = {
      {{"ok", "1.2"}, {"ok", "1.3"}, {"failed", "none"}, {"timeout", "none"}}};
  MetricFamily& family = counter("sluice_tls_handshakes_total",
                                 "TLS handshakes, by how they ended and the version agreed on.");
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    std::uint64_t count = 0;
    for (const WorkerCounters* worker : sources_.workers) count += worker->tls_handshakes[i].get();
    sample(family, {{"result", kinds[i].first}, {"version", kinds[i].second}},
           static_cast<double>(count));
  }
}

void Scrape::add_http_responses() {
  MetricFamily& family =
      counter("sluice_http_responses_total", "Responses to plain requests, by class of status.");
  for (const Route& route : routes()) {
    for (std::size_t i = 0; i < status_classes.size(); ++i) {
      sample(family, {{"route", route.name()}, {"code", status_classes[i]}},
             route.sum([i](const RouteCounters& c) -> auto& { return c.http_responses[i]; }));
    }
  }
}

void Scrape::add_messages() {
  sample_traffic(
      counter("sluice_messages_total", "Whole messages, by their type."), routes(), "type",
      {{"text", &TrafficCounters::text_messages}, {"binary", &TrafficCounters::binary_messages}});
  sample_traffic(counter("sluice_frames_total", "WebSocket frames, by their opcode."), routes(),
                 "opcode",
                 {{"continuation", &TrafficCounters::continuation_frames},
                  {"text", &TrafficCounters::text_frames},
                  {"binary", &TrafficCounters::binary_frames},
                  {"close", &TrafficCounters::close_frames},
                  {"ping", &TrafficCounters::ping_frames},
                  {"pong", &TrafficCounters::pong_frames}});

  MetricFamily& sizes =
      histogram("sluice_message_size_bytes", "Payload sizes of whole messages, in bytes.");
  for_each_direction([&sizes](const Route& route, Direction direction) {
    const auto pick = [direction](const RouteCounters& c) -> auto& {
      return c.traffic[direction].message_size;
    };
    sample(sizes, route_and_direction(route, direction), message_size_bounds,
           route.merge(message_size_bounds, pick));
  });
}

void Scrape::add_bytes() {
  sample_traffic(counter("sluice_payload_bytes_total", "Payload of data frames, in bytes."),
                 routes(), nullptr, {{"", &TrafficCounters::payload_bytes}});
  sample_traffic(counter("sluice_wire_bytes_total",
                         "Frames of all kinds with their headers, before TLS, in bytes."),
                 routes(), nullptr, {{"", &TrafficCounters::wire_bytes}});
}

void Scrape::add_protocol_errors() {
  MetricFamily& family = counter("sluice_protocol_errors_total",
                                 "WebSockets that the gateway failed because of what arrived.");
  for (const Route& route : routes()) {
    for (const CloseReason kind :
         {CloseReason::protocol_error, CloseReason::invalid_data, CloseReason::message_too_big}) {
      sample(family, {{"route", route.name()}, {"kind", label(kind)}},
             closes(route, Initiator::gateway, kind));
    }
  }
}

void Scrape::add_buffered_amount() {
  MetricFamily& sum = gauge("sluice_buffered_amount_bytes",
                            "Bytes that wait in the gateway, of all open WebSockets together.");
  for (const Route& route : routes()) {
    const auto add = [&](Direction direction, const char* layer, std::uint64_t bytes) {
      Labels labels = route_and_direction(route, direction);
      labels.push_back({"layer", layer});
      sample(sum, std::move(labels), static_cast<double>(bytes));
    };
    for (const Direction direction : directions) {
      add(direction, "app", live(route).app_bytes[direction]);
      add(direction, "tls", live(route).tls_bytes[direction]);
    }
  }

  MetricFamily& max = gauge("sluice_buffered_amount_max_bytes",
                            "Bytes that wait for the one open WebSocket with the most of them.");
  for_each_direction([&](const Route& route, Direction direction) {
    sample(max, route_and_direction(route, direction),
           static_cast<double>(live(route).bytes_max[direction]));
  });

  MetricFamily& distribution =
      histogram("sluice_connection_buffered_amount_bytes",
                "Open WebSockets by the bytes that wait for each, at this scrape: the buckets go "
                "up and down, use them without rate().");
  for_each_direction([&](const Route& route, Direction direction) {
    sample(distribution, route_and_direction(route, direction), buffered_bounds,
           live(route).distribution[direction]);
  });
}

void Scrape::add_pauses() {
  MetricFamily& paused =
      gauge("sluice_backpressure_paused_connections",
            "Open WebSockets whose sender is held back: upstream_to_client because bufferedAmount "
            "went over the high watermark, client_to_upstream because the client is not read.");
  for_each_direction([&](const Route& route, Direction direction) {
    sample(paused, route_and_direction(route, direction),
           static_cast<double>(live(route).paused[direction]));
  });

  MetricFamily& transitions = counter("sluice_backpressure_transitions_total",
                                      "How often a sender was held back, and let go.");
  for_each_direction([&](const Route& route, Direction direction) {
    for (const auto& [event, number] : transition_numbers[direction]) {
      Labels labels = route_and_direction(route, direction);
      labels.push_back({"event", event});
      sample(transitions, std::move(labels), route.sum(number));
    }
  });

  MetricFamily& seconds = counter("sluice_backpressure_paused_seconds_total",
                                  "Time for which senders were held back, added as pauses end.");
  for_each_direction([&](const Route& route, Direction direction) {
    const bool to_client = direction == upstream_to_client;
    const double ms =
        route.sum(to_client ? &RouteCounters::paused_ms : &RouteCounters::read_paused_ms);
    sample(seconds, route_and_direction(route, direction), ms / ms_per_second);
  });
}

void Scrape::add_slow_consumers() {
  MetricFamily& actions =
      counter("sluice_slow_consumer_actions_total",
              "What was done to clients that did not read what they were sent.");
  for (const Route& route : routes()) {
    for (const auto& [policy, number] : slow_consumer_numbers) {
      sample(actions, {{"route", route.name()}, {"policy", policy}}, route.sum(number));
    }
  }

  MetricFamily& dropped =
      counter("sluice_messages_dropped_total", "Messages to clients that were dropped.");
  for (const Route& route : routes()) {
    sample(dropped, {{"route", route.name()}, {"reason", "slow_consumer"}},
           route.sum(&RouteCounters::messages_dropped_oldest) +
               route.sum(&RouteCounters::messages_dropped_newest));
  }
}

void Scrape::add_compression() {
  MetricFamily& bytes = counter("sluice_compression_bytes_total",
                                "Payload of messages that were compressed between client and "
                                "gateway, before and after.");
  for (const Route& route : routes()) {
    for (const Direction direction : directions) {
      const auto stage = [&](const char* name, auto numbers) {
        Labels labels = route_and_direction(route, direction);
        labels.push_back({"stage", name});
        const auto pick = [&](const RouteCounters& c) -> auto& {
          return (c.*numbers)[direction];
        };
        sample(bytes, std::move(labels), route.sum(pick));
      };
      stage("raw", &RouteCounters::compression_raw_bytes);
      stage("compressed", &RouteCounters::compression_wire_bytes);
    }
  }
  MetricFamily& memory =
      gauge("sluice_compression_memory_bytes", "Memory for compression, and what it may be.");
  double used = 0;
  for (const WorkerCounters* worker : sources_.workers) {
    used += static_cast<double>(worker->compression_memory_bytes.get());
  }
  sample(memory, {{"state", "used"}}, used);
  sample(memory, {{"state", "limit"}},
         static_cast<double>(sources_.memory->compression_bytes_max.get()));
}

void Scrape::add_liveness() {
  MetricFamily& rtt =
      histogram("sluice_ping_rtt_seconds", "Time from a ping of the gateway to the client's pong.");
  for (const Route& route : routes()) {
    sample(rtt, {{"route", route.name()}}, ping_rtt_bounds_us,
           route.merge(ping_rtt_bounds_us, &RouteCounters::ping_rtt), us_per_second);
  }

  MetricFamily& timeouts =
      counter("sluice_pong_timeouts_total", "Pings of the gateway that no pong answered in time.");
  for (const Route& route : routes()) {
    sample(timeouts, {{"route", route.name()}}, route.sum(&RouteCounters::pong_timeouts));
  }
}

void Scrape::add_upstream_connections() {
  sample_endpoints(gauge("sluice_upstream_connections_active",
                         "Connections to an endpoint in use, those being made included."),
                   &EndpointCounters::active);
  sample_endpoints(
      counter("sluice_upstream_connects_total", "Connections to an endpoint that came to stand."),
      &EndpointCounters::connects);

  MetricFamily& duration = histogram("sluice_upstream_connect_duration_seconds",
                                     "Time until a connection to an endpoint stood, TLS included.");
  for (const UpstreamSource& upstream : sources_.upstreams) {
    Observations<connect_bounds_us.size()> observations;
    for (std::size_t i = 0; i <= connect_bounds_us.size(); ++i) {
      observations.buckets[i] = upstream.counters->connect_buckets[i].get();
    }
    observations.sum = upstream.counters->connect_us_sum.get();
    sample(duration, {{"upstream", upstream.name}}, connect_bounds_us, observations, us_per_second);
  }
}

void Scrape::add_upstream_failures() {
  MetricFamily& family =
      counter("sluice_upstream_connect_failures_total",
              "Attempts to connect that failed, by why; without an endpoint there was no attempt.");
  const auto add = [&family](const UpstreamSource& upstream, const std::string& endpoint,
                             ConnectFailure failure, const auto& counters) {
    const SharedNumber& count = counters.failures[static_cast<std::size_t>(failure)];
    sample(family,
           {{"upstream", upstream.name}, {"endpoint", endpoint}, {"reason", label(failure)}},
           static_cast<double>(count.get()));
  };
  for (const UpstreamSource& upstream : sources_.upstreams) {
    for (const ConnectFailure failure : {ConnectFailure::no_endpoint, ConnectFailure::full}) {
      add(upstream, "none", failure, *upstream.counters);
    }
    for (const UpstreamSource::Endpoint& endpoint : upstream.endpoints) {
      for (const ConnectFailure failure :
           {ConnectFailure::refused, ConnectFailure::unreachable, ConnectFailure::reset,
            ConnectFailure::timeout, ConnectFailure::tls, ConnectFailure::unresolved,
            ConnectFailure::descriptors}) {
        add(upstream, endpoint.name, failure, *endpoint.counters);
      }
    }
  }
  sample_upstreams(counter("sluice_upstream_connect_retries_total",
                           "Attempts to connect after one that failed, for the same client."),
                   &UpstreamCounters::retries);
}

void Scrape::add_upstream_health() {
  sample_endpoints(gauge("sluice_upstream_endpoint_up",
                         "1 if the endpoint is healthy and not ejected, otherwise 0."),
                   &EndpointCounters::up);

  MetricFamily& ejections =
      counter("sluice_upstream_ejections_total", "Endpoints that went out of use, by the cause.");
  for (const UpstreamSource& upstream : sources_.upstreams) {
    const auto add = [&](const char* cause, const SharedNumber& number) {
      sample(ejections, {{"upstream", upstream.name}, {"cause", cause}},
             static_cast<double>(number.get()));
    };
    add("connect", upstream.counters->ejections_connect);
    add("health", upstream.counters->ejections_health);
  }
}

void Scrape::add_upstream_requests() {
  sample_upstreams(
      counter("sluice_upstream_requests_total", "HTTP requests to an upstream, upgrades included."),
      &UpstreamCounters::requests);
  sample_upstreams(counter("sluice_upstream_request_failures_total",
                           "HTTP requests to an upstream that got no whole response."),
                   &UpstreamCounters::request_failures);
  sample_upstreams(counter("sluice_upstream_connections_reused_total",
                           "HTTP requests that went over a kept connection."),
                   &UpstreamCounters::reused);
  sample_upstreams(counter("sluice_upstream_handshake_invalid_total",
                           "Answers 101 of an upstream that break RFC 6455, and were refused."),
                   &UpstreamCounters::handshake_invalid);
}

void Scrape::sample_upstreams(MetricFamily& family, SharedNumber UpstreamCounters::*number) const {
  for (const UpstreamSource& upstream : sources_.upstreams) {
    const SharedNumber& count = upstream.counters->*number;
    sample(family, {{"upstream", upstream.name}}, static_cast<double>(count.get()));
  }
}

void Scrape::sample_endpoints(MetricFamily& family, SharedNumber EndpointCounters::*number) const {
  for (const UpstreamSource& upstream : sources_.upstreams) {
    for (const UpstreamSource::Endpoint& endpoint : upstream.endpoints) {
      const SharedNumber& count = endpoint.counters->*number;
      sample(family, {{"upstream", upstream.name}, {"endpoint", endpoint.name}},
             static_cast<double>(count.get()));
    }
  }
}

void Scrape::add_event_loops() {
  MetricFamily& lag = histogram("sluice_event_loop_lag_seconds",
                                "How late a worker's loop came to a timer that was due.");
  for (std::size_t i = 0; i < sources_.workers.size(); ++i) {
    Observations<loop_lag_bounds_us.size()> observations;
    observations.add(sources_.workers[i]->loop_lag);
    sample(lag, {{"loop", std::to_string(i)}}, loop_lag_bounds_us, observations, us_per_second);
  }
}

double Scrape::sum_of_listeners(Number ListenerCounters::*number) const {
  std::uint64_t sum = 0;
  for (const ListenerCounters* listeners : sources_.listeners) sum += (listeners->*number).get();
  return static_cast<double>(sum);
}

void Scrape::add_accept_errors() {
  MetricFamily& family =
      counter("sluice_accept_errors_total", "Connections that could not be accepted, by errno.");
  const auto add = [&](const char* name, Number ListenerCounters::*number) {
    sample(family, {{"errno", name}}, sum_of_listeners(number));
  };
  add("EMFILE", &ListenerCounters::errors_emfile);
  add("ENFILE", &ListenerCounters::errors_enfile);
  add("ENOBUFS", &ListenerCounters::errors_enobufs);
  add("other", &ListenerCounters::errors_other);
}

void Scrape::add_limit_rejections() {
  MetricFamily& family =
      counter("sluice_limit_rejections_total", "What a limit turned away, by the limit.");
  for (std::size_t i = 0; i < limit_count; ++i) {
    double count = 0;
    for (const Route& route : routes_and_none()) {
      count += route.sum([i](const RouteCounters& c) -> auto& { return c.limit_rejections[i]; });
    }
    sample(family, {{"limit", label(static_cast<Limit>(i))}}, count);
  }
  sample(family, {{"limit", "descriptors"}}, sum_of_listeners(&ListenerCounters::shed));
  sample(family, {{"limit", "client_handshakes"}},
         sum_of_listeners(&ListenerCounters::shed_handshakes));
  sample(family, {{"limit", "service_connections"}},
         sum_of_listeners(&ListenerCounters::shed_services));
}

void Scrape::add_memory() {
  const MemoryCounters& counters = *sources_.memory;
  MetricFamily& budget =
      gauge("sluice_memory_budget_bytes", "Memory of the process that counts, and its budget.");
  sample(budget, {{"state", "used"}}, static_cast<double>(anonymous_memory()));
  sample(budget, {{"state", "limit"}}, static_cast<double>(counters.budget_bytes.get()));
  sample(gauge("sluice_overload_level",
               "0: none, 1: new clients are refused, 2: and memory is given back, 3: and the "
               "slowest clients are dropped."),
         {}, static_cast<double>(counters.overload_level.get()));

  double refused = 0;
  for (const Route& route : routes_and_none()) {
    refused += route.sum([](const RouteCounters& c) -> auto& {
      return c.limit_rejections[static_cast<std::size_t>(Limit::memory)];
    });
  }
  double evicted = 0;
  for (const WorkerCounters* worker : sources_.workers) {
    evicted += static_cast<double>(worker->evicted.get());
  }
  MetricFamily& actions = counter("sluice_overload_actions_total", "What was done to save memory.");
  sample(actions, {{"action", "refuse"}}, refused);
  sample(actions, {{"action", "shrink"}}, static_cast<double>(counters.shrinks.get()));
  sample(actions, {{"action", "evict"}}, evicted);
}

MetricFamily& Scrape::counter(const char* name, const char* help) {
  return begin(MetricType::Counter, name, help);
}

MetricFamily& Scrape::gauge(const char* name, const char* help) {
  return begin(MetricType::Gauge, name, help);
}

MetricFamily& Scrape::histogram(const char* name, const char* help) {
  return begin(MetricType::Histogram, name, help);
}

MetricFamily& Scrape::begin(MetricType type, const char* name, const char* help) {
  return families_.emplace_back(MetricFamily{name, help, type, {}});
}

std::vector<Route> Scrape::routes_and_none() const {
  std::vector<Route> routes = routes_;
  routes.emplace_back(sources_, sources_.route_names.size());
  return routes;
}

}  // namespace

std::string collect(const Sources& sources) {
  return Scrape(sources).text();
}

}  // namespace sluice::metrics
