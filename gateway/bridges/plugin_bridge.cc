#include "bridges/plugin_bridge.h"

#include <array>
#include <utility>

namespace sluice::bridges {
namespace {

// What is told of a plugin that throws across the C interface.
constexpr std::string_view uncaught = "an exception left the plugin";

constexpr std::uint32_t slot_of(sluice_socket id) {
  return static_cast<std::uint32_t>(id);
}
constexpr std::uint32_t generation_of(sluice_socket id) {
  return static_cast<std::uint32_t>(id >> 32);
}
constexpr sluice_socket make_id(std::uint32_t generation, std::uint32_t slot) {
  return sluice_socket{generation} << 32 | slot;
}

std::string_view text_of(const char* text, std::size_t size) {
  return size == 0 ? std::string_view() : std::string_view(text, size);
}

// A length without memory behind it.
bool is_dangling(const void* memory, std::size_t size) {
  return memory == nullptr && size != 0;
}

static_assert(SLUICE_LOG_DEBUG == static_cast<int>(log::Level::debug) &&
              SLUICE_LOG_ERROR == static_cast<int>(log::Level::error));

}  // namespace

void write_log(log::Level level, std::string_view plugin, std::string_view text) {
  log::event(level, "plugin", {{"plugin", plugin}, {"text", text}});
}

// The functions of sluice_host. They are noexcept because their caller may be C.
struct PluginInstance::Host {
  static PluginInstance& self(const sluice_host* host) {
    return *static_cast<PluginInstance*>(host->gateway);
  }

  // The slot, or nullptr for the wrong thread or a socket that has ended; `result` says which.
  static Slot* find(const sluice_host* host, sluice_socket id, const char* function, int& result) {
    PluginInstance& instance = self(host);
    result = SLUICE_WRONG_THREAD;
    if (!instance.on_worker_thread(function)) return nullptr;
    Slot* slot = instance.find(id);
    result = slot == nullptr ? SLUICE_GONE : SLUICE_OK;
    return slot;
  }

  static Slot* find(const sluice_host* host, sluice_socket id, const char* function) {
    int ignored = SLUICE_OK;
    return find(host, id, function, ignored);
  }

  static const char* give(std::string_view text, std::size_t* size) {
    *size = text.size();
    return text.data() == nullptr ? "" : text.data();
  }

  // What `read` finds in the request, if there is one to be read.
  template <typename Read>
  static const char* from_request(const sluice_host* host, sluice_socket id, std::size_t* size,
                                  const char* function, Read read) {
    *size = 0;
    if (find(host, id, function) == nullptr) return nullptr;
    const Opening& opening = self(host).opening_;
    if (opening.request == nullptr || opening.id != id) return nullptr;
    return give(read(*opening.request), size);
  }

  static void log(const sluice_host* host, int level, const char* text, std::size_t size) noexcept {
    if (is_dangling(text, size)) return;
    if (level < SLUICE_LOG_DEBUG || level > SLUICE_LOG_ERROR) level = SLUICE_LOG_ERROR;
    self(host).log(static_cast<log::Level>(level), text_of(text, size));
  }

  static void* uv_loop(const sluice_host* host) noexcept {
    PluginInstance& instance = self(host);
    return instance.on_worker_thread("uv_loop") ? instance.uv_loop_ : nullptr;
  }

  static const char* path(const sluice_host* host, sluice_socket id, std::size_t* size) noexcept {
    return from_request(host, id, size, "path", [](auto& request) { return request.path(); });
  }

  static const char* query(const sluice_host* host, sluice_socket id, std::size_t* size) noexcept {
    return from_request(host, id, size, "query", [](auto& request) { return request.query(); });
  }

  static const char* host_name(const sluice_host* host, sluice_socket id,
                               std::size_t* size) noexcept {
    return from_request(host, id, size, "host_name", [](auto& request) { return request.host(); });
  }

  static const char* origin(const sluice_host* host, sluice_socket id, std::size_t* size) noexcept {
    return from_request(host, id, size, "origin", [](auto& request) { return request.origin(); });
  }

  static const char* client_address(const sluice_host* host, sluice_socket id,
                                    std::size_t* size) noexcept {
    return from_request(host, id, size, "client_address",
                        [](auto& request) { return request.client_address(); });
  }

  static const char* route(const sluice_host* host, sluice_socket id, std::size_t* size) noexcept {
    return from_request(host, id, size, "route", [](auto& request) { return request.route(); });
  }

  static const char* header(const sluice_host* host, sluice_socket id, const char* name,
                            std::size_t name_size, std::size_t* size) noexcept {
    return from_request(host, id, size, "header", [&](auto& request) {
      return is_dangling(name, name_size) ? "" : request.header(text_of(name, name_size));
    });
  }

  static const char* parameter(const sluice_host* host, sluice_socket id, const char* name,
                               std::size_t name_size, std::size_t* size) noexcept {
    return from_request(host, id, size, "parameter", [&](auto& request) {
      return is_dangling(name, name_size) ? "" : request.parameter(text_of(name, name_size));
    });
  }

  static const char* offered_protocol(const sluice_host* host, sluice_socket id, std::size_t index,
                                      std::size_t* size) noexcept {
    return from_request(host, id, size, "offered_protocol",
                        [&](auto& request) { return request.offered_protocol(index); });
  }

  static int accept(const sluice_host* host, sluice_socket id, const char* protocol,
                    std::size_t protocol_size) noexcept {
    int result = SLUICE_OK;
    Slot* slot = find(host, id, "accept", result);
    if (slot == nullptr) return result;
    if (is_dangling(protocol, protocol_size)) return SLUICE_INVALID;
    if (slot->socket->ready_state() != ReadyState::connecting) return SLUICE_WRONG_STATE;
    return slot->socket->accept(text_of(protocol, protocol_size)) ? SLUICE_OK : SLUICE_INVALID;
  }

  static int reject(const sluice_host* host, sluice_socket id, int status, const char* reason,
                    std::size_t reason_size) noexcept {
    int result = SLUICE_OK;
    Slot* slot = find(host, id, "reject", result);
    if (slot == nullptr) return result;
    if (is_dangling(reason, reason_size)) return SLUICE_INVALID;
    if (slot->socket->ready_state() != ReadyState::connecting) return SLUICE_WRONG_STATE;
    if (status < 400 || status > 599) return SLUICE_INVALID;
    slot->socket->reject(status, text_of(reason, reason_size));
    return SLUICE_OK;
  }

  static int send(const sluice_host* host, sluice_socket id, int type, const void* data,
                  std::size_t size) noexcept {
    int result = SLUICE_OK;
    const Slot* slot = find(host, id, "send", result);
    if (slot == nullptr) return result;
    if (type != SLUICE_TEXT && type != SLUICE_BINARY) return SLUICE_INVALID;
    if (is_dangling(data, size)) return SLUICE_INVALID;
    if (slot->socket->ready_state() != ReadyState::open) return SLUICE_WRONG_STATE;
    slot->socket->send(static_cast<MessageType>(type),
                       Bytes(static_cast<const std::uint8_t*>(data), size));
    return SLUICE_OK;
  }

  static int close(const sluice_host* host, sluice_socket id, std::uint16_t code,
                   const char* reason, std::size_t reason_size) noexcept {
    int result = SLUICE_OK;
    const Slot* slot = find(host, id, "close", result);
    if (slot == nullptr) return result;
    if (is_dangling(reason, reason_size)) return SLUICE_INVALID;
    if (slot->socket->ready_state() != ReadyState::open) return SLUICE_WRONG_STATE;
    return slot->socket->close(code, text_of(reason, reason_size)) ? SLUICE_OK : SLUICE_INVALID;
  }

  static int fail(const sluice_host* host, sluice_socket id, const char* what,
                  std::size_t what_size) noexcept {
    int result = SLUICE_OK;
    Slot* slot = find(host, id, "fail", result);
    if (slot == nullptr) return result;
    if (is_dangling(what, what_size)) return SLUICE_INVALID;
    if (slot->socket->ready_state() != ReadyState::closed) {
      slot->socket->fail(text_of(what, what_size));
      return SLUICE_OK;
    }
    // In on_close there is nothing left to end, but the log shall know.
    self(host).log(log::Level::error, text_of(what, what_size));
    return SLUICE_WRONG_STATE;
  }

  static int pause(const sluice_host* host, sluice_socket id) noexcept {
    int result = SLUICE_OK;
    if (const Slot* slot = find(host, id, "pause", result)) slot->socket->pause();
    return result;
  }

  static int resume(const sluice_host* host, sluice_socket id) noexcept {
    int result = SLUICE_OK;
    if (const Slot* slot = find(host, id, "resume", result)) slot->socket->resume();
    return result;
  }

  static int ready_state(const sluice_host* host, sluice_socket id) noexcept {
    const Slot* slot = find(host, id, "ready_state");
    return slot == nullptr ? SLUICE_CLOSED : static_cast<int>(slot->socket->ready_state());
  }

  static std::size_t buffered_amount(const sluice_host* host, sluice_socket id) noexcept {
    const Slot* slot = find(host, id, "buffered_amount");
    return slot == nullptr ? 0 : slot->socket->buffered_amount();
  }

  static const char* protocol(const sluice_host* host, sluice_socket id,
                              std::size_t* size) noexcept {
    *size = 0;
    const Slot* slot = find(host, id, "protocol");
    return slot == nullptr ? nullptr : give(slot->socket->protocol(), size);
  }

  static int set_user_data(const sluice_host* host, sluice_socket id, void* user_data) noexcept {
    int result = SLUICE_OK;
    if (Slot* slot = find(host, id, "set_user_data", result)) slot->user_data = user_data;
    return result;
  }

  static void* user_data(const sluice_host* host, sluice_socket id) noexcept {
    const Slot* slot = find(host, id, "user_data");
    return slot == nullptr ? nullptr : slot->user_data;
  }

  static sluice_host table(PluginInstance& instance);
};

sluice_host PluginInstance::Host::table(PluginInstance& instance) {
  sluice_host table{};
  table.size = sizeof(table);
  table.abi = SLUICE_ABI;
  table.gateway = &instance;
  table.log = log;
  table.uv_loop = uv_loop;
  table.path = path;
  table.query = query;
  table.host_name = host_name;
  table.origin = origin;
  table.client_address = client_address;
  table.route = route;
  table.header = header;
  table.parameter = parameter;
  table.offered_protocol = offered_protocol;
  table.accept = accept;
  table.reject = reject;
  table.send = send;
  table.close = close;
  table.fail = fail;
  table.pause = pause;
  table.resume = resume;
  table.ready_state = ready_state;
  table.buffered_amount = buffered_amount;
  table.protocol = protocol;
  table.set_user_data = set_user_data;
  table.user_data = user_data;
  return table;
}

PluginInstance::PluginInstance(const PluginLibrary& library, void* uv_loop, PluginLog log)
    : plugin_(library.table()),
      name_(library.name()),
      log_(std::move(log)),
      uv_loop_(uv_loop),
      thread_(std::this_thread::get_id()),
      table_(Host::table(*this)) {}

Result<std::unique_ptr<PluginInstance>> PluginInstance::create(const PluginLibrary& library,
                                                               const std::string& config,
                                                               void* uv_loop, PluginLog log) {
  std::unique_ptr<PluginInstance> made(new PluginInstance(library, uv_loop, std::move(log)));
  std::array<char, 512> error{};
  const std::string cannot_start = "plugin " + library.name() + ": cannot start: ";
  try {
    made->instance_ =
        made->plugin_.create(&made->table_, config.c_str(), error.data(), error.size());
  } catch (...) {
    return sluice::fail(cannot_start + std::string(uncaught));
  }
  if (made->instance_ != nullptr) return made;
  error.back() = '\0';
  return sluice::fail(cannot_start + (error.front() == '\0' ? "it did not say why" : error.data()));
}

PluginInstance::~PluginInstance() {
  if (instance_ != nullptr && plugin_.destroy != nullptr) plugin_.destroy(instance_);
}

sluice_socket PluginInstance::add(WebSocket& socket) {
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const std::uint32_t index = free_.back();
  free_.pop_back();
  slots_[index].socket = &socket;
  return make_id(slots_[index].generation, index);
}

void PluginInstance::remove(sluice_socket id) {
  Slot* slot = find(id);
  if (slot == nullptr) return;
  *slot = {.generation = slot->generation + 1};
  // A slot that has been through all generations is left alone: its first numbers may still be kept
  // somewhere.
  if (slot->generation != 0) free_.push_back(slot_of(id));
}

PluginInstance::Slot* PluginInstance::find(sluice_socket id) {
  if (slot_of(id) >= slots_.size()) return nullptr;
  Slot& slot = slots_[slot_of(id)];
  if (slot.socket == nullptr || slot.generation != generation_of(id)) return nullptr;
  return &slot;
}

// Reads nothing that the worker's thread writes, so that asking on another one is no race.
bool PluginInstance::on_worker_thread(const char* function) {
  if (std::this_thread::get_id() == thread_) return true;
  log_stray(function);
  return false;
}

void PluginInstance::log_stray(const char* function) {
  // A plugin that gets this wrong may do so for each message: the 1st, 2nd, 4th, 8th ... are told.
  const std::uint64_t strays = strays_.fetch_add(1, std::memory_order_relaxed) + 1;
  if ((strays & (strays - 1)) == 0) {
    log(log::Level::error, std::string(function) + "() refused: not on the worker's thread (" +
                               std::to_string(strays) + " such calls so far)");
  }
}

// One client of the plugin.
class PluginBridge final : public Bridge {
 public:
  PluginBridge(PluginInstance& instance, WebSocket& socket)
      : instance_(instance), id_(instance.add(socket)) {}
  ~PluginBridge() override { instance_.remove(id_); }
  PluginBridge(const PluginBridge&) = delete;
  PluginBridge& operator=(const PluginBridge&) = delete;

  void on_open(const UpgradeRequest& request) override {
    if (plugin().on_open == nullptr) {
      instance_.find(id_)->socket->accept();
      return;
    }
    instance_.opening_ = {id_, &request};
    call([this] { plugin().on_open(instance_.instance_, id_); });
    instance_.opening_ = {};
  }

  void on_message(MessageType type, Bytes payload) override {
    call([&] {
      plugin().on_message(instance_.instance_, id_, static_cast<int>(type), payload.data(),
                          payload.size());
    });
  }

  void on_drain() override {
    if (plugin().on_drain == nullptr) return;
    call([this] { plugin().on_drain(instance_.instance_, id_); });
  }

  void on_close(const CloseEvent& event) override {
    if (plugin().on_close != nullptr) {
      const sluice_close_event close = {
          .size = sizeof(close),
          .code = event.code,
          .was_clean = event.was_clean,
          .reason = event.reason.data() == nullptr ? "" : event.reason.data(),
          .reason_size = event.reason.size()};
      call([&] { plugin().on_close(instance_.instance_, id_, &close); });
    }
    instance_.remove(id_);
  }

 private:
  const sluice_plugin& plugin() const { return instance_.plugin_; }

  // Plugins must not throw across the C interface. One that does costs its own client, not the
  // gateway.
  template <typename Function>
  void call(Function function) noexcept {
    try {
      function();
    } catch (...) {
      PluginInstance::Host::fail(&instance_.table_, id_, uncaught.data(), uncaught.size());
    }
  }

  PluginInstance& instance_;
  const sluice_socket id_;
};

std::unique_ptr<Bridge> PluginBridgeFactory::create(ClientSocket& socket) {
  return std::make_unique<PluginBridge>(instance_, socket);
}

}  // namespace sluice::bridges
