// The command line: sluice run | check | healthcheck.
//
// Exit codes: 0, 1 (it went wrong while running), 2 (usage or configuration).
#include <sluice/plugin.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "admin/healthcheck.h"
#include "base/build.h"
#include "base/log.h"
#include "bridges/plugin_library.h"
#include "config/load.h"
#include "gateway.h"

namespace sluice {
namespace {

enum ExitCode { success = 0, runtime_failure = 1, usage_failure = 2 };

constexpr const char* default_config = "/etc/sluice/routes.yaml";

void print_errors(const std::vector<Error>& errors) {
  for (const Error& error : errors) std::fprintf(stderr, "sluice: %s\n", error.message.c_str());
}

// Says on stderr what is wrong with the file, every line of it with its place.
ExitCode report(const config::Diagnostics& diagnostics, const std::string& file) {
  const std::string text = config::read_file(file).value_or("");
  std::fputs(config::render(diagnostics, text).c_str(), stderr);
  return usage_failure;
}

tl::expected<config::Config, ExitCode> load(const std::string& file) {
  auto loaded = config::load_file(file);
  if (!loaded) return tl::unexpected(report(loaded.error(), file));
  return std::move(*loaded);
}

// What to do about a descriptor or a thread that the system has refused.
std::string remedy(const std::error_code& code) {
  if (code == std::errc::too_many_files_open) {
    return ": raise the limit of open files (ulimit -n, LimitNOFILE=)";
  }
  if (code == std::errc::too_many_files_open_in_system) {
    return ": raise the system's limit of open files (sysctl fs.file-max)";
  }
  if (code == std::errc::resource_unavailable_try_again) {
    return ": raise the limit of threads (ulimit -u, TasksMax=, a container's limit of processes), "
           "or have fewer workers";
  }
  return {};
}

ExitCode report(const std::system_error& refused) {
  print_errors({{refused.what() + remedy(refused.code())}});
  return runtime_failure;
}

tl::expected<std::unique_ptr<Gateway>, ExitCode> start(config::Config config) try {
  auto gateway = std::make_unique<Gateway>(std::move(config), bridges::plugin_search_path());
  for (const auto& step : {&Gateway::load, &Gateway::start_workers}) {
    if (const auto errors = ((*gateway).*step)(); !errors.empty()) {
      print_errors(errors);
      return tl::unexpected(usage_failure);
    }
  }
  if (const auto errors = gateway->listen(); !errors.empty()) {
    print_errors(errors);
    return tl::unexpected(runtime_failure);
  }
  return gateway;
} catch (const std::system_error& refused) {
  return tl::unexpected(report(refused));
}

int run(const std::string& file) {
  Gateway::hold_signals();
  auto config = load(file);
  if (!config) return config.error();
  log::open(config->log.level, config->log.format);
  const auto gateway = start(std::move(*config));
  return gateway ? (*gateway)->run() : gateway.error();
}

int check(const std::string& file) try {
  auto config = load(file);
  if (!config) return config.error();
  const std::size_t routes = config->routes.size();
  Gateway gateway(std::move(*config), bridges::plugin_search_path());
  if (const auto errors = gateway.load(); !errors.empty()) {
    print_errors(errors);
    return usage_failure;
  }
  std::printf("%s: ok, %zu %s\n", file.c_str(), routes, routes == 1 ? "route" : "routes");
  return success;
} catch (const std::system_error& refused) {
  return report(refused);
}

int healthcheck(const std::string& file) {
  const auto address = config::load_metrics_address(file);
  if (!address) return report(address.error(), file);
  if (address->empty()) {
    std::fprintf(stderr, "sluice: %s has no metrics.address to ask\n", file.c_str());
    return usage_failure;
  }
  if (const auto health = admin::check_health(*address); !health) {
    print_errors({health.error()});
    return runtime_failure;
  }
  std::puts("ok");
  return success;
}

std::string version_text() {
  return std::string("sluice ") + version() + " (" + revision() + ", plugin ABI " +
         std::to_string(SLUICE_ABI) + ")";
}

int main(int argc, char** argv) {
  CLI::App app("A WebSocket gateway: routes browsers' sockets to plugins and services.", "sluice");
  app.set_version_flag("--version", version_text());
  app.require_subcommand(1);
  app.footer(
      "Signals: SIGTERM and SIGINT shut down gracefully; a second one ends at once.\n"
      "Exit codes: 0; 1 if it went wrong while running; 2 for usage or configuration.");

  std::string file = default_config;
  CLI::App* const run_command = app.add_subcommand("run", "Run the gateway");
  run_command->add_option("-c,--config", file, "The configuration")->capture_default_str();
  CLI::App* const check_command = app.add_subcommand(
      "check", "Check a configuration, and the plugins, certificates and folders that it names");
  check_command->add_option("file", file, "The configuration")->required();
  CLI::App* const health_command = app.add_subcommand(
      "healthcheck", "Ask the running gateway's /healthz; exit code 0 if it is healthy");
  health_command->add_option("-c,--config", file, "The configuration it runs with")
      ->capture_default_str();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? success : usage_failure;
  }
  if (run_command->parsed()) return run(file);
  if (check_command->parsed()) return check(file);
  return healthcheck(file);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  return sluice::main(argc, argv);
}
