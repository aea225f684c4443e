#include "bridges/plugin_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <optional>
#include <utility>

namespace sluice::bridges {
namespace {

constexpr const char* entry_symbol = "sluice_plugin_entry";

using Entry = const sluice_plugin* (*)();

std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
  return all;
}

// A folder or a pipe of that name is not it.
bool is_file(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

// Where the library is; nothing if it is nowhere.
std::optional<std::string> find(const std::string& file,
                                const std::vector<std::string>& search_path) {
  if (file.find('/') != std::string::npos) {
    return is_file(file) ? std::optional(file) : std::nullopt;
  }
  for (const std::string& folder : search_path) {
    const std::string path = std::filesystem::path(folder) / file;
    if (is_file(path)) return path;
  }
  return std::nullopt;
}

std::string not_found(const std::string& file, const std::vector<std::string>& search_path) {
  if (file.find('/') != std::string::npos) return "no such file";
  return "not found in " + joined(search_path);
}

std::string last_dl_error() {
  const char* error = dlerror();
  return error == nullptr ? "unknown error" : error;
}

// What is wrong with the table; empty if nothing is. Of another ABI only `size` and `abi` may be
// read, so the order of the questions matters.
std::string defect(const sluice_plugin* table) {
  if (table == nullptr) return std::string(entry_symbol) + "() returned NULL";
  if (table->abi != SLUICE_ABI) {
    return "built for ABI " + std::to_string(table->abi) + ", this gateway speaks " +
           std::to_string(SLUICE_ABI);
  }
  if (table->size < sizeof(sluice_plugin)) {
    return "its struct sluice_plugin has " + std::to_string(table->size) + " bytes, ABI " +
           std::to_string(SLUICE_ABI) + " needs " + std::to_string(sizeof(sluice_plugin));
  }
  if (table->create == nullptr) return "it has no create()";
  if (table->on_message == nullptr) return "it has no on_message()";
  return {};
}

}  // namespace

std::vector<std::string> plugin_search_path() {
  std::vector<std::string> folders;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) folders.push_back((program.parent_path() / "plugins").string());
  folders.emplace_back("/usr/local/lib/sluice");
  folders.emplace_back("/usr/lib/sluice");
  return folders;
}

PluginLibrary::PluginLibrary(std::string name, std::string path, const sluice_plugin* table)
    : name_(std::move(name)), path_(std::move(path)), table_(table) {}

Result<PluginLibrary> PluginLibrary::load(const std::string& name, const std::string& file,
                                          const std::vector<std::string>& search_path) {
  const std::string cannot_load = "plugin " + name + ": cannot load " + file + ": ";
  const std::optional<std::string> path = find(file, search_path);
  if (!path) return fail(cannot_load + not_found(file, search_path));

  // RTLD_NOW: a symbol that is missing is an error at start, not in mid-traffic.
  // RTLD_LOCAL: two plugins never see each other's symbols.
  void* library = dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return fail(cannot_load + last_dl_error());
  auto entry = reinterpret_cast<Entry>(dlsym(library, entry_symbol));
  if (entry == nullptr) {
    return fail(cannot_load + *path + " is no Sluice plugin: it does not export " + entry_symbol);
  }
  const sluice_plugin* table = entry();
  if (const std::string why = defect(table); !why.empty()) return fail(cannot_load + why);
  return PluginLibrary(name, *path, table);
}

}  // namespace sluice::bridges
