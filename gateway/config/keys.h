// The one table of what routes.yaml may say.
//
// visit() names every key of the file to a Keys, together with the field of Config that it fills,
// its type, its bounds and a sentence for people. Who implements Keys decides what is done with
// them: the reader fills the fields from a file; the tests write the JSON Schema and the
// documentation from the same calls. A field's value at the time of the call is its default.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace sluice::config {

struct Key {
  std::string_view name;
  std::string_view description;
  bool required = false;
};

enum class Unit { count, bytes, milliseconds };

struct Range {
  Unit unit = Unit::count;
  std::uint64_t min = 0;
  std::uint64_t max = 0;
  std::string_view zero_word = {};  // if not empty, this word is allowed and stands for 0
};

// What a text must look like; syntax.h checks it.
enum class Syntax {
  address,    // "0.0.0.0:9998"
  plugin,     // a key of `plugins`
  library,    // a file name to be searched, or a path
  path,       // of a file or folder; relative to the folder of the configuration
  file_name,  // without folder
  host,       // "chat.example.com"
  pattern,    // "/chat/{room}"
  route_name,
  origin,       // "https://example.com", "null", "*"
  subprotocol,  // a token
  proxy_range,  // "10.0.0.0/8", "::1", "unix"
  upstream_name,
  upstream,        // a key of `upstreams`, or an endpoint's address
  endpoint,        // "10.0.0.5:8080", "backend:80", "unix:/run/app.sock"
  hash_on,         // "client", "header:X-User", "cookie:sid", "parameter:room"
  authority,       // a host, perhaps with a port
  request_target,  // "/healthz"
  rewrite,         // "/v2/{room}/*"
  header_name,     // of a request's field that the gateway does not set itself
  header_value,
  token,        // of a client that says where it wants to go
  words,        // anything
  secret,       // anything; messages do not repeat it
  signing_key,  // a secret; behind "base64:" in base64
};

using Words = std::vector<std::string_view>;

class Keys {
 public:
  virtual ~Keys() = default;

  virtual void number(const Key& key, std::uint64_t& field, const Range& range) = 0;
  virtual void flag(const Key& key, bool& field) = 0;
  // `field` is an index of `words`.
  virtual void choice(const Key& key, std::size_t& field, const Words& words) = 0;
  virtual void text(const Key& key, std::string& field, Syntax syntax) = 0;
  // A mapping from names to texts. It must not be empty.
  virtual void text_map(const Key& key, std::map<std::string, std::string>& field, Syntax names,
                        Syntax values) = 0;
  // No element twice.
  virtual void texts(const Key& key, std::vector<std::string>& field, Syntax syntax) = 0;
  // Any mapping, as JSON text.
  virtual void json(const Key& key, std::string& field) = 0;

  // A mapping with the keys that `body` visits. `body` is not called if the key is absent; the
  // result says whether it was. If `short_form` is not empty, a text may stand for a mapping with
  // just this key.
  virtual bool section(const Key& key, const std::function<void()>& body,
                       std::string_view short_form) = 0;
  // A section, or the word `off`, which makes `on` false.
  virtual void section_or_off(const Key& key, bool& on, const std::function<void()>& body) = 0;
  // A sequence of mappings: `item` is called with 0, 1, ... It must not be empty. If `short_form`
  // is not empty, a text may stand for a mapping with just this key.
  virtual void list(const Key& key, const std::function<void(std::size_t)>& item,
                    std::string_view short_form) = 0;
  // A mapping from names to mappings.
  virtual void map(const Key& key, Syntax names,
                   const std::function<void(const std::string& name)>& item) = 0;

  // Of these keys of the present mapping exactly one must be given. `noun` is what they are:
  // "target".
  virtual void exactly_one(std::string_view noun, const Words& words) = 0;
  // Words that the design of the gateway knows and this version does not: whoever gives one is told
  // that it is not available yet, which is clearer than that it is unknown.
  virtual void later(const Words& words) = 0;

  template <typename Integer>
  void number(const Key& key, Integer& field, const Range& range) {
    std::uint64_t value = field;
    number(key, value, range);
    field = static_cast<Integer>(value);  // the range fits in the field
  }
  bool section(const Key& key, const std::function<void()>& body) { return section(key, body, {}); }
  void list(const Key& key, const std::function<void(std::size_t)>& item) { list(key, item, {}); }
  template <typename Enum>
  void choice_of(const Key& key, Enum& field, const Words& words) {
    auto value = static_cast<std::size_t>(field);
    choice(key, value, words);
    field = static_cast<Enum>(value);
  }
};

void visit(Keys& keys, Config& config);

}  // namespace sluice::config
