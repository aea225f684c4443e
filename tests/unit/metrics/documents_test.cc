// The documents about the metrics, held equal to the metrics.
#include <doctest/doctest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "support/files.h"
#include "unit/metrics/exposition.h"
#include "unit/metrics/scene.h"

namespace sluice::metrics {
namespace {

using test::Exposition;
using test::Scene;

std::string document(const std::string& path) {
  return sluice::test::read_text(sluice::test::source_path(path));
}

Exposition exposition() {
  Scene scene(1, {"/echo"});
  scene.add_upstream("backend", {"127.0.0.1:8080"});
  return Exposition(collect(scene.sources));
}

std::set<std::string> words_in_backquotes(const std::string& text) {
  static const std::regex word("`([^`]*)`");
  std::set<std::string> words;
  for (std::sregex_iterator at(text.begin(), text.end(), word), end; at != end; ++at) {
    words.insert((*at)[1]);
  }
  return words;
}

struct Row {
  std::string type;
  std::set<std::string> labels;
  std::string meaning;
};

// The rows "| `family` | type | labels | meaning |" of docs/metrics.md.
std::map<std::string, Row> documented_families() {
  static const std::regex row(R"(\| `((?:sluice|process)_\w+)` \| (\w+) \| ([^|]*)\| (.*) \|)");
  std::map<std::string, Row> families;
  std::istringstream lines(document("docs/metrics.md"));
  std::smatch match;
  for (std::string line; std::getline(lines, line);) {
    if (!std::regex_match(line, match, row)) continue;
    const bool first = families.count(match[1]) == 0;
    CHECK_MESSAGE(first, "described twice: ", match[1].str());
    families[match[1]] = {match[2], words_in_backquotes(match[3]), match[4]};
  }
  return families;
}

// A sample's name, or a family's, that the text uses must be one that is exposed.
std::set<std::string> check_names(const std::string& text, const Exposition& exposed) {
  static const std::regex name(R"(\b(?:sluice|process)_[a-z_]+\b)");
  std::set<std::string> used;
  for (std::sregex_iterator at(text.begin(), text.end(), name), end; at != end; ++at) {
    const std::string word = at->str();
    if (word == label(Limit::process_connections)) continue;  // a label's value
    bool known = exposed.families.count(word) == 1;
    for (const auto& [family, samples] : exposed.families) {
      known = known || samples.samples.count(word) == 1;
    }
    CHECK_MESSAGE(known, "no such metric: ", word);
    used.insert(word);
  }
  return used;
}

using Values = std::map<std::string, std::set<std::string>>;  // by label

Values exposed_values(const Exposition& exposed) {
  Values values;
  for (const auto& [name, family] : exposed.families) {
    for (const auto& [sample, series] : family.samples) {
      for (const auto& [labels, number] : series) {
        for (const auto& [label_name, value] : labels) values[label_name].insert(value);
      }
    }
  }
  return values;
}

// What a query selects by, as in {limit=~"memory|descriptors"}, must be a value that is exposed.
void check_values(const std::string& text, const Exposition& exposed) {
  static const std::regex matcher(R"re((\w+)(?:=~|!=|=)"([^"]*)")re");
  Values known = exposed_values(exposed);
  for (std::sregex_iterator at(text.begin(), text.end(), matcher), end; at != end; ++at) {
    std::istringstream alternatives((*at)[2]);
    for (std::string value; std::getline(alternatives, value, '|');) {
      if (value.starts_with('$')) continue;  // a dashboard's variable
      CHECK_MESSAGE(known[(*at)[1]].count(value) == 1, "no such value: ", value);
    }
  }
}

// Every PromQL expression of a dashboard, and every query of its variables.
void gather_queries(const nlohmann::json& node, std::string& queries) {
  if (!node.is_structured()) return;
  for (const auto& [key, value] : node.items()) {
    if ((key == "expr" || key == "query") && value.is_string()) {
      queries += value.get<std::string>() + "\n";
    }
    gather_queries(value, queries);
  }
}

}  // namespace

TEST_CASE("docs/metrics.md describes every family with its type and labels, and no other") {
  const std::map<std::string, Row> documented = documented_families();
  const Exposition exposed = exposition();
  for (const auto& entry : exposed.families) {
    CAPTURE(entry.first);
    REQUIRE_MESSAGE(documented.count(entry.first) == 1, "not described");
    const Row& row = documented.at(entry.first);
    CHECK(row.type == entry.second.type);
    CHECK(row.labels == entry.second.label_names);
  }
  for (const auto& entry : documented) {
    CAPTURE(entry.first);
    CHECK_MESSAGE(exposed.families.count(entry.first) == 1, "described, but not there");
  }
}

TEST_CASE("docs/metrics.md names every value of the labels that are enumerations") {
  static const std::set<std::string> open_ended = {"route",    "le",  "loop",     "version",
                                                   "revision", "abi", "upstream", "endpoint"};
  std::set<std::string> values;
  for (const auto& [name, own] : exposed_values(exposition())) {
    if (open_ended.count(name) == 0) values.insert(own.begin(), own.end());
  }
  // These two families show only what has happened.
  for (std::size_t i = 0; i < close_reason_count; ++i) {
    values.insert(label(static_cast<CloseReason>(i)));
  }
  for (std::size_t i = 0; i < initiator_count; ++i) {
    values.insert(label(static_cast<Initiator>(i)));
  }

  const std::set<std::string> described = words_in_backquotes(document("docs/metrics.md"));
  for (const std::string& value : values) {
    CHECK_MESSAGE(described.count(value) == 1, "not described: ", value);
  }
}

TEST_CASE("docs/metrics.md queries no metric that is not there") {
  CHECK(check_names(document("docs/metrics.md"), exposition()).size() > 35);
}

TEST_CASE("the alert rules use no metric and no label's value that is not there") {
  const std::string rules = document("deploy/prometheus/alerts.yml");
  CHECK(check_names(rules, exposition()).size() >= 10);
  check_values(rules, exposition());
}

TEST_CASE("the dashboard uses no metric and no label's value that is not there") {
  std::string queries;
  gather_queries(nlohmann::json::parse(document("deploy/grafana/sluice.json")), queries);
  CHECK(check_names(queries, exposition()).size() >= 15);
  check_values(queries, exposition());
}

}  // namespace sluice::metrics
