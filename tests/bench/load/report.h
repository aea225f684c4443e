// The line of JSON that tells what was measured.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base.h"
#include "histogram.h"
#include "options.h"

namespace load {

class Line {
 public:
  Line& add(std::string_view key, std::uint64_t value) { return field(key, std::to_string(value)); }
  Line& add(std::string_view key, double value, int digits = 1);
  Line& add(std::string_view key, bool value) { return field(key, value ? "true" : "false"); }
  Line& text(std::string_view key, std::string_view value);
  void print() const;

 private:
  Line& field(std::string_view key, const std::string& value);

  std::string fields_;
};

// Time, and CPU time of the server and of this program, between start() and stop().
class Meter {
 public:
  explicit Meter(const Options& options) : server_(options.server_pid) {}

  void start();
  void stop();

  // The figures that every mode has. `counted` says of what there were `count`.
  Line figures(std::string_view counted, std::uint64_t count, const Histogram& latencies) const;

 private:
  struct Times {
    std::uint64_t wall_ns = 0;
    std::uint64_t server_ns = 0;
    std::uint64_t own_ns = 0;
  };
  const ServerClock server_;
  Times started_;
  Times taken_;
};

}  // namespace load
