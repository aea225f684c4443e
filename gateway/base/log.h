// Log: events with fields, as text for people on a terminal and as JSON, one object a line,
// otherwise.
//
//   log::info("listening", {{"address", address}, {"tls", true}});
//
// Thread-safe after open(). Control characters and everything else that could forge a line are
// escaped in both formats.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace sluice::log {

enum class Level { debug, info, warning, error };
enum class Format { automatic, text, json };  // automatic: text on a terminal, JSON otherwise

// A field's name and value. The name and text values must live until the call returns.
struct Field {
  std::string_view name;
  std::variant<std::string_view, std::int64_t, std::uint64_t, double, bool> value;

  Field(std::string_view n, std::string_view text) : name(n), value(text) {}
  Field(std::string_view n, const char* text) : name(n), value(std::string_view(text)) {}
  Field(std::string_view n, const std::string& text) : name(n), value(std::string_view(text)) {}
  Field(std::string_view n, bool truth) : name(n), value(truth) {}
  Field(std::string_view n, double number) : name(n), value(number) {}
  template <typename Integer>
  requires(std::is_integral_v<Integer> && !std::is_same_v<Integer, bool>)
      Field(std::string_view n, Integer number)
      : name(n), value(std::int64_t{0}) {
    if constexpr (std::is_signed_v<Integer>) {
      value = static_cast<std::int64_t>(number);
    } else {
      value = static_cast<std::uint64_t>(number);
    }
  }
};
using Fields = std::vector<Field>;

// Call once, before other threads log. Lines go to standard output, each at once.
void open(Level level, Format format);

bool enabled(Level level);
void event(Level level, std::string_view name, const Fields& fields);

inline void debug(std::string_view name, const Fields& fields = {}) {
  event(Level::debug, name, fields);
}
inline void info(std::string_view name, const Fields& fields = {}) {
  event(Level::info, name, fields);
}
inline void warning(std::string_view name, const Fields& fields = {}) {
  event(Level::warning, name, fields);
}
inline void error(std::string_view name, const Fields& fields = {}) {
  event(Level::error, name, fields);
}

// Lets a record through once a second, however often there is cause for it. Not thread-safe.
class Throttle {
 public:
  static constexpr std::uint64_t interval_ms = 1'000;

  // Whether it is time for one; then it is written.
  bool due(std::uint64_t now_ms) {
    if (last_ms_ != 0 && now_ms - last_ms_ < interval_ms) return false;
    last_ms_ = now_ms;
    return true;
  }

 private:
  std::uint64_t last_ms_ = 0;  // 0: there was none
};

// One line without its end, as event() writes it; for tests. `time` stands at its front.
std::string text_line(std::string_view time, Level level, std::string_view name,
                      const Fields& fields);
std::string json_line(std::string_view time, Level level, std::string_view name,
                      const Fields& fields);

}  // namespace sluice::log
