// Does what messages say and answers with what it saw. Keeps the sockets of the past, to use them
// when it should not.
#include <sluice/plugin.h>

#include <cstdlib>
#include <string>
#include <thread>

namespace {

// All that the C interface can do with a socket, by its results.
std::string use(const sluice_host* host, sluice_socket id) {
  std::string seen;
  auto add = [&seen](auto result) { seen += std::to_string(result) + " "; };
  std::size_t size = 99;
  add(host->accept(host, id, nullptr, 0));
  add(host->reject(host, id, 403, nullptr, 0));
  add(host->send(host, id, SLUICE_TEXT, "stray", 5));
  add(host->close(host, id, 1000, nullptr, 0));
  add(host->fail(host, id, "stray", 5));
  add(host->pause(host, id));
  add(host->resume(host, id));
  add(host->set_user_data(host, id, &size));
  add(host->ready_state(host, id));
  add(host->buffered_amount(host, id));
  const bool nothing = host->user_data(host, id) == nullptr &&
                       host->protocol(host, id, &size) == nullptr && size == 0 &&
                       host->path(host, id, &size) == nullptr &&
                       host->header(host, id, "x", 1, &size) == nullptr;
  return seen + (nothing ? "nothing" : "something");
}

struct State {
  const sluice_host* host;
  sluice_socket last = 0;  // of on_open
  std::string notes;       // what happened in on_open and on_close, for "notes"
};

void* create(const sluice_host* host, const char*, char*, size_t) {
  return new State{host, 0, {}};
}

void destroy(void* instance) {
  State* state = static_cast<State*>(instance);
  state->host->log(state->host, SLUICE_LOG_INFO, "destroy", 7);
  delete state;
}

void reply(State& state, sluice_socket id, const std::string& text) {
  state.host->send(state.host, id, SLUICE_TEXT, text.data(), text.size());
}

std::string text(const char* data, std::size_t size) {
  return data == nullptr ? "NULL" : std::string(data, size);
}

void on_open(void* instance, sluice_socket id) {
  State& state = *static_cast<State*>(instance);
  const sluice_host* host = state.host;
  state.last = id;
  std::size_t size = 0;
  std::string seen;
  for (auto get : {host->path, host->query, host->host_name, host->origin, host->client_address,
                   host->route}) {
    const char* data = get(host, id, &size);
    seen += text(data, size) + " ";
  }
  const char* data = host->header(host, id, "X-One", 5, &size);
  seen += text(data, size) + " ";
  data = host->parameter(host, id, "room", 4, &size);
  seen += text(data, size) + " ";
  data = host->offered_protocol(host, id, 1, &size);
  seen += text(data, size) + " [";
  data = host->offered_protocol(host, id, 2, &size);
  seen += text(data, size) + "] ";
  if (seen.find("later") != std::string::npos) return;
  const int accepted = host->accept(host, id, "two", 3);
  if (accepted == SLUICE_INVALID) host->reject(host, id, 400, "not two", 7);
  seen += std::to_string(accepted) + " ";
  seen += std::to_string(host->accept(host, id, "two", 3)) + " ";
  data = host->path(host, id, &size);
  state.notes = seen + text(data, size);
}

std::string invalid_calls(const sluice_host* host, sluice_socket id) {
  std::string seen;
  auto add = [&seen](auto result) { seen += std::to_string(result) + " "; };
  add(host->send(host, id, 3, "x", 1));
  add(host->send(host, id, SLUICE_TEXT, nullptr, 1));
  add(host->close(host, id, 1001, nullptr, 0));
  add(host->close(host, id, 1000, nullptr, 1));
  add(host->reject(host, id, 200, nullptr, 0));
  add(host->accept(host, id, nullptr, 0));
  add(host->send(host, id, SLUICE_BINARY, nullptr, 0));
  return seen;
}

void on_message(void* instance, sluice_socket id, int, const void* data, std::size_t size) {
  State& state = *static_cast<State*>(instance);
  const sluice_host* host = state.host;
  const std::string message(static_cast<const char*>(data), size);
  if (message == "notes") return reply(state, id, state.notes);
  if (message == "path") {
    const char* path = host->path(host, id, &size);
    return reply(state, id, text(path, size));
  }
  if (message == "last") return reply(state, id, std::to_string(state.last));
  if (message == "pause") host->pause(host, id);
  if (message == "resume") host->resume(host, id);
  if (message == "close") host->close(host, id, 3000, "bye", 3);
  if (message == "invalid") return reply(state, id, invalid_calls(host, id));
  if (message == "accept last") host->accept(host, state.last, "one", 3);
  if (message == "loop") return reply(state, id, host->uv_loop(host) == nullptr ? "none" : "loop");
  if (message == "buffered") {
    return reply(state, id, std::to_string(host->buffered_amount(host, id)));
  }
  // "use <id>": everything with that socket.
  if (message.rfind("use ", 0) == 0) {
    return reply(state, id, use(host, std::strtoull(message.c_str() + 4, nullptr, 10)));
  }
  // The same with this socket on another thread, while this one goes on.
  if (message == "thread") {
    std::string seen;
    std::thread other([&] {
      seen = use(host, id);
      if (host->uv_loop(host) != nullptr) seen += " loop";
      host->log(host, SLUICE_LOG_WARNING, "from another thread", 19);
    });
    reply(state, id, "meanwhile");
    other.join();
    reply(state, id, seen);
  }
}

void on_drain(void* instance, sluice_socket id) {
  reply(*static_cast<State*>(instance), id, "drained");
}

void on_close(void* instance, sluice_socket id, const sluice_close_event* event) {
  State& state = *static_cast<State*>(instance);
  state.notes = std::to_string(event->size == sizeof(*event)) + " " + std::to_string(event->code) +
                " " + std::string(event->reason, event->reason_size) + " " +
                std::to_string(event->was_clean) + " " +
                std::to_string(state.host->ready_state(state.host, id)) + " " +
                std::to_string(state.host->send(state.host, id, SLUICE_TEXT, "late", 4));
}

}  // namespace

const sluice_plugin* sluice_plugin_entry() {
  static const sluice_plugin plugin = {sizeof(plugin), SLUICE_ABI, "probe",    "1",      create,
                                       destroy,        on_open,    on_message, on_drain, on_close};
  return &plugin;
}
