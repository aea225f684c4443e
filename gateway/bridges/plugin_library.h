// PluginLibrary: the shared library of a plugin, found, loaded and checked.
//
// This is the only place that calls dlopen(). A library is never unloaded: its code may be needed
// as long as anything that it started lives (a thread, a handle on a loop), and nobody can tell
// when that is over. So a library that was replaced on disk is used after a restart, or under
// another name.
#pragma once

#include <sluice/plugin.h>

#include <string>
#include <vector>

#include "base/result.h"

namespace sluice::bridges {

// Where a library named without a slash is looked for: "plugins" beside the program, then
// /usr/local/lib/sluice and /usr/lib/sluice.
std::vector<std::string> plugin_search_path();

// A value; copies share the loaded library.
class PluginLibrary {
 public:
  // Loads the library for the entry `name` under `plugins:`. `file` is its `library:`: with a slash
  // a path, else searched in the folders of `search_path`, first come. Errors are complete
  // sentences that begin with "plugin <name>:".
  static Result<PluginLibrary> load(const std::string& name, const std::string& file,
                                    const std::vector<std::string>& search_path);

  const std::string& name() const { return name_; }
  const std::string& path() const { return path_; }
  // Checked: of our ABI, whole, and with the functions that are required. Lives for ever.
  const sluice_plugin& table() const { return *table_; }

 private:
  PluginLibrary(std::string name, std::string path, const sluice_plugin* table);

  std::string name_;  // the key under `plugins:`
  std::string path_;
  const sluice_plugin* table_;
};

}  // namespace sluice::bridges
