/* No table at all. */
#include <sluice/plugin.h>

const struct sluice_plugin* sluice_plugin_entry(void) { return NULL; }
