#include "gateway.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#include "admin/endpoints.h"
#include "base/build.h"
#include "base/cores.h"
#include "base/log.h"
#include "bridges/plugin_bridge.h"
#include "metrics/process.h"
#include "net/address.h"

namespace sluice {
namespace {

// Descriptors that stay free for scrapes, files and plugins.
constexpr std::uint64_t spare_descriptors = 64;

// How long workers may take to end once they must.
constexpr std::uint64_t overdue_ms = 2'000;

// How often a full process says so in its log.
constexpr std::uint64_t full_log_interval_ms = 1'000;

// Processes are often started with a low soft limit that they may raise.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// For the calling thread. Blocked before libuv gives a signal back to its default, sudden death,
// with the last handle for it.
void block_signals() {
  sigset_t ours;
  sigemptyset(&ours);
  sigaddset(&ours, SIGTERM);
  sigaddset(&ours, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ours, nullptr);
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

config::Route endpoint_route(const char* path) {
  config::Route route;
  route.name = path;
  route.path = path;
  return route;
}

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
  std::unique_ptr<Worker> worker;
  bool left_handles = false;
  std::thread thread;
};

Gateway::Gateway(config::Config config, std::vector<std::string> plugin_path)
    : config_(std::move(config)), plugin_path_(std::move(plugin_path)) {
  // A write to a socket whose peer has gone is an error like others, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  metrics_shared_.connections_max = std::numeric_limits<std::uint32_t>::max();
}

Gateway::~Gateway() {
  join_workers();
}

// ---- Starting

std::vector<Error> Gateway::load() {
  std::vector<Error> errors;
  load_plugins(errors);
  load_certificates(errors);
  open_folders(errors);
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

std::vector<Error> Gateway::start_workers() {
  for (const config::Route& route : config_.routes) {
    open_by_route_.push_back(std::make_unique<std::atomic<std::uint32_t>>(0));
    sources_.route_names.push_back(route.name);
  }
  const std::uint32_t count = config_.workers != 0 ? config_.workers : available_cores();
  std::vector<std::future<Result<>>> started;
  for (std::uint32_t i = 0; i < count; ++i) {
    threads_.push_back(std::make_unique<Thread>(i, config_, shared_));
    Thread& thread = *threads_.back();
    sources_.workers.push_back(&thread.counters);
    std::promise<Result<>> ready;
    started.push_back(ready.get_future());
    thread.thread = std::thread([this, &thread, promise = std::move(ready)]() mutable {
      run_worker(thread, std::move(promise));
    });
  }
  std::vector<Error> errors;
  for (auto& result : started) {
    auto outcome = result.get();
    // The same plugin fails on every worker in the same way: once is enough.
    if (!outcome && errors.empty()) errors.push_back(outcome.error());
  }
  return errors;
}

// The thread's whole life. A plugin's instance is made, used and ended on the same thread.
void Gateway::run_worker(Thread& thread, std::promise<Result<>> ready) {
  block_signals();  // they are the main thread's
  ready.set_value(add_routes(thread));
  thread.loop.run();
  thread.worker.reset();
  thread.plugins.clear();
  if (const auto closed = thread.loop.close(); !closed) {
    log::error("handles left on a worker's loop", {{"why", closed.error().message}});
    thread.left_handles = true;
  }
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
    if (const auto* target = std::get_if<config::PluginTarget>(&route.target)) {
      served->bridges =
          std::make_unique<bridges::PluginBridgeFactory>(*thread.plugins.at(target->plugin));
    } else {
      served->http = folders_.at(i);
    }
    thread.worker->routes().add(std::move(served));
  }
  return {};
}

std::vector<Error> Gateway::listen() {
  std::vector<Error> errors;
  for (std::size_t i = 0; i < config_.listeners.size(); ++i) {
    const config::Listener& listener = config_.listeners[i];
    auto opened = open_listener(listener.address, static_cast<int>(listener.backlog), i);
    if (opened) {
      listeners_.push_back(std::move(*opened));
    } else {
      errors.push_back(opened.error());
    }
  }
  if (!config_.metrics_address.empty()) {
    auto opened = open_listener(config_.metrics_address, 128, 0);
    if (opened) {
      metrics_listener_ = std::move(*opened);
      add_endpoints();
    } else {
      errors.push_back(opened.error());
    }
  }
  return errors;
}

Result<std::unique_ptr<net::Listener>> Gateway::open_listener(const std::string& address,
                                                              int backlog, std::size_t index) {
  const auto parsed = net::Address::parse(address);
  if (!parsed) return tl::unexpected(parsed.error());
  return net::Listener::open(loop_, *parsed, backlog, index, *this);
}

void Gateway::add_endpoints() {
  sources_.listener = &listener_counters_;
  sources_.draining = &draining_;
  sources_.plugin_abi = SLUICE_ABI;
  sources_.config_last_reload_success_seconds = unix_seconds();

  const std::vector<std::pair<const char*, std::shared_ptr<const http::Handler>>> endpoints = {
      {"/metrics", admin::make_metrics(sources_)},
      {"/healthz", admin::make_health()},
      {"/readyz", admin::make_readiness(draining_)}};
  metrics_config_.requests = config_.requests;
  metrics_config_.log.access = false;
  for (const auto& [path, handler] : endpoints) {
    metrics_config_.routes.push_back(endpoint_route(path));
  }
  metrics_counters_ = std::make_unique<metrics::WorkerCounters>(endpoints.size());
  metrics_worker_ =
      std::make_unique<Worker>(0xffff, loop_, metrics_config_, metrics_shared_, *metrics_counters_);
  for (std::uint32_t i = 0; i < endpoints.size(); ++i) {
    auto served = std::make_unique<ServedRoute>(metrics_config_.routes[i], i);
    served->http = endpoints[i].second;
    metrics_worker_->routes().add(std::move(served));
  }
}

// A connection takes one descriptor. Over `max_connections` it is told so by a 503; when few
// descriptors are left it is closed at once, so that there is always one for a scrape.
void Gateway::limit_connections() {
  const metrics::ProcessFigures process = metrics::read_process();
  const std::uint64_t free =
      process.max_fds > process.open_fds ? process.max_fds - process.open_fds : 0;
  const std::uint64_t spare = std::min(spare_descriptors, free / 2);
  const auto limit = [](std::uint64_t count) {
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(count, std::numeric_limits<std::uint32_t>::max()));
  };
  shared_.connections_max =
      config_.connections_max != 0 ? config_.connections_max : limit(free - spare);
  connections_shed_above_ = limit(free - spare / 2);
}

int Gateway::run() {
  limit_connections();
  for (const int number : {SIGTERM, SIGINT}) {
    signals_.push_back(
        std::make_unique<uv::Signal>(loop_, number, [this, number] { on_signal(number); }));
  }
  for (const auto& listener : listeners_) listener->start();
  if (metrics_listener_ != nullptr) metrics_listener_->start();
  report_start();

  loop_.run();

  metrics_worker_.reset();
  overdue_.reset();
  block_signals();
  signals_.clear();
  if (const auto closed = loop_.close(); !closed) {
    log::error("handles left on the main loop", {{"why", closed.error().message}});
    left_handles_ = true;
  }
  log::info("stopped");
  return left_handles_ ? 1 : 0;
}

void Gateway::report_start() const {
  log::info("started", {{"version", version()},
                        {"workers", threads_.size()},
                        {"max_connections", shared_.connections_max},
                        {"pid", ::getpid()}});
  for (const auto& listener : listeners_) {
    const net::Address& address = listener->address();
    const bool tls = tls_[listener->index()] != nullptr;
    const std::string host =
        address.is_wildcard() ? "localhost:" + std::to_string(address.port()) : address.to_string();
    const std::string url = (tls ? "https://" : "http://") + host + "/";
    log::info("listening", {{"address", address.to_string()},
                            {"open", address.family() == AF_UNIX ? std::string() : url}});
  }
  if (metrics_listener_ != nullptr) {
    log::info("metrics", {{"address", metrics_listener_->address().to_string()},
                          {"paths", "/metrics /healthz /readyz"}});
  }
}

// ---- Accepting

void Gateway::on_accept(net::Listener& listener, int fd, const net::Endpoint& peer) {
  if (&listener == metrics_listener_.get()) {
    metrics_worker_->post_connection(fd, peer, nullptr);
    return;
  }
  listener_counters_.accepted.add();
  if (shared_.connections.load(std::memory_order_relaxed) >= connections_shed_above_) {
    ::close(fd);
    return report_full();
  }
  // Sockets live long and stay where they are: each goes to the worker that has the fewest.
  const auto least = std::ranges::min_element(
      threads_, {}, [](const auto& thread) { return thread->worker->load(); });
  (*least)->worker->post_connection(fd, peer, tls_[listener.index()].get());
}

void Gateway::report_full() {
  listener_counters_.shed.add();
  if (full_logged_ms_ != 0 && loop_.now_ms() - full_logged_ms_ < full_log_interval_ms) return;
  full_logged_ms_ = loop_.now_ms();
  log::error("out of descriptors", {{"connections", shared_.connections.load()},
                                    {"closed_so_far", listener_counters_.shed.get()}});
}

void Gateway::on_accept_error(net::Listener& listener, int error, std::size_t shed) {
  switch (error) {
    case EMFILE:
      listener_counters_.errors_emfile.add();
      break;
    case ENFILE:
      listener_counters_.errors_enfile.add();
      break;
    case ENOBUFS:
    case ENOMEM:
      listener_counters_.errors_enobufs.add();
      break;
    default:
      listener_counters_.errors_other.add();
  }
  listener_counters_.shed.add(shed);
  log::error(
      "accept failed",
      {{"address", listener.address().to_string()}, {"why", std::strerror(error)}, {"shed", shed}});
}

// ---- Ending

void Gateway::on_signal(int number) {
  log::info("signal", {{"name", number == SIGTERM ? "SIGTERM" : "SIGINT"}});
  if (draining_.load(std::memory_order_relaxed)) {
    block_signals();  // a third one would say nothing new
    end_at_once();
  } else {
    begin_shutdown();
  }
}

void Gateway::begin_shutdown() {
  draining_.store(true, std::memory_order_relaxed);
  listeners_.clear();
  log::info("draining", {{"connections", shared_.connections.load(std::memory_order_relaxed)},
                         {"drain_timeout_ms", config_.shutdown.drain_timeout_ms}});
  workers_left_ = threads_.size();
  overdue_ = std::make_unique<uv::Timer>(loop_, [this] { abandon(); });
  overdue_->start(config_.shutdown.drain_timeout_ms + overdue_ms);
  for (const auto& thread : threads_) {
    Worker& worker = *thread->worker;
    thread->loop.post([this, &worker] {
      worker.drain(config_.shutdown.drain_timeout_ms,
                   [this] { loop_.post([this] { on_worker_empty(); }); });
    });
  }
}

void Gateway::end_at_once() {
  if (workers_left_ == 0) return;  // it is ending already
  overdue_->start(overdue_ms);
  for (const auto& thread : threads_) {
    Worker& worker = *thread->worker;
    thread->loop.post([&worker] { worker.cut(); });
  }
}

// A worker does not come to an end: a plugin holds its thread. Nothing can be saved any more.
void Gateway::abandon() {
  log::error("a worker is stuck",
             {{"workers_left", workers_left_}, {"connections", shared_.connections.load()}});
  std::_Exit(1);
}

void Gateway::on_worker_empty() {
  if (--workers_left_ > 0) return;
  overdue_->stop();
  join_workers();
  // Until now /readyz has said that we go; nobody needs to hear it any more.
  metrics_listener_.reset();
  if (metrics_worker_ == nullptr) {
    loop_.stop();
    return;
  }
  metrics_worker_->drain(0, [this] { loop_.post([this] { loop_.stop(); }); });
}

void Gateway::join_workers() {
  for (const auto& thread : threads_) {
    if (!thread->thread.joinable()) continue;
    thread->loop.post([&thread] { thread->loop.stop(); });
    thread->thread.join();
    left_handles_ = left_handles_ || thread->left_handles;
  }
}

}  // namespace sluice
