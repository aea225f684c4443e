// Sluice plugins in C++17 and later: the words of a browser's WebSocket, at the server's end.
//
//   #include <sluice/plugin.hpp>
//
//   class Echo : public sluice::Socket {
//     void on_message(sluice::Message message) override { send(message); }
//   };
//
//   SLUICE_PLUGIN(Echo)
//
// One object of the class is made for each client, and deleted after its on_close. Everything
// happens on one worker's thread: no locks. An exception that leaves one of your functions ends
// that one client's connection (close code 1011) and is logged; nobody else notices.
//
// State that the clients of a worker share is a class of its own, made once a worker:
//
//   struct Room { std::set<sluice::Socket*> members; };
//   class Chat : public sluice::Socket {
//    public:
//     explicit Chat(Room& room) : room_(room) {}
//     ...
//   };
//   SLUICE_PLUGIN(Chat, Room)
//
// Views (std::string_view) that a function or an event hands you are valid until it returns.
// The rules behind all this stand in <sluice/plugin.h>.
#pragma once

#include <sluice/plugin.h>

#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

namespace sluice {

// Keeps plugins apart that were compiled with other versions of this header, and the gateway too.
inline namespace plugin_abi_1 {

enum class LogLevel {
  debug = SLUICE_LOG_DEBUG,
  info = SLUICE_LOG_INFO,
  warning = SLUICE_LOG_WARNING,
  error = SLUICE_LOG_ERROR,
};

enum class ReadyState {
  connecting = SLUICE_CONNECTING,
  open = SLUICE_OPEN,
  closing = SLUICE_CLOSING,
  closed = SLUICE_CLOSED,
};

// Bytes to be sent as a binary message: send(Binary(vector)), send(Binary(pointer, size)).
struct Binary {
  Binary(const void* bytes, std::size_t byte_count) : data(bytes), size(byte_count) {}
  template <typename Container>
  explicit Binary(const Container& bytes)
      : data(bytes.data()), size(bytes.size() * sizeof(*bytes.data())) {}

  const void* data;
  std::size_t size;
};

// A message that came. Send it on as it is, or look inside.
class Message {
 public:
  Message(int type, std::string_view data) : type_(type), data_(data) {}

  bool is_text() const { return type_ == SLUICE_TEXT; }
  bool is_binary() const { return type_ == SLUICE_BINARY; }
  // The payload: UTF-8 if it is text, else any bytes.
  std::string_view data() const { return data_; }

 private:
  int type_;
  std::string_view data_;
};

// How a socket ended.
struct CloseEvent {
  int code;                 // 1005: no code was received; 1006: no Close frame at all
  std::string_view reason;  // UTF-8
  bool was_clean;           // both Close frames were exchanged
};

// The opening handshake, as the client sent it. Readable in on_open.
class Request {
 public:
  Request(const sluice_host* host, sluice_socket socket) : host_(host), socket_(socket) {}

  std::string_view path() const { return read(host_->path); }
  std::string_view query() const { return read(host_->query); }  // without "?"
  std::string_view host() const { return read(host_->host_name); }
  std::string_view origin() const { return read(host_->origin); }
  std::string_view client_address() const { return read(host_->client_address); }
  std::string_view route() const { return read(host_->route); }
  // Names are compared without case; empty if there is none.
  std::string_view header(std::string_view name) const {
    return read(host_->header, name.data(), name.size());
  }
  // What stands for {name} in the route's path, percent-decoded.
  std::string_view parameter(std::string_view name) const {
    return read(host_->parameter, name.data(), name.size());
  }
  // The subprotocols that the client offers, the preferred one first; empty past the last.
  std::string_view offered_protocol(std::size_t index) const {
    return read(host_->offered_protocol, index);
  }

 private:
  template <typename Getter, typename... Arguments>
  std::string_view read(Getter getter, Arguments... arguments) const {
    std::size_t size = 0;
    const char* text = getter(host_, socket_, arguments..., &size);
    return {text, size};
  }

  const sluice_host* host_;
  sluice_socket socket_;
};

// A name for a socket that may be copied and kept: in a timer, for an answer that comes later. When
// the socket has ended, everything here does nothing and ready_state() is closed. On the worker's
// thread, as everything.
class Handle {
 public:
  Handle() = default;
  Handle(const sluice_host* host, sluice_socket socket) : host_(host), socket_(socket) {}

  ReadyState ready_state() const {
    if (host_ == nullptr) return ReadyState::closed;
    return static_cast<ReadyState>(host_->ready_state(host_, socket_));
  }
  // The bytes that send() took and the kernel has not yet, frame headers included.
  std::size_t buffered_amount() const {
    return host_ == nullptr ? 0 : host_->buffered_amount(host_, socket_);
  }
  // The subprotocol agreed on; empty if none.
  std::string_view protocol() const {
    std::size_t size = 0;
    const char* text = host_ == nullptr ? nullptr : host_->protocol(host_, socket_, &size);
    return {text, size};
  }

  // Lets the client in: in on_open or later. The subprotocol is the route's choice unless another
  // one of those that the client offers is named. One that it does not offer is the end of this
  // socket, as an exception is.
  void accept(std::string_view subprotocol = {}) const {
    if (host_ == nullptr) return;
    const int result = host_->accept(host_, socket_, subprotocol.data(), subprotocol.size());
    if (result != SLUICE_INVALID) return;
    constexpr std::string_view what = "it accepted a subprotocol that the client did not offer";
    host_->fail(host_, socket_, what.data(), what.size());
  }
  // Refuses the client with an HTTP status of 400 to 599. Another one is the end of this socket, as
  // an exception is.
  void reject(int status = 403, std::string_view reason = {}) const {
    if (host_ == nullptr) return;
    const int result = host_->reject(host_, socket_, status, reason.data(), reason.size());
    if (result != SLUICE_INVALID) return;
    constexpr std::string_view what = "it rejected with a status that is not 400 to 599";
    host_->fail(host_, socket_, what.data(), what.size());
  }

  // False unless the socket is open; then nothing was sent.
  bool send(std::string_view text) const { return send(SLUICE_TEXT, text.data(), text.size()); }
  bool send(Binary bytes) const { return send(SLUICE_BINARY, bytes.data, bytes.size); }
  bool send(Message message) const {
    return send(message.is_text() ? SLUICE_TEXT : SLUICE_BINARY, message.data().data(),
                message.data().size());
  }
  // Starts the closing handshake: code 1000 or 3000 to 4999, and a reason of at most 123 bytes.
  // False, and nothing happens, if they are not, or unless the socket is open.
  bool close(int code = 1000, std::string_view reason = {}) const {
    if (code < 1000 || code > 4999) return false;
    return call(&sluice_host::close, static_cast<std::uint16_t>(code), reason.data(),
                reason.size());
  }

  // Stops and resumes on_message; meanwhile the client's own bufferedAmount grows.
  void pause() const { call(&sluice_host::pause); }
  void resume() const { call(&sluice_host::resume); }

 private:
  template <typename Function, typename... Arguments>
  bool call(Function sluice_host::*function, Arguments... arguments) const {
    return host_ != nullptr && (host_->*function)(host_, socket_, arguments...) == SLUICE_OK;
  }
  bool send(int type, const void* data, std::size_t size) const {
    return call(&sluice_host::send, type, data, size);
  }

  const sluice_host* host_ = nullptr;
  sluice_socket socket_ = 0;
};

class Worker;
template <typename SocketType, typename Shared = Worker>
class Plugin;

// One client. In the constructor there is no socket yet, and the functions of Handle do nothing.
class Socket {
 public:
  Socket() = default;
  virtual ~Socket() = default;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // A client wants in: accept() or reject(), now or later.
  virtual void on_open(const Request&) { accept(); }
  virtual void on_message(Message message) = 0;
  // buffered_amount() was over the route's high watermark, and is now under its low one.
  virtual void on_drain() {}
  // Exactly once, and last; then the object is deleted.
  virtual void on_close(const CloseEvent&) {}

  // A copy to keep; see Handle for what each of the functions below does.
  Handle handle() const { return handle_; }
  ReadyState ready_state() const { return handle_.ready_state(); }
  std::size_t buffered_amount() const { return handle_.buffered_amount(); }
  std::string_view protocol() const { return handle_.protocol(); }
  void accept(std::string_view subprotocol = {}) { handle_.accept(subprotocol); }
  void reject(int status = 403, std::string_view reason = {}) { handle_.reject(status, reason); }
  bool send(std::string_view text) { return handle_.send(text); }
  bool send(Binary bytes) { return handle_.send(bytes); }
  bool send(Message message) { return handle_.send(message); }
  bool close(int code = 1000, std::string_view reason = {}) { return handle_.close(code, reason); }
  void pause() { handle_.pause(); }
  void resume() { handle_.resume(); }

 private:
  template <typename SocketType, typename Shared>
  friend class Plugin;

  Handle handle_;  // set between the constructor and on_open
};

// What a plugin can have of its worker. The shared class of SLUICE_PLUGIN(Socket, Shared) is given
// one if its constructor takes it; copies may be kept as long as that object lives.
class Worker {
 public:
  Worker(const sluice_host* host, std::string_view config) : host_(host), config_(config) {}

  // What stands under `config:` in routes.yaml, as JSON text; "{}" if nothing does.
  std::string_view config() const { return config_; }
  // The worker's uv_loop_t*. Close your handles on it in the destructor of the shared class.
  void* uv_loop() const { return host_->uv_loop(host_); }
  // Writes a line to the gateway's log. On every thread.
  void log(LogLevel level, std::string_view text) const {
    host_->log(host_, static_cast<int>(level), text.data(), text.size());
  }

 private:
  const sluice_host* host_;
  std::string_view config_;
};

// The C functions behind SLUICE_PLUGIN. Nothing is thrown across them.
template <typename SocketType, typename Shared>
class Plugin {
  static_assert(std::is_base_of_v<Socket, SocketType>, "derive it from sluice::Socket");

 public:
  static constexpr sluice_plugin describe(const char* name, const char* version) {
    return {sizeof(sluice_plugin),
            SLUICE_ABI,
            name,
            version,
            create,
            destroy,
            on_open,
            on_message,
            on_drain,
            on_close};
  }

 private:
  Plugin(const sluice_host* host, const char* config)
      : host_(host), config_(config), worker_(host, config_), shared_(make_shared_state(worker_)) {}

  static std::unique_ptr<Shared> make_shared_state(Worker& worker) {
    if constexpr (std::is_constructible_v<Shared, Worker&>) {
      return std::make_unique<Shared>(worker);
    } else {
      return std::make_unique<Shared>();
    }
  }

  std::unique_ptr<SocketType> make_socket() {
    if constexpr (std::is_constructible_v<SocketType, Shared&>) {
      return std::make_unique<SocketType>(*shared_);
    } else {
      return std::make_unique<SocketType>();
    }
  }

  // Null if the object's constructor threw.
  Socket* find(sluice_socket socket) {
    return static_cast<Socket*>(host_->user_data(host_, socket));
  }

  // Calls function(); what it throws is the end of this one socket.
  template <typename Function>
  void guard(sluice_socket socket, Function function) noexcept {
    try {
      function();
    } catch (const std::exception& error) {
      host_->fail(host_, socket, error.what(), std::strlen(error.what()));
    } catch (...) {
      constexpr std::string_view what = "an exception that is no std::exception";
      host_->fail(host_, socket, what.data(), what.size());
    }
  }

  static void* create(const sluice_host* host, const char* config, char* error,
                      std::size_t error_size) noexcept {
    // Within one ABI tables only grow, but a gateway may be older than this header.
    if (host->size < sizeof(sluice_host)) {
      return refuse("this gateway is older than the plugin's headers", error, error_size);
    }
    try {
      return new Plugin(host, config);
    } catch (const std::exception& exception) {
      return refuse(exception.what(), error, error_size);
    } catch (...) {
      return refuse("an exception that is no std::exception", error, error_size);
    }
  }

  static void* refuse(std::string_view why, char* error, std::size_t error_size) noexcept {
    if (error_size == 0) return nullptr;
    const std::size_t size = why.size() < error_size ? why.size() : error_size - 1;
    std::memcpy(error, why.data(), size);
    error[size] = '\0';
    return nullptr;
  }

  static void destroy(void* instance) noexcept { delete static_cast<Plugin*>(instance); }

  static void on_open(void* instance, sluice_socket id) noexcept {
    Plugin& self = *static_cast<Plugin*>(instance);
    self.guard(id, [&self, id] {
      std::unique_ptr<Socket> made = self.make_socket();
      made->handle_ = Handle(self.host_, id);
      Socket* socket = made.release();
      self.host_->set_user_data(self.host_, id, socket);  // on_close deletes it
      socket->on_open(Request(self.host_, id));
    });
  }

  static void on_message(void* instance, sluice_socket id, int type, const void* data,
                         std::size_t size) noexcept {
    Plugin& self = *static_cast<Plugin*>(instance);
    Socket* socket = self.find(id);
    if (socket == nullptr) return;
    self.guard(id, [=] {
      socket->on_message(Message(type, {static_cast<const char*>(data), size}));
    });
  }

  static void on_drain(void* instance, sluice_socket id) noexcept {
    Plugin& self = *static_cast<Plugin*>(instance);
    Socket* socket = self.find(id);
    if (socket == nullptr) return;
    self.guard(id, [=] { socket->on_drain(); });
  }

  static void on_close(void* instance, sluice_socket id, const sluice_close_event* event) noexcept {
    Plugin& self = *static_cast<Plugin*>(instance);
    const std::unique_ptr<Socket> socket(self.find(id));
    if (socket == nullptr) return;
    self.guard(id, [&socket, event] {
      socket->on_close({event->code, {event->reason, event->reason_size}, event->was_clean != 0});
    });
  }

  const sluice_host* host_;
  const std::string config_;
  Worker worker_;
  std::unique_ptr<Shared> shared_;
};

}  // namespace plugin_abi_1
}  // namespace sluice

// The plugin's version, for the log. Define it before the #include to have one.
#ifndef SLUICE_PLUGIN_VERSION
#define SLUICE_PLUGIN_VERSION ""
#endif

// SLUICE_PLUGIN(Socket) or SLUICE_PLUGIN(Socket, Shared), once in a plugin, in no namespace.
#define SLUICE_PLUGIN(...) SLUICE_PLUGIN_NAMED(SLUICE_PLUGIN_FIRST(__VA_ARGS__, ), __VA_ARGS__)
#define SLUICE_PLUGIN_FIRST(first, ...) first
#define SLUICE_PLUGIN_NAMED(name, ...) SLUICE_PLUGIN_ENTRY(name, __VA_ARGS__)
#define SLUICE_PLUGIN_ENTRY(name, ...)                                         \
  extern "C" SLUICE_EXPORT const sluice_plugin* sluice_plugin_entry(void) {    \
    static constexpr sluice_plugin plugin =                                    \
        ::sluice::Plugin<__VA_ARGS__>::describe(#name, SLUICE_PLUGIN_VERSION); \
    return &plugin;                                                            \
  }
