/* Without the event that is required. */
#include <sluice/plugin.h>

static void* create(const struct sluice_host* host, const char* config, char* error,
                    size_t error_size) {
  (void)config, (void)error, (void)error_size;
  return (void*)(uintptr_t)host;
}

const struct sluice_plugin* sluice_plugin_entry(void) {
  static const struct sluice_plugin plugin = {
      .size = sizeof plugin, .abi = SLUICE_ABI, .create = create};
  return &plugin;
}
