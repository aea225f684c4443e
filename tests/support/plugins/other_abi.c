/* A plugin of an ABI of which nothing is known but its first two fields. */
#include <sluice/plugin.h>

const struct sluice_plugin* sluice_plugin_entry(void) {
  static const struct {
    size_t size;
    uint32_t abi;
  } plugin = {sizeof plugin, 7};
  return (const struct sluice_plugin*)&plugin;
}
