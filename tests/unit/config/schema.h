// The JSON Schema and the tables of docs/configuration.md, written from the table of keys.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/units.h"
#include "config/keys.h"

namespace sluice::config::testing {

using Json = nlohmann::ordered_json;

inline std::string format(std::uint64_t value, const Range& range) {
  if (value == 0 && !range.zero_word.empty()) return std::string(range.zero_word);
  if (range.unit == Unit::bytes) return format_size(value);
  if (range.unit == Unit::milliseconds) return format_duration(value);
  return std::to_string(value);
}

// config/routes.schema.json.
class SchemaWriter final : public Keys {
 public:
  Json write() {
    Json root = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                 {"title", "routes.yaml"},
                 {"description", "The configuration of the Sluice WebSocket gateway."}};
    Config config;
    object(root, [&] { visit(*this, config); });
    root["$defs"]["variable"] = {{"type", "string"},
                                 {"pattern", "\\$\\{"},
                                 {"description",
                                  "A value from the environment: ${NAME} or "
                                  "${NAME:-default}."}};
    return root;
  }

  void number(const Key& key, std::uint64_t& field, const Range& range) override {
    Json any = Json::array();
    if (range.unit == Unit::milliseconds) {
      if (range.min == 0) any.push_back({{"const", 0}});
      any.push_back({{"type", "string"}, {"pattern", "^[0-9]+(ms|s|m|h|d)$"}});
    } else {
      any.push_back({{"type", "integer"}, {"minimum", range.min}, {"maximum", range.max}});
    }
    if (range.unit == Unit::bytes) {
      any.push_back({{"type", "string"}, {"pattern", "^[0-9]+(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)?$"}});
    }
    if (!range.zero_word.empty()) any.push_back({{"const", range.zero_word}});
    const bool plain = range.unit == Unit::count && format(field, range) != range.zero_word;
    add(key, any_of(any), plain ? Json(field) : Json(format(field, range)));
  }

  void flag(const Key& key, bool& field) override {
    add(key, any_of({{{"type", "boolean"}}}), field);
  }

  void choice(const Key& key, std::size_t& field, const Words& words) override {
    Json values = words;
    for (const auto word : words) {
      // A version may be written without quotes, and is a number then.
      if (word.find_first_not_of("0123456789.") == word.npos) {
        values.push_back(std::stod(std::string(word)));
      }
    }
    add(key, any_of({{{"enum", values}}}), words[field]);
  }

  void text(const Key& key, std::string& field, Syntax) override {
    add(key, {{"type", "string"}, {"minLength", 1}}, field.empty() ? Json() : Json(field));
  }

  void text_map(const Key& key, std::map<std::string, std::string>&, Syntax, Syntax) override {
    add(key,
        {{"type", "object"},
         {"additionalProperties", {{"type", "string"}, {"minLength", 1}}},
         {"minProperties", 1}},
        Json());
  }

  void texts(const Key& key, std::vector<std::string>& field, Syntax) override {
    add(key,
        {{"type", "array"},
         {"items", {{"type", "string"}, {"minLength", 1}}},
         {"uniqueItems", true}},
        field);
  }

  void json(const Key& key, std::string&) override { add(key, {{"type", "object"}}, Json()); }

  bool section(const Key& key, const std::function<void()>& body,
               std::string_view short_form) override {
    Json schema = Json::object();
    object(schema, body);
    if (!short_form.empty()) {
      const Json short_schema = schema["properties"][std::string(short_form)];
      schema = {{"anyOf", {short_schema, schema}}};
    }
    add(key, schema, Json());
    return true;
  }

  void section_or_off(const Key& key, bool&, const std::function<void()>& body) override {
    Json schema = Json::object();
    object(schema, body);
    add(key, {{"anyOf", {{{"const", "off"}}, schema}}}, Json());
  }

  void list(const Key& key, const std::function<void(std::size_t)>& item,
            std::string_view short_form) override {
    Json schema = Json::object();
    object(schema, [&] { item(0); });
    if (!short_form.empty()) {
      schema = {{"anyOf", {{{"type", "string"}, {"minLength", 1}}, schema}}};
    }
    add(key, {{"type", "array"}, {"items", schema}, {"minItems", 1}}, Json());
  }

  void map(const Key& key, Syntax, const std::function<void(const std::string&)>& item) override {
    Json schema = Json::object();
    object(schema, [&] { item("name"); });
    add(key, {{"type", "object"}, {"additionalProperties", schema}}, Json());
  }

  void exactly_one(std::string_view, const Words& words) override {
    for (const auto word : words) (*object_)["oneOf"].push_back({{"required", {word}}});
  }

  void later(const Words&) override {}

 private:
  void object(Json& schema, const std::function<void()>& body) {
    Json* outer = std::exchange(object_, &schema);
    schema["type"] = "object";
    schema["properties"] = Json::object();
    body();
    schema["additionalProperties"] = false;
    object_ = outer;
  }

  Json any_of(Json any) {
    any.push_back({{"$ref", "#/$defs/variable"}});
    return {{"anyOf", any}};
  }

  void add(const Key& key, const Json& schema, const Json& fallback) {
    Json property = {{"description", key.description}};
    property.update(schema);
    if (!key.required && !fallback.is_null()) property["default"] = fallback;
    (*object_)["properties"][std::string(key.name)] = property;
    if (key.required) (*object_)["required"].push_back(key.name);
  }

  Json* object_ = nullptr;
};

// One table of Markdown for each top-level key that has keys below it, and one for the others.
class TableWriter final : public Keys {
 public:
  std::string write() {
    Config config;
    visit(*this, config);
    std::string out = table("### Top level\n", top_);
    for (const auto& [title, rows] : sections_) out += table("### `" + title + "`\n", rows);
    return out;
  }

  void number(const Key& key, std::uint64_t& field, const Range& range) override {
    const char* types[] = {"number", "size", "duration"};
    std::string type = types[static_cast<std::size_t>(range.unit)];
    if (!range.zero_word.empty()) type += " or `" + std::string(range.zero_word) + "`";
    row(key, type + ", " + bounds(range), code(format(field, range)));
  }
  void flag(const Key& key, bool& field) override {
    row(key, "`true` or `false`", code(field ? "true" : "false"));
  }
  void choice(const Key& key, std::size_t& field, const Words& words) override {
    std::string type;
    for (const auto word : words) type += (type.empty() ? "`" : ", `") + std::string(word) + "`";
    row(key, type, code(std::string(words[field])));
  }
  void text(const Key& key, std::string& field, Syntax) override {
    row(key, "text", field.empty() ? "" : code(field));
  }
  void text_map(const Key& key, std::map<std::string, std::string>&, Syntax, Syntax) override {
    row(key, "mapping of texts", "");
  }
  void texts(const Key& key, std::vector<std::string>&, Syntax) override {
    row(key, "list of texts", code("[]"));
  }
  void json(const Key& key, std::string&) override { row(key, "any mapping", code("{}")); }

  bool section(const Key& key, const std::function<void()>& body,
               std::string_view short_form) override {
    const std::string alone = " or its `" + std::string(short_form) + "` alone";
    row(key, "mapping" + (short_form.empty() ? "" : alone), "");
    // `defaults` repeats keys of a route; the text says which.
    if (key.name != "defaults") below(std::string(key.name), body);
    return true;
  }
  void section_or_off(const Key& key, bool&, const std::function<void()>& body) override {
    row(key, "mapping or `off`", "");
    below(std::string(key.name), body);
  }
  void list(const Key& key, const std::function<void(std::size_t)>& item,
            std::string_view short_form) override {
    const std::string alone = " or of `" + std::string(short_form) + "` alone";
    row(key, "list of mappings" + (short_form.empty() ? "" : alone), "");
    below(std::string(key.name) + "[]", [&] { item(0); });
  }
  void map(const Key& key, Syntax, const std::function<void(const std::string&)>& item) override {
    row(key, "mapping of names", "");
    below(std::string(key.name) + ".<name>", [&] { item("name"); });
  }
  void exactly_one(std::string_view, const Words&) override {}
  void later(const Words&) override {}

 private:
  static std::string code(const std::string& text) { return "`" + text + "`"; }

  static std::string bounds(const Range& range) {
    const std::uint64_t min = std::max<std::uint64_t>(range.min, range.zero_word.empty() ? 0 : 1);
    const Range plain{range.unit, 0, 0};
    return code(format(min, plain)) + " to " + code(format(range.max, plain));
  }

  static std::string table(const std::string& title, const std::string& rows) {
    return title + "\n| key | type | default | meaning |\n|---|---|---|---|\n" + rows + "\n";
  }

  void below(const std::string& name, const std::function<void()>& body) {
    const std::string outer = prefix_;
    if (prefix_.empty()) sections_.emplace_back(name, "");
    prefix_ += name + ".";
    body();
    prefix_ = outer;
  }

  void row(const Key& key, const std::string& type, const std::string& fallback) {
    std::string& rows = prefix_.empty() ? top_ : sections_.back().second;
    rows += "| `" + prefix_ + std::string(key.name) + "` | " + type + " | " +
            (key.required ? "required" : fallback) + " | " + std::string(key.description) + " |\n";
  }

  std::string prefix_;
  std::string top_;
  std::vector<std::pair<std::string, std::string>> sections_;
};

}  // namespace sluice::config::testing
