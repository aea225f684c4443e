#include "schema.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "config/load.h"
#include "files.h"

namespace sluice::config::testing {
namespace {

constexpr const char* schema_file = "config/routes.schema.json";
constexpr const char* docs_file = "docs/configuration.md";

Json minimal() {
  return Json::parse(R"({
    "listeners": [{"address": "0.0.0.0:9998"}],
    "plugins": {"echo": {"library": "echo.so"}},
    "routes": [{"path": "/echo", "plugin": "echo"}]
  })");
}

// What values say of each other is not asked here, because they are changed one by one.
bool is_about_others(const std::string& message) {
  for (const char* words : {"must be below", "must not exceed", "every weight is 0",
                            "max_message_size must be a size"}) {
    if (message.find(words) != std::string::npos) return true;
  }
  return false;
}

// JSON is YAML. Nothing if the parser takes the document.
std::string refusal(const Json& document) {
  const auto config = parse(document.dump(), "routes.yaml",
                            [](const std::string&) { return std::optional<std::string>(); });
  if (config) return "";
  std::string all;
  for (const auto& diagnostic : config.error()) {
    if (!is_about_others(diagnostic.message)) all += diagnostic.message + "\n";
  }
  return all;
}

// Walks the schema of one object, together with the place in a document that it describes.
class Walk {
 public:
  static constexpr const char* address = "127.0.0.1:9464";
  int leaves = 0;

  void object(const Json& schema, const Json& document, const std::string& pointer) {
    CAPTURE(pointer);
    REQUIRE(schema.at("additionalProperties") == false);
    Json wrong = document;
    place(wrong, pointer)["zzz"] = 1;
    CHECK(refusal(wrong).find("unknown key \"zzz\"") != std::string::npos);
    for (const auto& [name, property] : schema.at("properties").items()) {
      value(property, with_target(document, pointer, name), pointer + "/" + name);
    }
    for (const Json& name : schema.value("required", Json::array())) {
      Json without = document;
      place(without, pointer).erase(name.get<std::string>());
      CHECK(refusal(without) == "\"" + name.get<std::string>() + "\" is missing\n");
    }
  }

 private:
  static Json& place(Json& document, const std::string& pointer) {
    return document[Json::json_pointer(pointer)];
  }

  static bool is_in(const std::string& word, std::initializer_list<const char*> words) {
    return std::find(words.begin(), words.end(), word) != words.end();
  }

  // A document in which the mapping at `pointer` is there, and may have the key `name`.
  static Json with_target(Json document, const std::string& pointer, const std::string& name) {
    Json& object = place(document, pointer);
    if (pointer == "/routes/0" && is_in(name, {"static", "tcp", "http", "webhook"})) {
      object.erase("plugin");
    }
    if (pointer == "/routes/0" && name == "tcp") object["tcp"]["upstream"] = address;
    if (is_in(name, {"tokens", "token_file"})) object.erase("upstream");
    if (name == "hash_on") object["lb"] = "hash";
    return document;
  }

  void value(const Json& schema, Json document, const std::string& pointer) {
    CAPTURE(pointer);
    CHECK(schema.at("description").get<std::string>().ends_with("."));
    if (schema.contains("default")) accepts(document, pointer, schema["default"]);
    if (schema.contains("anyOf") && schema["anyOf"].back().contains("properties")) {
      word_or_object(schema["anyOf"], document, pointer);
    } else if (schema.contains("properties")) {
      fill_required(place(document, pointer), schema);
      object(schema, document, pointer);
    } else if (schema.value("type", "") == "array" && !schema["items"].contains("type")) {
      accepts(document, pointer, Json::array({address}));  // the short form
      list(schema["items"]["anyOf"].back(), document, pointer);
    } else if (schema.value("type", "") == "array" && schema["items"].contains("properties")) {
      list(schema["items"], document, pointer);
    } else if (schema.contains("minProperties")) {
      refuses(document, pointer, Json::object());
      accepts(document, pointer, {{"name", address}});
      leaf(schema, document, pointer);
    } else if (schema.contains("additionalProperties")) {
      fill_required(place(document, pointer + "/echo"), schema["additionalProperties"]);
      object(schema["additionalProperties"], document, pointer + "/echo");
    } else {
      leaf(schema, document, pointer);
    }
  }

  void list(const Json& items, Json document, const std::string& pointer) {
    refuses(document, pointer, Json::array());
    Json& first = place(document, pointer)[0];
    if (!first.is_object()) first = Json::object();  // it was there in its short form
    fill_required(first, items);
    object(items, document, pointer + "/0");
  }

  void word_or_object(const Json& choices, Json document, const std::string& pointer) {
    // A word that stands for the mapping, or the short form of it.
    const bool is_short = choices[0].contains("anyOf");
    accepts(document, pointer, is_short ? choices[0]["anyOf"][0]["enum"][0] : choices[0]["const"]);
    refuses(document, pointer, "nonsense");
    Json& section = place(document, pointer);
    if (!section.is_object()) section = Json::object();
    fill_required(section, choices.back());
    object(choices.back(), document, pointer);
  }

  static void fill_required(Json& object, const Json& schema) {
    if (object.is_null()) object = Json::object();
    for (const Json& name : schema.value("required", Json::array())) {
      const auto key = name.get<std::string>();
      if (object.contains(key)) continue;
      const Json& property = schema["properties"][key];
      if (property.value("type", "") == "array" && !property["items"].contains("type")) {
        object[key] = Json::array({address});
      } else if (property.value("type", "") == "array") {
        fill_required(object[key][0], property["items"]);
      } else {
        object[key] = is_in(key, {"address", "upstream"}) ? address : "x";
      }
    }
  }

  void leaf(const Json& schema, const Json& document, const std::string& pointer) {
    ++leaves;
    refuses(document, pointer, Json());
    if (schema.value("type", "") == "string") return refuses(document, pointer, Json::array());
    if (schema.value("type", "") == "object") return refuses(document, pointer, "text");
    if (schema.value("type", "") == "array") return refuses(document, pointer, "text");
    refuses(document, pointer, "nonsense");
    for (const Json& choice : schema.at("anyOf")) alternative(choice, document, pointer);
  }

  void alternative(const Json& choice, const Json& document, const std::string& pointer) {
    for (const Json& word : choice.value("enum", Json::array())) {
      if (word != "passthrough") accepts(document, pointer, word);  // for http routes only
    }
    if (choice.contains("const")) accepts(document, pointer, choice["const"]);
    if (choice.value("type", "") == "boolean") {
      accepts(document, pointer, true);
      accepts(document, pointer, false);
    }
    if (choice.contains("minimum")) bounds(choice, document, pointer);
    if (choice.value("pattern", "") == "^[0-9]+(ms|s|m|h|d)$") {
      for (const char* text : {"1500ms", "20s", "3m", "2h", "1d"}) accepts(document, pointer, text);
      refuses(document, pointer, 30);
    }
    if (choice.value("pattern", "").find("KiB") != std::string::npos) {
      for (const char* text : {"700B", "2KiB", "2KB"}) accepts(document, pointer, text);
      refuses(document, pointer, "2kb");
    }
    if (choice.contains("$ref")) accepts_default_of_variable(document, pointer);
  }

  void accepts_default_of_variable(Json document, const std::string& pointer) {
    place(document, pointer) = "${NOT_SET}";
    CHECK(refusal(document).find("NOT_SET is not set") != std::string::npos);
  }

  void bounds(const Json& choice, const Json& document, const std::string& pointer) {
    const auto min = choice["minimum"].get<std::uint64_t>();
    const auto max = choice["maximum"].get<std::uint64_t>();
    accepts(document, pointer, min);
    accepts(document, pointer, max);
    if (min > 0) refuses(document, pointer, min - 1);
    refuses(document, pointer, max + 1);
  }

  void accepts(Json document, const std::string& pointer, const Json& value) {
    CAPTURE(value.dump());
    place(document, pointer) = value;
    CHECK(refusal(document) == "");
  }

  void refuses(Json document, const std::string& pointer, const Json& value) {
    CAPTURE(value.dump());
    place(document, pointer) = value;
    CHECK(refusal(document) != "");
  }
};

// Between the markers of docs/configuration.md.
std::string with_tables(const std::string& docs, const std::string& tables) {
  const std::string begin = "<!-- keys: begin -->\n";
  const std::string end = "<!-- keys: end -->\n";
  const auto from = docs.find(begin);
  const auto to = docs.find(end);
  REQUIRE(from != docs.npos);
  REQUIRE(to != docs.npos);
  return docs.substr(0, from + begin.size()) + "\n" + tables + docs.substr(to);
}

}  // namespace

TEST_CASE("routes.schema.json says what the parser's table of keys says") {
  const auto written = SchemaWriter().write().dump(2) + "\n";
  if (regenerating()) write_text(source_path(schema_file), written);
  CHECK(read_text(source_path(schema_file)) == written);
}

TEST_CASE("the parser accepts what routes.schema.json allows, and nothing beside it") {
  const auto schema = Json::parse(read_text(source_path(schema_file)));
  REQUIRE(refusal(minimal()) == "");
  Walk walk;
  walk.object(schema, minimal(), "");
  CHECK(walk.leaves >= 110);
}

TEST_CASE("docs/configuration.md has every key with its type and default") {
  const auto docs = read_text(source_path(docs_file));
  const auto written = with_tables(docs, TableWriter().write());
  if (regenerating()) write_text(source_path(docs_file), written);
  CHECK(read_text(source_path(docs_file)) == written);
}

}  // namespace sluice::config::testing
