#include "report.h"

#include <cstdio>

namespace load {

Line& Line::add(std::string_view key, double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return field(key, text);
}

Line& Line::text(std::string_view key, std::string_view value) {
  return field(key, '"' + std::string(value) + '"');
}

Line& Line::field(std::string_view key, const std::string& value) {
  if (!fields_.empty()) fields_ += ", ";
  fields_ += '"' + std::string(key) + "\": " + value;
  return *this;
}

void Line::print() const {
  std::printf("{%s}\n", fields_.c_str());
  std::fflush(stdout);
}

// The server's time is read last at the start and first at the end: reading it costs this program
// a system call, and nothing of that shall be the server's.
void Meter::start() {
  started_.wall_ns = now_ns();
  started_.own_ns = own_cpu_ns();
  started_.server_ns = server_.cpu_ns();
}

void Meter::stop() {
  taken_.server_ns = server_.cpu_ns() - started_.server_ns;
  taken_.own_ns = own_cpu_ns() - started_.own_ns;
  taken_.wall_ns = now_ns() - started_.wall_ns;
}

Line Meter::figures(std::string_view counted, std::uint64_t count,
                    const Histogram& latencies) const {
  const auto us = [](std::uint64_t ns) { return static_cast<double>(ns) / 1e3; };
  Line line;
  line.add(counted, count)
      .add("seconds", seconds(taken_.wall_ns), 6)
      .add("server_cpu_seconds", seconds(taken_.server_ns), 6)
      .add("own_cpu_seconds", seconds(taken_.own_ns), 6)
      .add("p50_us", us(latencies.quantile(0.5)))
      .add("p99_us", us(latencies.quantile(0.99)))
      .add("p999_us", us(latencies.quantile(0.999)))
      .add("max_us", us(latencies.max()));
  return line;
}

}  // namespace load
