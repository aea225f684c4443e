// Files that are made to hurt. Each must be answered quickly, with a
// position, and without growing.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>

#include "config/load.h"
#include "files.h"

namespace sluice::config::testing {
namespace {

std::string repeat(std::string_view piece, std::size_t bytes) {
  std::string out;
  while (out.size() + piece.size() <= bytes) out += piece;
  return out;
}

constexpr std::size_t mib = 1024 * 1024;

// The first diagnostic. Fails the test if it took long.
std::string answer(const std::string& text) {
  const std::clock_t begin = std::clock();  // CPU time: the machine may be busy with other things
  const auto config = parse(text, "f", [](const std::string& name) {
    return name == "LONG" ? std::optional(std::string(100'000, 'x')) : std::nullopt;
  });
  const double took = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  // What is not linear takes minutes here; what is takes 2 seconds without optimization on a slow
  // day, and some more with sanitizers.
  CHECK(took < 20);
  if (config) return "valid";
  CHECK(config.error().size() <= Findings::findings_max);
  CHECK_FALSE(render(config.error(), text).empty());
  return to_string(config.error().front());
}

}  // namespace

TEST_CASE("an alias bomb is refused at its anchors and never expanded") {
  std::string bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c <= 'z'; ++c) {
    const std::string before = std::string("*") + static_cast<char>(c - 1);
    bomb += std::string(1, c) + ": &" + c + " [" + before;
    for (int i = 0; i < 8; ++i) bomb += "," + before;
    bomb += "]\n";
  }
  CHECK(answer(bomb) == "f:1:1: \"listeners\" is missing");
  const auto config =
      parse(bomb, "f", [](const std::string&) { return std::optional<std::string>(); });
  CHECK(render(config.error(), "").find("f:1:4: anchors (&) are not supported\n") !=
        std::string::npos);
  CHECK(answer("a: &a [*a]\n<<: *a\n").starts_with("f:1:1: "));
}

TEST_CASE("nesting is refused at level 65, however it is written and however deep it goes") {
  const std::string expected = "nested more than 64 levels deep";
  for (const char* piece : {"[", "{", "- ", "? ", "[ ", "[\n", "{a: ", "[{", "[? "}) {
    for (const std::size_t bytes : {std::size_t{1'000}, 10 * std::size_t{1'000}, mib}) {
      CAPTURE(piece);
      CAPTURE(bytes);
      CHECK(answer(repeat(piece, bytes)).find(expected) != std::string::npos);
    }
  }
  std::string blocks;
  for (std::size_t i = 0; i < 100; ++i) blocks += std::string(i, ' ') + "a:\n";
  CHECK(answer(blocks) == "f:65:65: " + expected);
}

TEST_CASE("64 levels are not too many") {
  std::string config = R"(
listeners: [{address: "0.0.0.0:1"}]
plugins: {p: {library: p.so, config: {a: )";
  config += repeat("[", 60) + repeat("]", 60);  // 4 mappings around them
  config += "}}}\nroutes: [{path: /, plugin: p}]\n";
  CHECK(answer(config) == "valid");
}

TEST_CASE("a file of more than 8 MiB is not read") {
  CHECK(answer(repeat("a", 100 * mib)) == "f: larger than 8388608 bytes");
  CHECK(answer(repeat("a", 8 * mib + 1)) == "f: larger than 8388608 bytes");
  CHECK(answer("\x01" + repeat("a", 8 * mib - 1)).starts_with("f:1:1: "));
}

TEST_CASE("a mebibyte of anything is answered in time") {
  for (const char* piece : {"a",
                            "a\n",
                            "a: 1\n",
                            "a: ",
                            ":",
                            ",",
                            "[],",
                            "[[],",
                            "#\n",
                            "\n",
                            " ",
                            "\t",
                            "---\n",
                            "%A\n",
                            "'",
                            "\"",
                            "\"a\": 1\n",
                            "- &a b\n",
                            "-\n",
                            "- #\n\n",
                            "*a\n",
                            "!a ",
                            "|\n",
                            "> \n",
                            "${A}",
                            "${",
                            "$",
                            "? a\n",
                            "}",
                            "]",
                            "- path: /a\n  plugin: echo\n",
                            "\xe8\x81\x8a",
                            "@",
                            "`",
                            "\\",
                            "\r",
                            "\r\n",
                            "a\r"}) {
    CAPTURE(piece);
    CHECK(answer(repeat(piece, mib)).starts_with("f:"));
    const auto less = repeat(piece, mib / 8);  // what is quadratic would still take long
    CHECK(answer("routes: [" + less).starts_with("f:"));
    CHECK(answer("routes: \"" + less + "\"").starts_with("f:"));
    CHECK(answer("routes:\n  " + less).starts_with("f:"));
  }
}

TEST_CASE("many different keys, plugins and routes cost no quadratic time") {
  std::string keys;
  std::string plugins = "listeners: [{address: \"0.0.0.0:1\"}]\nplugins:\n";
  std::string routes =
      "plugins: {p: {library: p.so}}\nlisteners: [{address: \"0.0.0.0:1\"}]\nroutes:\n";
  std::string config = plugins + "  p:\n    library: p.so\n    config:\n";
  for (int i = 0; keys.size() < 900'000; ++i) keys += "k" + std::to_string(i) + ": 1\n";
  for (int i = 0; plugins.size() < 900'000; ++i) {
    plugins += "  p" + std::to_string(i) + ": {library: p.so}\n";
  }
  for (int i = 0; routes.size() < 900'000; ++i) {
    routes += "- {path: /" + std::to_string(i) + ", plugin: p}\n";
  }
  for (int i = 0; config.size() < 900'000; ++i) config += "      k" + std::to_string(i) + ": 1\n";
  CHECK(answer(keys).starts_with("f: there are more mistakes than are listed here"));
  CHECK(answer(plugins + "routes: [{path: /, plugin: p1}]\n") == "valid");
  CHECK(answer(routes) == "valid");
  CHECK(answer(config + "routes: [{path: /, plugin: p}]\n") == "valid");
}

TEST_CASE("many upstreams, endpoints, tokens and header fields cost no quadratic time") {
  const std::string head = "listeners: [{address: \"0.0.0.0:1\"}]\n";
  const std::string route = "routes:\n- path: /\n  ";
  std::string upstreams = head + "upstreams:\n";
  std::string endpoints = head + "upstreams:\n  a:\n    endpoints:\n";
  std::string tokens = head + route + "tcp:\n    tokens:\n";
  std::string unknown = tokens;
  std::string headers = head + route + "http:\n    upstream: a:1\n    headers:\n      set:\n";
  std::string proxies = head + "trusted_proxies:\n";
  for (int i = 0; upstreams.size() < 900'000; ++i) {
    upstreams += "  u" + std::to_string(i) + ": {endpoints: [\"a:1\"]}\n";
  }
  for (int i = 0; endpoints.size() < 900'000; ++i) {
    endpoints += "    - h" + std::to_string(i) + ":1\n";
  }
  for (int i = 0; tokens.size() < 900'000; ++i) {
    tokens += "      t" + std::to_string(i) + ": h" + std::to_string(i) + ":1\n";
  }
  for (int i = 0; unknown.size() < 900'000; ++i) {
    unknown += "      t" + std::to_string(i) + ": h" + std::to_string(i) + "\n";
  }
  for (int i = 0; headers.size() < 900'000; ++i) {
    headers += "        H" + std::to_string(i) + ": x\n";
  }
  for (int i = 0; proxies.size() < 900'000; ++i) {
    proxies += "- " + std::to_string(1 + i % 200) + "." + std::to_string(i / 200 % 256) + "." +
               std::to_string(i / 51'200) + ".7\n";
  }
  CHECK(answer(upstreams + route + "http: {upstream: u1}\n") == "valid");
  CHECK(answer(upstreams + route + "http: {upstream: v1}\n") ==
        "f:" + std::to_string(std::count(upstreams.begin(), upstreams.end(), '\n') + 3) +
            ":20: no upstream \"v1\" is declared in \"upstreams\"; an address is a host and a "
            "port: v1:80");
  CHECK(answer(endpoints + route + "http: {upstream: a}\n") == "valid");
  CHECK(answer(tokens) == "valid");
  CHECK(answer(unknown).starts_with("f: there are more mistakes than are listed here"));
  CHECK(answer(headers) == "valid");
  CHECK(answer(proxies + route + "http: {upstream: \"a:1\"}\n") == "valid");
}

TEST_CASE("variables cannot make the file grow without bound") {
  const std::string head = "log: {level: \"";
  CHECK(answer(head + repeat("${LONG}", 700) + "\"}") == "f:1:1: \"listeners\" is missing");
  const auto config = parse(head + repeat("${LONG}", 700) + "\"}", "f", [](const std::string&) {
    return std::optional(std::string(100'000, 'x'));
  });
  CHECK(config.error().back().message == "too long once its variables are filled in");
}

TEST_CASE("bytes that are no text are refused with their position") {
  CHECK(answer(std::string("a: 1\nb: \0", 9)) ==
        "f:2:4: a NUL byte is not allowed (is this a UTF-8 text?)");
  CHECK(answer("a: \x1b[31m\n").starts_with("f:1:4: the control character \"\\x1b\""));
  CHECK(answer("# 聊天\nb: \xff\n") == "f:2:4: not valid UTF-8");
  CHECK(answer("# 聊天 \xe8\x81\n") == "f:1:6: not valid UTF-8");
  CHECK(answer("a: \xed\xa0\x80\n") == "f:1:4: not valid UTF-8");      // a surrogate
  CHECK(answer("a: \xc0\xaf\n") == "f:1:4: not valid UTF-8");          // overlong
  CHECK(answer("a: \xf4\x90\x80\x80\n") == "f:1:4: not valid UTF-8");  // above U+10FFFF
  CHECK(answer(std::string("\xff\xfe"
                           "a\0",
                           4)) == "f:1:1: not valid UTF-8");  // UTF-16
  CHECK(answer("") == "f:1:1: the file is empty: it needs at least listeners and routes");
  CHECK(answer("# nothing\n") ==
        "f:1:1: the file is empty: it needs at least listeners and routes");
  CHECK(answer("---\n") == "f:1:1: the file is empty: it needs at least listeners and routes");
}

TEST_CASE("a quote that is left open is told where it opens, however the file ends") {
  const std::string head = "listeners: [{address: \"0.0.0.0:1\"}]\n";
  for (const std::string_view text :
       {"log: \"info", "log: 'info", "log: 'it''s", "log: \"a\\\"", "log: \"", "log: [\"info",
        "log: {'info", "log: {level: \"info, x: 1}", "log: \"${HOME}", "log: \"a\n  b: 'c'\n"}) {
    for (const std::string_view end : {"", "\n", "\r\n", "\n\n# end\n", "\nroutes: []"}) {
      CAPTURE(text);
      CAPTURE(end);
      const auto column = std::to_string(text.find_first_of("\"'") + 1);
      CHECK(answer(head + std::string(text) + std::string(end)) ==
            "f:2:" + column + ": this quote is not closed");
    }
  }
  CHECK(answer("a: 1\n\"b: 2\n") == "f:2:1: this quote is not closed");
  CHECK(answer("\"b: 2\n") == "f:1:1: this quote is not closed");
  CHECK(answer("- \"b") == "f:1:3: this quote is not closed");
}

TEST_CASE("a byte order mark and CRLF are no mistakes") {
  const std::string text =
      "\xef\xbb\xbflisteners: [{address: \"0.0.0.0:1\"}]\r\nplugins: {p: {library: p.so}}\r\n"
      "routes:\r\n  - path: /\r\n    plugin: p\r\n";
  CHECK(answer(text) == "valid");
  CHECK(answer(text + "    nmae: x\r\n") == "f:6:5: unknown key \"nmae\" (did you mean \"name\"?)");
}

TEST_CASE("a file that cannot be read is one diagnostic without a position") {
  const auto missing = load_file("/nowhere/routes.yaml");
  REQUIRE_FALSE(missing);
  CHECK(render(missing.error(), "") ==
        "/nowhere/routes.yaml: cannot read the file: No such file or directory\n");
  const auto folder = load_file("/");
  REQUIRE_FALSE(folder);
  CHECK(to_string(folder.error()[0]) == "/: cannot read the file: Is a directory");
  const auto endless = load_file("/dev/zero");
  REQUIRE_FALSE(endless);
  CHECK(to_string(endless.error()[0]) == "/dev/zero: larger than 8388608 bytes");
}

TEST_CASE("load_file takes variables from the process and paths from the file's folder") {
  const auto folder = std::filesystem::temp_directory_path() / "sluice_config_load_test";
  std::filesystem::create_directories(folder);
  const auto file = (folder / "routes.yaml").string();
  write_text(file,
             "listeners: [{address: \"${SLUICE_TEST_ADDRESS}\"}]\n"
             "routes: [{path: /, static: {root: www}}]\n");
  ::setenv("SLUICE_TEST_ADDRESS", "127.0.0.1:7", 1);
  const auto config = load_file(file);
  REQUIRE(config);
  CHECK(config->listeners[0].address == "127.0.0.1:7");
  CHECK(std::get<StaticTarget>(config->routes[0].target).root == (folder / "www").string());
  std::filesystem::remove_all(folder);
}

TEST_CASE("a long line is shown around the caret only, and wide characters move it by two") {
  const auto shown = [](const std::string& line, std::uint32_t column) {
    return render({{"f", 1, column, "m"}}, line);
  };
  CHECK(shown("ab", 2) == "f:1:2: m\n    ab\n     ^\n");
  CHECK(shown("\tb\r\n", 2) == "f:1:2: m\n     b\n     ^\n");
  CHECK(shown("聊é: x", 4) == "f:1:4: m\n    聊é: x\n        ^\n");
  CHECK(shown(std::string(1000, 'x'), 500) ==
        "f:1:500: m\n    ..." + std::string(100, 'x') + "...\n" + std::string(67, ' ') + "^\n");
}

}  // namespace sluice::config::testing
