// The plugin bridge: hands the events of a client's WebSocket to a plugin, and the plugin's calls
// to the WebSocket. The contract with the plugin is <sluice/plugin.h>.
//
// Everything here happens on one worker's thread.
#pragma once

#include <sluice/plugin.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "bridge.h"
#include "bridges/plugin_library.h"
#include "websocket.h"

namespace sluice::bridges {

// Where what a plugin logs goes to, and what is to be said about it. Called on any thread.
using PluginLog =
    std::function<void(log::Level level, std::string_view plugin, std::string_view text)>;
// To the gateway's log, as the event "plugin".
void write_log(log::Level level, std::string_view plugin, std::string_view text);

// One plugin on one worker. Outlives its factories and bridges.
//
// A plugin never holds a pointer to a WebSocket but the number of a slot and of its generation; the
// generation ends with the socket, so that a number that was kept too long means nothing.
class PluginInstance {
 public:
  // Calls the plugin's create(), on the worker's thread: it is the only one that may use the
  // instance from then on. `config` is JSON text, `uv_loop` the worker's loop. The error begins
  // with "plugin <name>:".
  static Result<std::unique_ptr<PluginInstance>> create(const PluginLibrary& library,
                                                        const std::string& config, void* uv_loop,
                                                        PluginLog log = write_log);
  // Calls the plugin's destroy(), on the worker's thread too. That may close handles on the loop:
  // run it afterwards.
  ~PluginInstance();
  PluginInstance(const PluginInstance&) = delete;
  PluginInstance& operator=(const PluginInstance&) = delete;

 private:
  friend class PluginBridge;  // hands out and takes back sockets, and calls the plugin
  struct Host;                // the functions of the table

  struct Slot {
    std::uint32_t generation = 1;  // 0: worn out, never used again
    WebSocket* socket = nullptr;   // nullptr: free
    void* user_data = nullptr;
  };
  // The one socket that is in its on_open.
  struct Opening {
    sluice_socket id = 0;
    const UpgradeRequest* request = nullptr;
  };

  PluginInstance(const PluginLibrary& library, void* uv_loop, PluginLog log);

  sluice_socket add(WebSocket& socket);
  void remove(sluice_socket id);
  // Nullptr if the socket has ended. Valid until the next add().
  Slot* find(sluice_socket id);
  bool on_worker_thread(const char* function);
  [[gnu::noinline]] void log_stray(const char* function);
  void log(log::Level level, std::string_view text) const { log_(level, name_, text); }

  const sluice_plugin& plugin_;
  const std::string name_;
  const PluginLog log_;
  void* const uv_loop_;
  const std::thread::id thread_;
  std::atomic<std::uint64_t> strays_{0};  // calls on other threads
  sluice_host table_;
  void* instance_ = nullptr;  // the plugin's own
  Opening opening_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
};

// Makes the bridges of one route on one worker.
class PluginBridgeFactory final : public BridgeFactory {
 public:
  explicit PluginBridgeFactory(PluginInstance& instance) : instance_(instance) {}
  std::unique_ptr<Bridge> create(ClientSocket& socket) override;

 private:
  PluginInstance& instance_;
};

}  // namespace sluice::bridges
