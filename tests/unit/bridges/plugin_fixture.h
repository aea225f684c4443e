// What the tests of plugins share: where the plugins are, a log, an instance, a client.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "bridges/plugin_bridge.h"
#include "support/fake_websocket.h"

namespace sluice::bridges {

inline const std::string real_plugins = SLUICE_BINARY_DIR "/plugins";
inline const std::string test_plugins = SLUICE_BINARY_DIR "/test-plugins";

struct LogLines {
  PluginLog writer() {
    return [this](log::Level level, std::string_view plugin, std::string_view text) {
      const std::lock_guard lock(mutex);
      lines.push_back(std::to_string(static_cast<int>(level)) + " " + std::string(plugin) + ": " +
                      std::string(text));
    };
  }
  std::mutex mutex;
  std::vector<std::string> lines;
};

// A plugin of the name of its library, started.
struct Plugin {
  explicit Plugin(const std::string& name, const std::string& config = "{}") {
    auto library = PluginLibrary::load(name, name + ".so", {test_plugins, real_plugins});
    REQUIRE_MESSAGE(library.has_value(), library.error().message);
    auto created = PluginInstance::create(*library, config, &loop, log.writer());
    REQUIRE_MESSAGE(created.has_value(), created.error().message);
    instance = std::move(*created);
    factory = std::make_unique<PluginBridgeFactory>(*instance);
  }

  LogLines log;
  int loop = 0;  // only its address is passed on
  std::unique_ptr<PluginInstance> instance;
  std::unique_ptr<PluginBridgeFactory> factory;
};

// A client of it, with the events that the gateway would deliver.
struct Client {
  explicit Client(Plugin& plugin) : bridge(plugin.factory->create(socket)) {}

  Client& open() {
    bridge->on_open(request);
    return *this;
  }
  // The answers that this message had.
  std::vector<test::FakeWebSocket::Sent> say(std::string_view text,
                                             MessageType type = MessageType::text) {
    socket.sent.clear();
    bridge->on_message(type, as_bytes(text));
    return socket.sent;
  }
  // The one answer that it had.
  std::string ask(std::string_view text) {
    const auto answers = say(text);
    REQUIRE(answers.size() == 1);
    return answers.front().payload;
  }
  void close(std::uint16_t code = 1000, std::string_view reason = {}, bool was_clean = true) {
    socket.state = ReadyState::closed;
    bridge->on_close({code, reason, was_clean});
    bridge.reset();
  }

  test::FakeRequest request;
  test::FakeWebSocket socket;
  std::unique_ptr<Bridge> bridge;
};

}  // namespace sluice::bridges
