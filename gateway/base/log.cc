#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>

namespace sluice::log {
namespace {

std::shared_ptr<spdlog::logger> logger;
bool json = false;

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warning:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::string_view level_name(Level level) {
  switch (level) {
    case Level::debug:
      return "debug";
    case Level::info:
      return "info";
    case Level::warning:
      return "warning";
    case Level::error:
      return "error";
  }
  return "info";
}

// RFC 3339 in UTC, with milliseconds.
std::string timestamp() {
  const auto now = std::chrono::system_clock::now();
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count();
  const std::time_t seconds = static_cast<std::time_t>(ms / 1000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32];
  const std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  char fraction[8];
  std::snprintf(fraction, sizeof fraction, ".%03dZ", static_cast<int>(ms % 1000));
  return std::string(text, size) + fraction;
}

// Bare words stay as they are; everything else is quoted as JSON quotes it, so that no value can
// begin a line or a field of its own.
bool is_bare(std::string_view text) {
  for (const char c : text) {
    if (c <= ' ' || c == '"' || c == '\\' || c == '=' || static_cast<unsigned char>(c) >= 0x7f) {
      return false;
    }
  }
  return !text.empty();
}

std::string dump(const nlohmann::ordered_json& value, bool ascii) {
  return value.dump(-1, ' ', ascii, nlohmann::ordered_json::error_handler_t::replace);
}

// On a terminal, Chinese stays Chinese; control characters of Latin-1 (which JSON allows) do not
// reach it.
std::string quoted(std::string_view text) {
  std::string out;
  for (const char c : dump(std::string(text), false)) {
    if (c == 0x7f) {
      out += "\\u007f";
    } else {
      out += c;
    }
  }
  for (std::size_t at = 0; (at = out.find('\xc2', at)) != std::string::npos; ++at) {
    const auto next = static_cast<unsigned char>(out[at + 1]);
    if (next < 0xa0) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u00%02x", next);
      out.replace(at, 2, escape);
    }
  }
  return out;
}

std::string text_value(const Field& field) {
  return std::visit(
      [](const auto& value) -> std::string {
        using Value = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<Value, std::string_view>) {
          return is_bare(value) ? std::string(value) : quoted(value);
        } else if constexpr (std::is_same_v<Value, bool>) {
          return value ? "true" : "false";
        } else {
          return dump(value, true);
        }
      },
      field.value);
}

}  // namespace

void open(Level level, Format format) {
  json = format == Format::json || (format == Format::automatic && isatty(STDOUT_FILENO) == 0);
  logger =
      std::make_shared<spdlog::logger>("sluice", std::make_shared<spdlog::sinks::stdout_sink_mt>());
  logger->set_pattern("%v");
  logger->set_level(to_spdlog(level));
  logger->flush_on(spdlog::level::debug);
}

bool enabled(Level level) {
  return logger != nullptr && logger->should_log(to_spdlog(level));
}

void event(Level level, std::string_view name, const Fields& fields) {
  if (!enabled(level)) return;
  const std::string time = timestamp();
  logger->log(to_spdlog(level),
              json ? json_line(time, level, name, fields) : text_line(time, level, name, fields));
}

std::string text_line(std::string_view time, Level level, std::string_view name,
                      const Fields& fields) {
  std::string line(time);
  line += ' ';
  line += level_name(level);
  line.append(8 - level_name(level).size(), ' ');
  line += name;
  for (const Field& field : fields) {
    line += ' ';
    line += field.name;
    line += '=';
    line += text_value(field);
  }
  return line;
}

std::string json_line(std::string_view time, Level level, std::string_view name,
                      const Fields& fields) {
  nlohmann::ordered_json object{{"ts", time}, {"level", level_name(level)}, {"event", name}};
  for (const Field& field : fields) {
    std::visit([&](const auto& value) { object[std::string(field.name)] = value; }, field.value);
  }
  return dump(object, true);
}

}  // namespace sluice::log
