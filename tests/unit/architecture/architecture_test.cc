// Who may include whom: the tables of docs/architecture.md, held against the include lines.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "support/files.h"

namespace {

namespace fs = std::filesystem;

const fs::path source = SLUICE_SOURCE_DIR;

// From a part of gateway/, or from a library's header, to parts of gateway/.
using Table = std::map<std::string, std::set<std::string>>;

struct Rules {
  Table parts;
  Table libraries;
};

// A file of gateway/.
std::string read(const std::string& path) {
  return sluice::test::read_text(source / "gateway" / path);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::set<std::string> words(std::string list) {
  std::replace(list.begin(), list.end(), ',', ' ');
  std::istringstream stream(list);
  return {std::istream_iterator<std::string>(stream), {}};
}

// The rows between "<!-- name: begin -->" and "<!-- name: end -->", without the head.
Table table(const std::string& document, const std::string& name) {
  const auto begin = document.find("<!-- " + name + ": begin -->\n");
  const auto end = document.find("<!-- " + name + ": end -->");
  REQUIRE(begin != std::string::npos);
  REQUIRE(end != std::string::npos);
  Table rows;
  const auto lines = lines_of(document.substr(begin, end - begin));
  for (std::size_t i = 3; i < lines.size(); ++i) {
    const auto middle = lines[i].find('|', 1);
    REQUIRE(middle != std::string::npos);
    const auto key = words(lines[i].substr(1, middle - 1));
    REQUIRE(key.size() == 1);
    const auto last = lines[i].rfind('|');
    rows[*key.begin()] = words(lines[i].substr(middle + 1, last - middle - 1));
  }
  return rows;
}

Rules rules() {
  const std::string document = sluice::test::read_text(source / "docs/architecture.md");
  return {table(document, "includes"), table(document, "libraries")};
}

// "net" for "net/socket.h", "session" for "session.cc".
std::string part_of(const std::string& path) {
  const auto slash = path.find('/');
  return slash == std::string::npos ? fs::path(path).stem().string() : path.substr(0, slash);
}

std::string joined(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "nothing" : text;
}

// Headers of the language and the system; they have no slash, or one of these in front.
bool is_system(const std::string& header) {
  if (header.find('/') == std::string::npos) return true;
  for (const char* folder : {"sys/", "netinet/", "arpa/", "net/", "linux/"}) {
    if (header.starts_with(folder)) return true;
  }
  return false;
}

// What is wrong with including a library's header; empty if nothing is. The longest row counts.
std::string library_complaint(const Rules& rules, const std::string& part,
                              const std::string& header) {
  const std::pair<const std::string, std::set<std::string>>* row = nullptr;
  for (const auto& candidate : rules.libraries) {
    const std::string& name = candidate.first;
    const bool fits = name.ends_with('/') ? header.starts_with(name) : header == name;
    if (fits && (row == nullptr || name.size() > row->first.size())) row = &candidate;
  }
  if (row == nullptr) {
    return is_system(header) ? "" : "no row of the table of libraries allows it";
  }
  if (row->second.count(part) != 0) return "";
  return row->first + " may be included only in " + joined(row->second);
}

std::string part_complaint(const Rules& rules, const std::string& part, const std::string& header) {
  const auto row = rules.parts.find(part);
  if (row == rules.parts.end()) return "\"" + part + "\" has no row in the table of parts";
  const std::string other = part_of(header);
  if (other == part || row->second.count(other) != 0) return "";
  return part + " may include only " + joined(row->second);
}

// One line for each include that breaks a rule: file, line, rule. `path` is relative to gateway/.
std::vector<std::string> complaints(const Rules& rules, const std::string& path,
                                    const std::string& text) {
  std::vector<std::string> found;
  const auto lines = lines_of(text);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto hash = lines[i].find_first_not_of(" \t");
    if (hash == std::string::npos || lines[i][hash] != '#') continue;
    const auto word = lines[i].find_first_not_of(" \t", hash + 1);
    if (word == std::string::npos || lines[i].compare(word, 7, "include") != 0) continue;
    const auto open = lines[i].find_first_of("\"<", word);
    const auto close = lines[i].find_first_of("\">", open + 1);
    const std::string header = lines[i].substr(open + 1, close - open - 1);
    const std::string complaint = lines[i][open] == '"'
                                      ? part_complaint(rules, part_of(path), header)
                                      : library_complaint(rules, part_of(path), header);
    if (complaint.empty()) continue;
    found.push_back("gateway/" + path + ":" + std::to_string(i + 1) + ": " + header + ": " +
                    complaint + " (docs/architecture.md)");
  }
  return found;
}

std::vector<std::string> files() {
  std::vector<std::string> paths;
  for (const auto& entry : fs::recursive_directory_iterator(source / "gateway")) {
    const auto extension = entry.path().extension();
    if (extension == ".h" || extension == ".cc") {
      paths.push_back(fs::relative(entry.path(), source / "gateway").generic_string());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

TEST_CASE("every include of gateway/ is one that docs/architecture.md allows") {
  const Rules all = rules();
  const auto paths = files();
  CHECK(paths.size() > 50);
  for (const std::string& path : paths) {
    for (const std::string& complaint : complaints(all, path, read(path))) {
      FAIL_CHECK(complaint);
    }
  }
}

TEST_CASE("the table allows nothing that nobody needs, and knows every part") {
  const Rules all = rules();
  std::set<std::string> parts;
  for (const std::string& path : files()) parts.insert(part_of(path));
  for (const auto& row : all.parts) {
    const std::string& part = row.first;
    CAPTURE(part);
    CHECK(parts.count(part) == 1);
    for (const std::string& other : row.second) {
      CAPTURE(other);
      Rules without = all;
      without.parts[part].erase(other);
      bool needed = false;
      for (const std::string& path : files()) {
        if (needed || part_of(path) != part) continue;
        needed = !complaints(without, path, read(path)).empty();
      }
      CHECK_MESSAGE(needed, part, " includes nothing of ", other);
    }
  }
  for (const std::string& part : parts) {
    CHECK_MESSAGE(all.parts.count(part) == 1, part, " has no row");
  }
}

TEST_CASE("nothing goes back: connection and worker are the only circle") {
  Table parts = rules().parts;
  REQUIRE(parts["connection"].erase("worker") == 1);
  std::set<std::string> done;
  std::set<std::string> open;
  const std::function<void(const std::string&)> visit = [&](const std::string& part) {
    if (done.count(part) != 0) return;
    CHECK_MESSAGE(open.insert(part).second, "a circle through ", part);
    for (const std::string& other : parts[part]) {
      if (open.count(other) != 0) {
        FAIL_CHECK("a circle from " << part << " back to " << other);
      } else {
        visit(other);
      }
    }
    open.erase(part);
    done.insert(part);
  };
  for (const auto& [part, allowed] : rules().parts) visit(part);
}

TEST_CASE("protocols stay free of I/O: ws and http see neither uv nor net, nor OpenSSL") {
  const Rules all = rules();
  for (const char* part : {"ws", "http"}) {
    CAPTURE(part);
    CHECK(all.parts.at(part) == std::set<std::string>{"base"});
    CHECK(all.libraries.at("uv.h").count(part) == 0);
    CHECK(all.libraries.at("openssl/").count(part) == 0);
  }
}

TEST_CASE("the rules that the design is built on stand in the tables") {
  const Table libraries = rules().libraries;
  using Names = std::set<std::string>;
  CHECK(libraries.at("uv.h") == Names{"uv"});
  CHECK(libraries.at("openssl/ssl.h") == Names{"net"});
  CHECK(libraries.at("llhttp.h") == Names{"http"});
  CHECK(libraries.at("yaml-cpp/") == Names{"config"});
  CHECK(libraries.at("prometheus/") == Names{"metrics"});
  CHECK(libraries.at("dlfcn.h") == Names{"bridges"});
  CHECK(rules().parts.at("bridges").count("connection") == 0);
  CHECK(rules().parts.at("base").empty());
}

TEST_CASE("docs/logs.md has a row for every record that is written") {
  static const std::regex call(R"re(log::(?:debug|info|warning|error)\(\s*"([^"]+)")re");
  const std::string document = sluice::test::read_text(source / "docs/logs.md");
  std::set<std::string> events;
  for (const std::string& path : files()) {
    const std::string text = read(path);
    for (std::sregex_iterator at(text.begin(), text.end(), call), end; at != end; ++at) {
      events.insert((*at)[1]);
    }
  }
  CHECK(events.size() > 25);
  for (const std::string& event : events) {
    CHECK_MESSAGE(document.find("| `" + event + "` |") != std::string::npos, "no row: ", event);
  }
}

TEST_CASE("dlopen is called in the plugin bridge and nowhere else") {
  for (const std::string& path : files()) {
    const std::string text = read(path);
    if (text.find("dlfcn.h") == std::string::npos) continue;
    CHECK_MESSAGE(path.starts_with("bridges/plugin"), path);
  }
}

TEST_CASE("a broken rule is told with file, line and rule") {
  const Rules some{{{"http", {"base"}}, {"net", {"base", "uv"}}},
                   {{"uv.h", {"uv"}}, {"openssl/", {"net"}}}};
  const std::string text =
      "#pragma once\n"
      "#include <string>\n"
      "#include \"http/request.h\"\n"
      "#include \"base/result.h\"\n"
      "#  include \"net/socket.h\"\n"
      "#include <uv.h>\n"
      "#include <openssl/ssl.h>\n"
      "#include <boost/asio.hpp>\n"
      "// #include \"net/socket.h\"\n";
  CHECK(complaints(some, "http/target.cc", text) ==
        std::vector<std::string>{
            "gateway/http/target.cc:5: net/socket.h: http may include only base "
            "(docs/architecture.md)",
            "gateway/http/target.cc:6: uv.h: uv.h may be included only in uv "
            "(docs/architecture.md)",
            "gateway/http/target.cc:7: openssl/ssl.h: openssl/ may be included only in net "
            "(docs/architecture.md)",
            "gateway/http/target.cc:8: boost/asio.hpp: no row of the table of libraries allows it "
            "(docs/architecture.md)"});
  CHECK(complaints(some, "session.cc", "#include \"net/socket.h\"\n") ==
        std::vector<std::string>{"gateway/session.cc:1: net/socket.h: \"session\" has no row in "
                                 "the table of parts (docs/architecture.md)"});
}
