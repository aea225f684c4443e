// A small strict reader of Prometheus' text exposition format, version 0.0.4.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>
#include <string>

namespace sluice::metrics::test {

using Labels = std::map<std::string, std::string>;

struct Family {
  std::string type;
  std::string help;
  std::set<std::string> label_names;                        // without "le"
  std::map<std::string, std::map<Labels, double>> samples;  // by the sample's name
};

class Exposition {
 public:
  explicit Exposition(const std::string& text) {
    REQUIRE_MESSAGE(!text.empty(), "nothing was written");
    REQUIRE_MESSAGE(text.back() == '\n', "the last line does not end");
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) read_line(line);
    for (const auto& [name, family] : families) check(name, family);
  }

  // The value of one series; fails the test if there is none.
  double value(const std::string& sample, const Labels& labels = {}) const {
    for (const auto& [name, family] : families) {
      const auto series = family.samples.find(sample);
      if (series == family.samples.end()) continue;
      const auto found = series->second.find(labels);
      if (found != series->second.end()) return found->second;
    }
    FAIL("no series ", sample);
    return 0;
  }

  // The sum over all series of one sample name.
  double total(const std::string& sample) const {
    double sum = 0;
    for (const auto& [labels, number] : families.at(sample).samples.at(sample)) sum += number;
    return sum;
  }

  std::size_t series_count() const {
    std::size_t count = 0;
    for (const auto& [name, family] : families) {
      for (const auto& [sample, series] : family.samples) count += series.size();
    }
    return count;
  }

  std::map<std::string, Family> families;

 private:
  void read_line(const std::string& line) {
    CAPTURE(line);
    std::istringstream words(line);
    std::string hash, keyword, name, rest;
    if (line.front() != '#') return read_sample(line);
    words >> hash >> keyword >> name;
    std::getline(words >> std::ws, rest);
    if (keyword == "HELP") {
      REQUIRE_MESSAGE(families.count(name) == 0, "the family comes twice");
      families[name].help = rest;
      current_ = name;
    } else {
      REQUIRE(keyword == "TYPE");
      REQUIRE(name == current_);
      families[name].type = rest;
    }
  }

  void read_sample(const std::string& line) {
    std::size_t at = line.find_first_of("{ ");
    REQUIRE(at != std::string::npos);
    const std::string name = line.substr(0, at);
    Labels labels;
    if (line[at] == '{') at = read_labels(line, at + 1, labels);
    REQUIRE(line[at] == ' ');
    char* end = nullptr;
    const double number = std::strtod(line.c_str() + at + 1, &end);
    REQUIRE_MESSAGE((end != line.c_str() + at + 1 && *end == '\0'), "no number");
    REQUIRE_MESSAGE(!current_.empty(), "a sample before its family");
    Family& family = families[current_];
    if (family.samples.empty()) family.label_names = names(labels);
    REQUIRE_MESSAGE(family.label_names == names(labels), "the labels differ within the family");
    REQUIRE_MESSAGE(family.samples[name].emplace(labels, number).second, "the series comes twice");
  }

  // Reads name="value",...} from `at`, and returns the place behind it.
  static std::size_t read_labels(const std::string& line, std::size_t at, Labels& labels) {
    while (line.at(at) != '}') {
      const std::size_t equals = line.find("=\"", at);
      REQUIRE(equals != std::string::npos);
      const std::string name = line.substr(at, equals - at);
      std::string value;
      for (at = equals + 2; line.at(at) != '"'; ++at) {
        if (line[at] == '\\') ++at;
        value += line[at - 1] == '\\' && line[at] == 'n' ? '\n' : line[at];
      }
      REQUIRE(labels.emplace(name, value).second);
      if (line.at(++at) == ',') ++at;
    }
    return at + 1;
  }

  static std::set<std::string> names(const Labels& labels) {
    std::set<std::string> result;
    for (const auto& [name, value] : labels) {
      if (name != "le") result.insert(name);
    }
    return result;
  }

  static void check(const std::string& name, const Family& family) {
    CAPTURE(name);
    CHECK(family.help.size() > 10);
    CHECK(family.help.back() == '.');
    const bool total = name.size() > 6 && name.substr(name.size() - 6) == "_total";
    CHECK(total == (family.type == "counter"));
    if (family.type == "histogram") return check_histogram(name, family);
    CHECK((family.type == "counter" || family.type == "gauge"));
    for (const auto& [sample, series] : family.samples) CHECK(sample == name);
  }

  static void check_histogram(const std::string& name, const Family& family) {
    if (family.samples.empty()) return;
    REQUIRE(family.samples.size() == 3);
    REQUIRE(family.samples.count(name + "_sum") == 1);
    const auto& buckets = family.samples.at(name + "_bucket");
    for (const auto& [labels, count] : family.samples.at(name + "_count")) {
      std::map<double, double> by_bound;
      for (const auto& [all_labels, number] : buckets) {
        Labels bucket_labels = all_labels;
        const double bound = std::strtod(bucket_labels.at("le").c_str(), nullptr);
        bucket_labels.erase("le");
        if (bucket_labels == labels) by_bound[bound] = number;
      }
      double before = 0;
      for (const auto& [bound, number] : by_bound) {
        CHECK(number >= before);
        before = number;
      }
      REQUIRE(!by_bound.empty());
      CHECK(by_bound.rbegin()->first == HUGE_VAL);
      CHECK(by_bound.rbegin()->second == count);
    }
  }

  std::string current_;
};

}  // namespace sluice::metrics::test
