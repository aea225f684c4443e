// Loading plugins: what is wrong with a library is told at start and in words.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "bridges/plugin_bridge.h"
#include "plugin_fixture.h"
#include "support/files.h"

namespace sluice::bridges {
namespace {

std::string error_of(const std::string& file,
                     const std::vector<std::string>& search_path = {test_plugins}) {
  const auto library = PluginLibrary::load("p", file, search_path);
  REQUIRE_FALSE(library.has_value());
  return library.error().message;
}

std::string start_error_of(const std::string& file, const std::string& config) {
  const auto library = PluginLibrary::load("p", file, {test_plugins, real_plugins});
  REQUIRE(library.has_value());
  const auto instance = PluginInstance::create(*library, config, nullptr, LogLines().writer());
  REQUIRE_FALSE(instance.has_value());
  return instance.error().message;
}

std::string contents(const std::string& path) {
  return test::read_text(test::source_path(path));
}

TEST_CASE("a library that is nowhere: the error names every folder that was searched") {
  CHECK(error_of("nowhere.so", {"/first", "/second"}) ==
        "plugin p: cannot load nowhere.so: not found in /first, /second");
  CHECK(error_of("/first/nowhere.so") == "plugin p: cannot load /first/nowhere.so: no such file");
  CHECK(error_of("..").find("not found") != std::string::npos);
}

TEST_CASE("the folders are searched in their order, and a name with a slash is a path") {
  const auto first = PluginLibrary::load("p", "echo.so", {"/nowhere", real_plugins, test_plugins});
  REQUIRE(first.has_value());
  CHECK(first->path() == real_plugins + "/echo.so");
  CHECK(first->name() == "p");
  CHECK(std::string(first->table().name) == "Echo");
  const auto path = PluginLibrary::load("p", test_plugins + "/thrower.so", {});
  REQUIRE(path.has_value());
  CHECK(std::string(path->table().name) == "Thrower");
  CHECK(std::string(path->table().version) == "1.2.3");
}

TEST_CASE("the search path begins beside the program") {
  const auto folders = plugin_search_path();
  REQUIRE(folders.size() == 3);
  const auto program = std::filesystem::read_symlink("/proc/self/exe");
  CHECK(folders[0] == (program.parent_path() / "plugins").string());
  CHECK(folders[1] == "/usr/local/lib/sluice");
  CHECK(folders[2] == "/usr/lib/sluice");
}

TEST_CASE("a file that is no library is told in the words of the dynamic linker") {
  const std::string path = SLUICE_BINARY_DIR "/test-plugins/text.so";
  std::ofstream(path) << "this is not an ELF file, but it is long enough to be looked at as one";
  CHECK(error_of("text.so") == "plugin p: cannot load text.so: " + path + ": invalid ELF header");
}

TEST_CASE("a library without the symbol is told apart from a plugin") {
  CHECK(error_of("no_entry.so") == "plugin p: cannot load no_entry.so: " + test_plugins +
                                       "/no_entry.so is no Sluice plugin: it does not export "
                                       "sluice_plugin_entry");
}

TEST_CASE("an ABI that the gateway does not speak is refused") {
  CHECK(error_of("other_abi.so") ==
        "plugin p: cannot load other_abi.so: built for ABI 7, this gateway speaks 1");
}

TEST_CASE("a table that is too short, missing, or lacks a required function is refused") {
  CHECK(
      error_of("short_table.so") ==
      "plugin p: cannot load short_table.so: its struct sluice_plugin has 16 bytes, ABI 1 needs " +
          std::to_string(sizeof(sluice_plugin)));
  CHECK(error_of("null_table.so") ==
        "plugin p: cannot load null_table.so: sluice_plugin_entry() returned NULL");
  CHECK(error_of("no_message.so") == "plugin p: cannot load no_message.so: it has no on_message()");
}

TEST_CASE("a plugin that fails to start says why") {
  CHECK(start_error_of("no_start.so", "[1]") == "plugin p: cannot start: bad config [1]");
  CHECK(start_error_of("no_start.so", "{}") == "plugin p: cannot start: it did not say why");
  // An error that is longer than the room for it is cut, not written past the end.
  const std::string long_error = start_error_of("no_start.so", std::string(5000, 'x'));
  CHECK(long_error.size() == std::string("plugin p: cannot start: ").size() + 511);
  CHECK(start_error_of("thrower.so", "{\"throw\":true}") ==
        "plugin p: cannot start: thrown by Shared");
  CHECK(start_error_of("raw_thrower.so", "[]") ==
        "plugin p: cannot start: an exception left the plugin");
}

TEST_CASE("a plugin built with newer headers than the gateway's refuses to start") {
  const auto library = PluginLibrary::load("echo", "echo.so", {real_plugins});
  REQUIRE(library.has_value());
  sluice_host older{};
  older.size = sizeof(older) - sizeof(void*);
  older.abi = SLUICE_ABI;
  char error[32] = "";
  CHECK(library->table().create(&older, "{}", error, sizeof(error)) == nullptr);
  CHECK(std::string(error) == "this gateway is older than the ");
  CHECK(library->table().create(&older, "{}", nullptr, 0) == nullptr);
}

TEST_CASE("the plugins in docs/plugins.md are those that are built and tested") {
  const std::string page = contents("docs/plugins.md");
  CHECK(page.find(contents("plugins/echo/echo.cc")) != std::string::npos);
  CHECK(page.find(contents("plugins/chat/chat.cc")) != std::string::npos);
}

}  // namespace
}  // namespace sluice::bridges
