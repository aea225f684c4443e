// Does what the header forbids: lets exceptions out. With the config "{}" it starts.
#include <sluice/plugin.h>

#include <cstring>
#include <stdexcept>

namespace {

void* create(const sluice_host* host, const char* config, char*, size_t) {
  if (std::strcmp(config, "{}") != 0) throw std::runtime_error("create");
  return const_cast<sluice_host*>(host);
}

void on_message(void*, sluice_socket, int, const void*, size_t) {
  throw 42;
}

}  // namespace

const sluice_plugin* sluice_plugin_entry() {
  static const sluice_plugin plugin = {sizeof(plugin), SLUICE_ABI, "raw_thrower", "1",     create,
                                       nullptr,        nullptr,    on_message,    nullptr, nullptr};
  return &plugin;
}
