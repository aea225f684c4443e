/* A library, but no plugin. */
#include <sluice/plugin.h>

SLUICE_EXPORT int something_else(void);
int something_else(void) { return 1; }
