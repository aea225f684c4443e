// Gateway: the process. Owns the listeners, the workers and the metrics endpoint; starts and ends
// them. Runs on the main thread, on a loop of its own, so that a scrape keeps no worker from its
// connections.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "acceptor.h"
#include "base/result.h"
#include "bridges/channels.h"
#include "bridges/plugin_library.h"
#include "bridges/tcp_bridge.h"
#include "client_counts.h"
#include "config/config.h"
#include "http/forward.h"
#include "http/handler.h"
#include "metrics/collector.h"
#include "metrics/counters.h"
#include "net/tls_context.h"
#include "overload.h"
#include "upstreams/checker.h"
#include "upstreams/registry.h"
#include "uv/loop.h"
#include "uv/signal.h"
#include "uv/timer.h"
#include "worker.h"

namespace sluice {

class Gateway final {
 public:
  // `plugin_path`: where `library:` names without a slash are looked for. The constructor and
  // start_workers() throw std::system_error if the system refuses descriptors or threads.
  Gateway(config::Config config, std::vector<std::string> plugin_path);
  ~Gateway();

  // Loads the plugins and certificates and opens the folders. Returns everything that is wrong
  // with them.
  std::vector<Error> load();
  // As process 1 of a container: SIGTERM, SIGINT and SIGHUP wait from now on until run() handles
  // them. We would not hear them at all before.
  static void hold_signals();
  // Makes the plugins' instances. After load(), once.
  std::vector<Error> start_workers();
  // Binds all listeners. Nobody is let in before run().
  std::vector<Error> listen();

  // Serves until SIGTERM or SIGINT, or until its terminal is closed (SIGHUP), then shuts down
  // gracefully; a second SIGTERM or SIGINT ends at once. Returns the exit code.
  int run();

 private:
  struct Thread;
  struct Service;

  void load_plugins(std::vector<Error>& errors);
  void load_certificates(std::vector<Error>& errors);
  void open_folders(std::vector<Error>& errors);
  void load_upstreams(std::vector<Error>& errors);
  std::future<Result<>> start_worker(std::uint32_t number);
  void run_worker(Thread& thread, std::promise<Result<>> ready);
  void end_acceptor(const uv::Loop& loop);
  Result<> add_routes(Thread& thread);
  void add_target(Thread& thread, ServedRoute& route);
  void open_listeners(std::vector<Error>& errors);
  void open_services(std::vector<Error>& errors);
  void serve_metrics();
  std::string obstacle() const;
  void serve_admin();
  void stop_services();
  void limit_connections();
  void report_start() const;
  void watch_memory();

  void handle_signals();
  void on_signal(int number);
  void on_hang_up();
  void begin_shutdown();
  void on_worker_empty();
  void end_at_once();
  void abandon();
  std::pair<std::uint64_t, std::uint32_t> progress() const;
  void on_worker_ended();
  void stop_workers();
  void join_workers();

  const config::Config config_;
  const std::vector<std::string> plugin_path_;
  uv::Loop loop_;
  std::atomic<bool> draining_{false};
  Shared shared_;
  ClientCounts clients_;
  metrics::ListenerCounters listener_counters_;  // the acceptor's
  metrics::ListenerCounters service_counters_;   // the services'
  metrics::MemoryCounters memory_counters_;
  std::unique_ptr<Overload> overload_;
  metrics::Sources sources_;
  std::vector<std::unique_ptr<std::atomic<std::uint32_t>>> open_by_route_;

  std::map<std::string, bridges::PluginLibrary> plugins_;
  std::map<std::uint32_t, std::shared_ptr<const http::Handler>> folders_;  // by route
  std::vector<std::shared_ptr<const net::TlsContext>> tls_;  // by listener; null: plain
  std::vector<std::unique_ptr<Thread>> threads_;
  std::size_t workers_left_ = 0;  // that are not empty yet; then, that have not ended yet
  bool stopping_ = false;         // all are empty
  bool left_handles_ = false;     // a loop could not be closed
  bool requests_left_ = false;    // on a worker's loop
  std::pair<std::uint64_t, std::uint32_t> progress_before_;

  upstreams::Registry upstreams_;
  std::unique_ptr<upstreams::Checker> checker_;
  std::map<std::uint32_t, std::shared_ptr<const bridges::TcpTargets>> tcp_targets_;  // by route
  http::TrustedProxies trusted_proxies_;
  bridges::Publisher publisher_;

  // The metrics and admin listeners are served on the main loop, by workers with routes of their
  // own.
  Shared services_shared_;
  std::unique_ptr<Service> metrics_;
  std::unique_ptr<Service> admin_;
  std::size_t services_left_ = 0;

  std::unique_ptr<Acceptor> acceptor_;  // on the main loop, or on that of the only worker
  std::vector<std::unique_ptr<uv::Signal>> signals_;
  std::unique_ptr<uv::Timer> overdue_;  // of a shutdown
};

}  // namespace sluice
