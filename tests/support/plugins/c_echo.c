/* An echo in C, with no more than what is required. */
#include <sluice/plugin.h>

static void* create(const struct sluice_host* host, const char* config, char* error,
                    size_t error_size) {
  (void)config, (void)error, (void)error_size;
  return (void*)(uintptr_t)host; /* needs nothing else */
}

static void on_message(void* instance, sluice_socket socket, int type, const void* data,
                       size_t size) {
  const struct sluice_host* host = instance;
  host->send(host, socket, type, data, size);
}

const struct sluice_plugin* sluice_plugin_entry(void) {
  static const struct sluice_plugin plugin = {
      .size = sizeof plugin, .abi = SLUICE_ABI, .create = create, .on_message = on_message};
  return &plugin;
}
