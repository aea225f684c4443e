/* Never starts: says why, unless it is configured with "{}". */
#include <sluice/plugin.h>
#include <stdio.h>
#include <string.h>

static void* create(const struct sluice_host* host, const char* config, char* error,
                    size_t error_size) {
  (void)host;
  if (strcmp(config, "{}") != 0) snprintf(error, error_size, "bad config %s", config);
  return NULL;
}

static void on_message(void* instance, sluice_socket socket, int type, const void* data,
                       size_t size) {
  (void)instance, (void)socket, (void)type, (void)data, (void)size;
}

const struct sluice_plugin* sluice_plugin_entry(void) {
  static const struct sluice_plugin plugin = {
      .size = sizeof plugin, .abi = SLUICE_ABI, .create = create, .on_message = on_message};
  return &plugin;
}
