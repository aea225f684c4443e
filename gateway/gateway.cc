#include "gateway.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <system_error>
#include <utility>

#include "admin/endpoints.h"
#include "base/build.h"
#include "base/cores.h"
#include "base/log.h"
#include "base/memory.h"
#include "bridges/http_relay.h"
#include "bridges/plugin_bridge.h"
#include "bridges/upstream_request.h"
#include "bridges/webhook_bridge.h"
#include "bridges/websocket_bridge.h"
#include "metrics/process.h"
#include "net/address.h"

namespace sluice {
namespace {

// Descriptors that stay free for scrapes, files and plugins.
constexpr std::uint64_t spare_descriptors = 64;

// How long workers may take to end once they must.
constexpr std::uint64_t overdue_ms = 2'000;

// Processes are often started with a low soft limit that they may raise.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// For the calling thread. Blocked before libuv gives a signal back to its default, sudden death,
// with the last handle for it.
// Of this thread, and of those that it starts from now on.
void mask_signals(int how) {
  sigset_t ours;
  sigemptyset(&ours);
  sigaddset(&ours, SIGTERM);
  sigaddset(&ours, SIGINT);
  sigaddset(&ours, SIGHUP);
  pthread_sigmask(how, &ours, nullptr);
}

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

net::TlsSettings tls_settings(const config::Tls& tls) {
  net::TlsSettings settings;
  settings.tls1_3_only = tls.min_version == config::TlsVersion::tls1_3;
  for (const auto& certificate : tls.certificates) {
    settings.certificates.push_back({certificate.cert_file, certificate.key_file});
  }
  return settings;
}

// A route of the gateway itself.
config::Route own_route(const char* path) {
  config::Route route;
  route.name = path;
  route.path = path;
  return route;
}

// How long names of upstreams are waited for before anything is said to be wrong with them.
constexpr std::uint64_t resolve_ms = 5'000;

}  // namespace

// One worker and its thread. Once it runs, other threads use the counters, Worker::load() and what
// posts; `left_handles` is read after the join.
struct Gateway::Thread {
  Thread(std::uint32_t number, const config::Config& config, Shared& shared)
      : counters(config.routes.size()),
        worker(std::make_unique<Worker>(number, loop, config, shared, counters)) {}

  metrics::WorkerCounters counters;
  uv::Loop loop;
  std::map<std::string, std::unique_ptr<bridges::PluginInstance>> plugins;
  bridges::Channels channels;
  std::unique_ptr<Worker> worker;
  bool left_handles = false;
  std::thread thread;
};

// A listener of the gateway's own, and who serves it. Its requests are not logged, and count
// nowhere.
struct Gateway::Service final : net::Listener::Owner {
  Service(const config::Config& gateway, std::uint32_t at_once,
          std::initializer_list<const char*> paths, metrics::ListenerCounters& of_listeners)
      : counters(paths.size()), listener_counters(of_listeners), connections_max(at_once) {
    config.requests = gateway.requests;
    config.log.access = false;
    for (const char* path : paths) config.routes.push_back(own_route(path));
  }
  Result<> listen(uv::Loop& loop, const std::string& address, Shared& shared) {
    const auto parsed = net::Address::parse(address);
    if (!parsed) return tl::unexpected(parsed.error());
    auto opened = net::Listener::open(loop, *parsed, {.backlog = 128}, 0, *this);
    if (!opened) return tl::unexpected(opened.error());
    listener = std::move(*opened);
    worker = std::make_unique<Worker>(0xffff, loop, config, shared, counters);
    return {};
  }
  // Whoever reaches this listener shall not have all descriptors.
  void on_accept(net::Listener& from, int fd, const net::Endpoint& peer) override {
    if (worker->load() < connections_max) {
      worker->add(fd, peer, nullptr, Admission::uncounted);
    } else {
      ::close(fd);
      report_full(from);
    }
  }
  void report_full(const net::Listener& from) {
    listener_counters.shed_services.add();
    if (!full_log.due(worker->loop().now_ms())) return;
    log::warning("listener full",
                 {{"address", from.address().to_string()}, {"max_connections", connections_max}});
  }
  void on_accept_error(net::Listener& failed, int error, std::size_t shed) override {
    report_accept_error(failed, error, shed, listener_counters);
  }
  // The route for the index-th path.
  std::unique_ptr<ServedRoute> route(std::uint32_t index) const {
    return std::make_unique<ServedRoute>(config.routes[index], index);
  }

  config::Config config;
  metrics::WorkerCounters counters;
  metrics::ListenerCounters& listener_counters;  // whose `accepted` is left alone
  const std::uint32_t connections_max;
  log::Throttle full_log;
  std::unique_ptr<net::Listener> listener;
  std::unique_ptr<Worker> worker;
};

Gateway::Gateway(config::Config config, std::vector<std::string> plugin_path)
    : config_(std::move(config)),
      plugin_path_(std::move(plugin_path)),
      clients_({.connections_max = config_.clients.connections_max,
                .handshakes_max = config_.clients.handshakes_max}) {
  shared_.clients = &clients_;
  // A write to a socket whose peer has gone is an error like others, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  services_shared_.connections_max = std::numeric_limits<std::uint32_t>::max();
}

Gateway::~Gateway() {
  stop_workers();
  join_workers();
}

// ---- Starting

void Gateway::hold_signals() {
  if (getpid() == 1) mask_signals(SIG_BLOCK);
}

std::vector<Error> Gateway::load() {
  std::vector<Error> errors;
  load_plugins(errors);
  load_certificates(errors);
  open_folders(errors);
  load_upstreams(errors);
  return errors;
}

void Gateway::load_plugins(std::vector<Error>& errors) {
  for (const auto& [name, plugin] : config_.plugins) {
    auto library = bridges::PluginLibrary::load(name, plugin.library, plugin_path_);
    if (library) {
      const char* version = library->table().version;
      log::info("plugin loaded", {{"plugin", name},
                                  {"path", library->path()},
                                  {"version", version == nullptr ? "" : version}});
      plugins_.emplace(name, std::move(*library));
    } else {
      errors.push_back(library.error());
    }
  }
}

void Gateway::load_certificates(std::vector<Error>& errors) {
  for (const config::Listener& listener : config_.listeners) {
    tls_.push_back(nullptr);
    if (!listener.tls) continue;
    auto context = net::TlsContext::create(tls_settings(*listener.tls));
    if (context) {
      tls_.back() = std::move(*context);
    } else {
      errors.push_back({"listener " + listener.address + ": " + context.error().message});
    }
  }
}

void Gateway::open_folders(std::vector<Error>& errors) {
  for (std::uint32_t i = 0; i < config_.routes.size(); ++i) {
    const auto* target = std::get_if<config::StaticTarget>(&config_.routes[i].target);
    if (target == nullptr) continue;
    auto files = http::StaticFiles::open(target->root, target->index);
    if (files) {
      folders_[i] = std::make_shared<http::StaticHandler>(std::move(*files));
    } else {
      errors.push_back({"route " + config_.routes[i].name + ": " + files.error().message});
    }
  }
}

void Gateway::load_upstreams(std::vector<Error>& errors) {
  std::vector<Error> own = upstreams_.load(config_.upstreams);
  const bool loaded = own.empty();
  for (Error& error : own) errors.push_back(std::move(error));
  if (auto proxies = http::TrustedProxies::parse(config_.trusted_proxies)) {
    trusted_proxies_ = std::move(*proxies);
  } else {
    errors.push_back(proxies.error());
  }
  if (!loaded) return;  // what targets name may be missing for that
  bool with_token_file = false;
  for (std::uint32_t i = 0; i < config_.routes.size(); ++i) {
    const auto* target = std::get_if<config::TcpTarget>(&config_.routes[i].target);
    if (target == nullptr) continue;
    with_token_file = with_token_file || !target->token_file.empty();
    auto targets = bridges::TcpTargets::create(*target, upstreams_);
    if (targets) {
      tcp_targets_[i] = std::move(*targets);
    } else {
      errors.push_back({"route " + config_.routes[i].name + ": " + targets.error().message});
    }
  }
  sources_.upstreams = upstreams_.sources(with_token_file);
  checker_ = std::make_unique<upstreams::Checker>(loop_, upstreams_.all());
  upstreams_.when_made([this](std::shared_ptr<upstreams::Upstream> upstream) {
    loop_.post([this, made = std::move(upstream)] {
      if (checker_ != nullptr) checker_->add(made);
    });
  });
}

std::vector<Error> Gateway::start_workers() {
  for (const config::Route& route : config_.routes) {
    open_by_route_.push_back(std::make_unique<std::atomic<std::uint32_t>>(0));
    sources_.route_names.push_back(route.name);
  }
  const std::uint32_t count = config_.workers != 0 ? config_.workers : available_cores();
  std::vector<std::future<Result<>>> started;
  for (std::uint32_t i = 0; i < count; ++i) {
    try {
      started.push_back(start_worker(i));
    } catch (const std::system_error& refused) {
      throw std::system_error(refused.code(), "cannot start worker " + std::to_string(i + 1) +
                                                  " of " + std::to_string(count));
    }
  }
  std::vector<Error> errors;
  for (auto& result : started) {
    auto outcome = result.get();
    // The same plugin fails on every worker in the same way: once is enough.
    if (!outcome && errors.empty()) errors.push_back(outcome.error());
  }
  return errors;
}

std::future<Result<>> Gateway::start_worker(std::uint32_t number) {
  threads_.push_back(std::make_unique<Thread>(number, config_, shared_));
  Thread& thread = *threads_.back();
  sources_.workers.push_back(&thread.counters);
  publisher_.add(thread.loop, thread.channels);
  std::promise<Result<>> ready;
  auto started = ready.get_future();
  thread.thread = std::thread([this, &thread, promise = std::move(ready)]() mutable {
    run_worker(thread, std::move(promise));
  });
  return started;
}

// The thread's whole life. A plugin's instance is made, used and ended on the same thread.
void Gateway::run_worker(Thread& thread, std::promise<Result<>> ready) {
  mask_signals(SIG_BLOCK);  // they are the main thread's
  ready.set_value(add_routes(thread));
  thread.loop.run();
  end_acceptor(thread.loop);
  thread.worker.reset();
  thread.plugins.clear();
  if (const auto closed = thread.loop.close(); !closed) {
    log::error("handles left on a worker's loop", {{"why", closed.error().message}});
    thread.left_handles = true;
  }
  loop_.post([this] { on_worker_ended(); });
}

// If it lives on that loop, which is the calling thread's.
void Gateway::end_acceptor(const uv::Loop& loop) {
  if (acceptor_ != nullptr && &acceptor_->loop() == &loop) acceptor_.reset();
}

Result<> Gateway::add_routes(Thread& thread) {
  for (const auto& [name, library] : plugins_) {
    auto instance = bridges::PluginInstance::create(library, config_.plugins.at(name).config,
                                                    thread.loop.raw());
    if (!instance) return tl::unexpected(instance.error());
    thread.plugins[name] = std::move(*instance);
  }
  for (std::uint32_t i = 0; i < config_.routes.size(); ++i) {
    const config::Route& route = config_.routes[i];
    auto served = std::make_unique<ServedRoute>(route, i);
    served->open = open_by_route_[i].get();
    served->session.protocol.compression.pool = &thread.worker->context().compression;
    add_target(thread, *served);
    thread.worker->routes().add(std::move(served));
  }
  return {};
}

void Gateway::add_target(Thread& thread, ServedRoute& route) {
  WorkerContext& context = thread.worker->context();
  const auto shared = [&](const std::string& upstream) {
    return bridges::HttpRoute{
        .context = context,
        .pool = thread.worker->http_pool(),
        .upstream = upstreams_.find(upstream),
        .route = route.config,
        .trusted_proxies = trusted_proxies_,
        .connect_timeout_ms = bridges::dial_timeout(config_.requests.handshake_timeout_ms)};
  };
  const config::Target& any = route.config.target;
  if (const auto* plugin = std::get_if<config::PluginTarget>(&any)) {
    route.bridges =
        std::make_unique<bridges::PluginBridgeFactory>(*thread.plugins.at(plugin->plugin));
  } else if (std::holds_alternative<config::StaticTarget>(any)) {
    route.http = folders_.at(route.index);
  } else if (std::holds_alternative<config::TcpTarget>(any)) {
    route.bridges = std::make_unique<bridges::TcpBridgeFactory>(
        context, route.config, tcp_targets_.at(route.index), config_.requests.handshake_timeout_ms);
  } else if (const auto* http = std::get_if<config::HttpTarget>(&any)) {
    route.bridges = std::make_unique<bridges::WebSocketBridgeFactory>(shared(http->upstream));
    route.relays = std::make_unique<bridges::HttpRelayFactory>(shared(http->upstream));
    route.upstream_chooses_protocol = true;
  } else if (const auto* webhook = std::get_if<config::WebhookTarget>(&any)) {
    route.bridges =
        std::make_unique<bridges::WebhookBridgeFactory>(shared(webhook->upstream), thread.channels);
    route.upstream_chooses_protocol = true;
  }
}

std::vector<Error> Gateway::listen() {
  std::vector<Error> errors;
  open_listeners(errors);
  open_services(errors);
  return errors;
}

// A single worker accepts for itself (docs/decisions/0001).
void Gateway::open_listeners(std::vector<Error>& errors) {
  std::vector<Worker*> workers;
  for (const auto& thread : threads_) workers.push_back(thread->worker.get());
  uv::Loop& loop = threads_.size() == 1 ? threads_.front()->loop : loop_;
  acceptor_ =
      std::make_unique<Acceptor>(loop, workers, shared_, trusted_proxies_, listener_counters_);
  for (std::size_t i = 0; i < config_.listeners.size(); ++i) {
    const auto listens = acceptor_->listen(config_.listeners[i], tls_[i].get());
    if (!listens) errors.push_back(listens.error());
  }
}

void Gateway::open_services(std::vector<Error>& errors) {
  const auto open = [&](const std::string& address, std::unique_ptr<Service> service) {
    const auto opened = service->listen(loop_, address, services_shared_);
    if (opened) return service;
    errors.push_back(opened.error());
    return std::unique_ptr<Service>();
  };
  if (!config_.metrics.address.empty()) {
    const auto paths = {"/metrics", "/healthz", "/readyz"};
    metrics_ = open(config_.metrics.address,
                    std::make_unique<Service>(config_, config_.metrics.connections_max, paths,
                                              service_counters_));
    if (metrics_ != nullptr) serve_metrics();
  }
  if (!config_.admin.address.empty()) {
    const auto paths = {"/publish", "/publish/"};
    admin_ = open(config_.admin.address,
                  std::make_unique<Service>(config_, config_.admin.connections_max, paths,
                                            service_counters_));
    if (admin_ != nullptr) serve_admin();
  }
}

void Gateway::serve_metrics() {
  sources_.listeners = {&listener_counters_, &service_counters_};
  sources_.memory = &memory_counters_;
  memory_counters_.compression_bytes_max.set(config_.memory.compression_bytes * threads_.size());
  sources_.draining = &draining_;
  sources_.plugin_abi = SLUICE_ABI;
  sources_.config_last_reload_success_seconds = unix_seconds();
  const std::shared_ptr<const http::Handler> handlers[] = {
      admin::make_metrics(sources_), admin::make_health(),
      admin::make_readiness([this] { return obstacle(); })};
  for (std::uint32_t i = 0; i < std::size(handlers); ++i) {
    auto route = metrics_->route(i);
    route->http = handlers[i];
    metrics_->worker->routes().add(std::move(route));
  }
}

void Gateway::serve_admin() {
  for (std::uint32_t i = 0; i < admin_->config.routes.size(); ++i) {
    auto route = admin_->route(i);
    route->relays =
        std::make_unique<bridges::PublishRelayFactory>(publisher_, loop_, config_.admin.key);
    admin_->worker->routes().add(std::move(route));
  }
}

// Why load balancers are to send nobody, if they are not to.
std::string Gateway::obstacle() const {
  if (draining_.load(std::memory_order_relaxed)) return "shutting down";
  if (shared_.overload.load(std::memory_order_relaxed) >= OverloadLevel::refuse) {
    return "memory is short";
  }
  return {};
}

// A connection takes one descriptor, or two if it may have one to an upstream. Over
// `max_connections` it is told so by a 503; when few descriptors are left it is closed at once, so
// that there is always one for a scrape.
void Gateway::limit_connections() {
  const metrics::ProcessFigures process = metrics::read_process();
  const std::uint64_t free =
      process.max_fds > process.open_fds ? process.max_fds - process.open_fds : 0;
  const std::uint64_t spare = std::min(spare_descriptors, free / 2);
  const auto limit = [](std::uint64_t count) {
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(count, std::numeric_limits<std::uint32_t>::max()));
  };
  const std::uint64_t each = config_.upstreams.empty() && tcp_targets_.empty() ? 1 : 2;
  const std::uint32_t possible = limit((free - spare) / each);
  shared_.connections_max = config_.connections_max != 0 ? config_.connections_max : possible;
  shared_.connections_shed_above = limit((free - spare / 2) / each);
  if (config_.connections_max <= possible) return;
  log::warning("too few descriptors", {{"max_connections", config_.connections_max},
                                       {"possible", possible},
                                       {"max_fds", process.max_fds}});
}

void Gateway::handle_signals() {
  const auto handle = [this](int number, std::function<void()> call) {
    signals_.push_back(std::make_unique<uv::Signal>(loop_, number, std::move(call)));
  };
  for (const int number : {SIGTERM, SIGINT}) handle(number, [this, number] { on_signal(number); });
  // Sent by habit, as after rotating logs; each would end us on the spot. SIGHUP means the end if
  // there is a terminal: it was closed.
  const auto ignore = [&handle](int number, const char* name) {
    handle(number, [name] {
      log::warning("signal",
                   {{"name", name}, {"why", "nothing is done: a restart reads routes.yaml"}});
    });
  };
  ignore(SIGUSR1, "SIGUSR1");
  ignore(SIGUSR2, "SIGUSR2");
  // Whoever started us may have seen to it that a terminal may be closed.
  struct sigaction inherited {};
  sigaction(SIGHUP, nullptr, &inherited);
  if (isatty(STDERR_FILENO) != 0 && inherited.sa_handler != SIG_IGN) {
    handle(SIGHUP, [this] { on_hang_up(); });
  } else {
    ignore(SIGHUP, "SIGHUP");
  }
  mask_signals(SIG_UNBLOCK);  // one that came during the start has waited
}

int Gateway::run() {
  limit_connections();
  handle_signals();
  if (checker_ != nullptr) checker_->start(resolve_ms, {});
  for (const auto* service : {metrics_.get(), admin_.get()}) {
    if (service != nullptr) service->listener->start();
  }
  watch_memory();
  report_start();
  acceptor_->loop().post([this] {
    if (acceptor_ != nullptr) acceptor_->start();  // else the first signal was quicker
  });

  loop_.run();

  metrics_.reset();
  admin_.reset();
  checker_.reset();
  overdue_.reset();
  mask_signals(SIG_BLOCK);
  signals_.clear();
  const auto closed = loop_.close();
  const bool looks_up = loop_.has_requests();
  if (!closed && !looks_up) {
    log::error("handles left on the main loop", {{"why", closed.error().message}});
    left_handles_ = true;
  }
  log::info("stopped");
  const int code = left_handles_ ? 1 : 0;
  // Nobody is to wait for a name server that does not answer.
  if (looks_up || requests_left_) std::_Exit(code);
  return code;
}

void Gateway::report_start() const {
  log::info("started", {{"version", version()},
                        {"workers", threads_.size()},
                        {"max_connections", shared_.connections_max},
                        {"pid", ::getpid()}});
  for (const auto& listener : acceptor_->listeners()) {
    const net::Address& address = listener->address();
    const bool tls = tls_[listener->index()] != nullptr;
    const std::string host =
        address.is_wildcard() ? "localhost:" + std::to_string(address.port()) : address.to_string();
    const std::string url = (tls ? "https://" : "http://") + host + "/";
    log::info("listening", {{"address", address.to_string()},
                            {"open", address.family() == AF_UNIX ? std::string() : url}});
  }
  if (metrics_ != nullptr) {
    log::info("metrics", {{"address", metrics_->listener->address().to_string()},
                          {"paths", "/metrics /healthz /readyz"}});
  }
  if (admin_ != nullptr) {
    log::info("admin",
              {{"address", admin_->listener->address().to_string()}, {"paths", "/publish/"}});
  }
}

// ---- Memory

void Gateway::watch_memory() {
  std::uint64_t budget = config_.memory.budget_bytes;
  if (budget == config::Memory::automatic) budget = available_memory() / 10 * 9;
  const auto on_workers = [this](const std::function<void(Worker&)>& call) {
    for (const auto& thread : threads_) {
      Worker& worker = *thread->worker;
      thread->loop.post([&worker, call] { call(worker); });
    }
  };
  overload_ = std::make_unique<Overload>(
      loop_, budget, shared_.overload, memory_counters_,
      Overload::Steps{
          .shrink = [on_workers] { on_workers([](Worker& worker) { worker.shrink(); }); },
          .evict =
              [this, on_workers](std::uint64_t bytes) {
                const std::uint64_t share = bytes / threads_.size() + 1;
                on_workers([share](Worker& worker) { worker.evict(share); });
              }});
  overload_->start();
}

// ---- Ending

void Gateway::on_signal(int number) {
  log::info("signal", {{"name", number == SIGTERM ? "SIGTERM" : "SIGINT"}});
  if (draining_.load(std::memory_order_relaxed)) {
    mask_signals(SIG_BLOCK);  // a third one would say nothing new
    end_at_once();
  } else {
    begin_shutdown();
  }
}

// The kernel and the shell may both tell us: the second time is no haste.
void Gateway::on_hang_up() {
  log::info("signal", {{"name", "SIGHUP"}});
  if (!draining_.load(std::memory_order_relaxed)) begin_shutdown();
}

void Gateway::begin_shutdown() {
  draining_.store(true, std::memory_order_relaxed);
  acceptor_->refuse();  // whatever its thread is at
  end_acceptor(loop_);
  log::info("draining", {{"connections", shared_.connections.load(std::memory_order_relaxed)},
                         {"drain_timeout_ms", config_.shutdown.drain_timeout_ms}});
  workers_left_ = threads_.size();
  progress_before_ = progress();
  overdue_ = std::make_unique<uv::Timer>(loop_, [this] { abandon(); });
  overdue_->start(config_.shutdown.drain_timeout_ms + overdue_ms);
  for (const auto& thread : threads_) {
    Worker& worker = *thread->worker;
    thread->loop.post([this, &worker] {
      end_acceptor(worker.loop());  // no client comes behind the drain
      worker.drain(config_.shutdown.drain_timeout_ms,
                   [this] { loop_.post([this] { on_worker_empty(); }); });
    });
  }
}

void Gateway::end_at_once() {
  overdue_->start(overdue_ms);
  if (stopping_) return;  // there is nothing to cut any more
  for (const auto& thread : threads_) {
    Worker& worker = *thread->worker;
    thread->loop.post([&worker] { worker.cut(); });
  }
}

// A worker does not come to an end: a plugin holds its thread. Nothing can be saved any more. Very
// many connections take their time, and that is seen.
void Gateway::abandon() {
  const auto now = progress();
  if (now != std::exchange(progress_before_, now)) return overdue_->start(overdue_ms);
  log::error("a worker is stuck",
             {{"workers_left", workers_left_}, {"connections", shared_.connections.load()}});
  std::_Exit(1);
}

// WebSockets that have closed, and connections that are left: the one may move without the other.
std::pair<std::uint64_t, std::uint32_t> Gateway::progress() const {
  std::uint64_t closed = 0;
  for (const auto& thread : threads_) {
    for (const metrics::RouteCounters& route : thread->counters.routes) {
      for (const auto& by_reason : route.connections_closed) {
        for (const metrics::Number& number : by_reason) closed += number.get();
      }
    }
  }
  return {closed, shared_.connections.load(std::memory_order_relaxed)};
}

void Gateway::on_worker_empty() {
  if (--workers_left_ > 0) return;
  overload_.reset();  // it posts to the workers, and so does
  publisher_.close();
  stopping_ = true;
  workers_left_ = threads_.size();
  stop_workers();
}

// What a plugin does at its end may hold its thread as well: only who has ended is waited for.
void Gateway::on_worker_ended() {
  if (--workers_left_ > 0) return;
  overdue_->stop();
  join_workers();
  stop_services();
}

// Until now /readyz has said that we go; nobody needs to hear it any more.
void Gateway::stop_services() {
  for (const auto* service : {metrics_.get(), admin_.get()}) services_left_ += service != nullptr;
  if (services_left_ == 0) return loop_.stop();
  for (const auto& service : {metrics_.get(), admin_.get()}) {
    if (service == nullptr) continue;
    service->listener.reset();
    service->worker->drain(0, [this] {
      if (--services_left_ == 0) loop_.post([this] { loop_.stop(); });
    });
  }
}

void Gateway::stop_workers() {
  for (const auto& thread : threads_) {
    if (thread->thread.joinable()) thread->loop.post([&loop = thread->loop] { loop.stop(); });
  }
}

void Gateway::join_workers() {
  for (const auto& thread : threads_) {
    if (!thread->thread.joinable()) continue;
    thread->thread.join();
    left_handles_ = left_handles_ || thread->left_handles;
    requests_left_ = requests_left_ || thread->loop.has_requests();
  }
}

}  // namespace sluice
