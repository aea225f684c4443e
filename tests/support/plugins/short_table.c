/* A table of our ABI that ends before it should. */
#include <sluice/plugin.h>

const struct sluice_plugin* sluice_plugin_entry(void) {
  static const struct {
    size_t size;
    uint32_t abi;
  } plugin = {sizeof plugin, SLUICE_ABI};
  return (const struct sluice_plugin*)&plugin;
}
