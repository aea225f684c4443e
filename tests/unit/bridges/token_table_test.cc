#include "bridges/token_table.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "support/files.h"

using namespace sluice;
using namespace sluice::bridges;

namespace {

// A folder with a token file, and a clock that the test turns.
struct Scene {
  Scene() {
    char name[] = "/tmp/sluice-tokens-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    folder = name;
    file = folder + "/tokens";
    target.token_file = file;
  }
  ~Scene() { std::filesystem::remove_all(folder); }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  // As an editor does it: a new file takes the place of the old one.
  void write(const std::string& text) const {
    test::write_text(file + ".new", text);
    std::filesystem::rename(file + ".new", file);
  }
  void create() {
    auto made = TokenTable::create(target, registry);
    REQUIRE_MESSAGE(made.has_value(), made.error().message);
    table = *made;
  }
  std::string create_error() {
    const auto made = TokenTable::create(target, registry);
    return made ? "none" : made.error().message;
  }
  // The name of the token's upstream; "none" if it is unknown.
  std::string find(std::string_view token) {
    const auto found = table->find(token, now_ms);
    REQUIRE_MESSAGE(found.has_value(), found.error().message);
    return *found == nullptr ? "none" : (*found)->name();
  }

  std::string folder;
  std::string file;
  config::TcpTarget target;
  upstreams::Registry registry;
  std::shared_ptr<TokenTable> table;
  std::uint64_t now_ms = 1'000'000;
};

}  // namespace

TEST_CASE("token table: the map of routes.yaml goes before the file") {
  Scene scene;
  config::Upstream upstream;
  upstream.endpoints.push_back({"127.0.0.1:7"});
  REQUIRE(scene.registry.load({{"desk", upstream}}).empty());
  scene.target.tokens = {{"a", "desk"}, {"b", "desk"}};
  scene.write("a: 127.0.0.1:8\nc: 127.0.0.1:9\n");
  scene.create();
  CHECK(scene.find("a") == "desk");
  CHECK(scene.find("b") == "desk");
  CHECK(scene.find("c") == "127.0.0.1:9");
  CHECK(scene.find("d") == "none");
  CHECK(scene.find("") == "none");
  CHECK(scene.table->mapped().size() == 2);
}

TEST_CASE("token table: a map without a file") {
  Scene scene;
  config::Upstream upstream;
  upstream.endpoints.push_back({"127.0.0.1:7"});
  REQUIRE(scene.registry.load({{"desk", upstream}}).empty());
  scene.target.token_file.clear();
  scene.target.tokens = {{"a", "desk"}};
  scene.create();
  CHECK(scene.find("a") == "desk");
  CHECK(scene.find("b") == "none");

  scene.target.tokens = {{"a", "bench"}};
  CHECK(scene.create_error() == "tokens: there is no upstream bench");
}

TEST_CASE("token table: the file is read again when it has changed, and looked at once a second") {
  Scene scene;
  scene.write("a: 127.0.0.1:1\n");
  scene.create();
  CHECK(scene.find("a") == "127.0.0.1:1");
  scene.write("a: 127.0.0.1:2\nb: 127.0.0.1:3\n");
  CHECK(scene.find("a") == "127.0.0.1:1");
  scene.now_ms += TokenTable::look_interval_ms - 1;
  CHECK(scene.find("a") == "127.0.0.1:1");
  scene.now_ms += 1;
  CHECK(scene.find("a") == "127.0.0.1:2");
  CHECK(scene.find("b") == "127.0.0.1:3");
  scene.write("");
  scene.now_ms += TokenTable::look_interval_ms;
  CHECK(scene.find("a") == "none");
}

TEST_CASE("token table: an address that has gone from the file is forgotten with its last user") {
  Scene scene;
  scene.write("a: 127.0.0.1:1\nb: 127.0.0.1:1\nc: 127.0.0.1:2\nd: 127.0.0.1:3\n");
  scene.create();
  const auto weak = [&](const char* token) {
    return std::weak_ptr(*scene.table->find(token, scene.now_ms));
  };
  const auto stays = weak("a");
  const auto goes = weak("c");
  auto used = *scene.table->find("d", scene.now_ms);
  const std::weak_ptr goes_later = used;
  scene.write("b: 127.0.0.1:1\nbroken\n");
  scene.now_ms += TokenTable::look_interval_ms;
  CHECK(scene.find("a") == "127.0.0.1:1");
  CHECK_FALSE(goes.expired());

  scene.write("b: 127.0.0.1:1\n");
  scene.now_ms += TokenTable::look_interval_ms;
  CHECK(scene.find("a") == "none");
  CHECK(weak("b").lock() == stays.lock());
  CHECK_FALSE(stays.expired());
  CHECK(goes.expired());
  CHECK_FALSE(goes_later.expired());
  used.reset();
  CHECK(goes_later.expired());

  scene.write("c: 127.0.0.1:2\n");
  scene.now_ms += TokenTable::look_interval_ms;
  CHECK(scene.find("c") == "127.0.0.1:2");
}

TEST_CASE("token table: a file that is broken or gone leaves the tokens as they were") {
  Scene scene;
  scene.write("a: 127.0.0.1:1\n");
  scene.create();
  const auto look = [&] {
    scene.now_ms += TokenTable::look_interval_ms;
    return scene.find("a");
  };
  CHECK(look() == "127.0.0.1:1");

  scene.write("a: 127.0.0.1:2\nbroken\n");
  CHECK(look() == "127.0.0.1:1");
  std::filesystem::remove(scene.file);
  CHECK(look() == "127.0.0.1:1");
  CHECK(look() == "127.0.0.1:1");
  std::filesystem::create_directory(scene.file);
  CHECK(look() == "127.0.0.1:1");
  std::filesystem::remove(scene.file);
  REQUIRE(::mkfifo(scene.file.c_str(), 0600) == 0);
  CHECK(look() == "127.0.0.1:1");
  std::filesystem::remove(scene.file);
  scene.write(std::string(TokenTable::file_bytes_max + 1, '#'));
  CHECK(look() == "127.0.0.1:1");
  scene.write("a: 127.0.0.1:3\n");
  CHECK(look() == "127.0.0.1:3");
}

TEST_CASE("token table: a file that cannot be read ends the start") {
  Scene scene;
  CHECK(scene.create_error() == "token_file " + scene.file + ": open: No such file or directory");
  scene.write("a: 127.0.0.1:1\na b\n");
  CHECK(scene.create_error() ==
        "token_file " + scene.file + ": line 2: expected \"token: host:port\"");
}

TEST_CASE("token table: several threads may ask while the file changes") {
  Scene scene;
  scene.write("a: 127.0.0.1:1\n");
  scene.create();
  std::atomic<std::uint64_t> now_ms{scene.now_ms};
  std::atomic<int> wrong{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (!done) {
        const auto found = scene.table->find("a", now_ms);
        if (!found || *found == nullptr || !(*found)->name().starts_with("127.0.0.1:")) ++wrong;
      }
    });
  }
  for (int i = 2; i < 200; ++i) {
    scene.write("a: 127.0.0.1:" + std::to_string(i) + "\n");
    now_ms += TokenTable::look_interval_ms;
  }
  done = true;
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
  scene.now_ms = now_ms + TokenTable::look_interval_ms;
  CHECK(scene.find("a") == "127.0.0.1:199");
}
