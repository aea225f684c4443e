#include "options.h"

#include <arpa/inet.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string_view>

namespace load {
namespace {

constexpr const char* usage =
    "usage: bench_load MODE --port N [OPTION...]\n"
    "  echo         batches of messages, whose echoes are compared with what was sent\n"
    "  idle         connections on which one message was echoed, and which are kept; answers "
    "pings,\n"
    "               and each line on stdin with figures since the line before; ends with stdin\n"
    "  handshakes   connections opened, upgraded and closed with a closing handshake\n"
    "  subscribers  connections that wait for what is published (load/subscribers.cc)\n"
    "  reconnect    all connections opened and reset, again and again, until --total were "
    "accepted\n"
    "\n"
    "  --path P  --connections N  --opening N  --source IPV4  --sources N\n"
    "  --raw | --stream | --deflate [--agreed PARAMETERS]\n"
    "  --tls [--resume | --no-resume]\n"
    "  --size BYTES  --pipeline N  --seconds S | --messages N  --warmup S  --wait\n"
    "  --rate N     open loop: N messages a second, due whether or not echoes came\n"
    "  --slow K     K further connections that send and never read\n"
    "  --total N    for reconnect\n"
    "  --server-pid PID  --limit S\n";

[[noreturn]] void refuse() {
  std::fputs(usage, stderr);
  std::exit(2);
}

Mode parse_mode(std::string_view name) {
  if (name == "echo") return Mode::echo;
  if (name == "idle") return Mode::idle;
  if (name == "handshakes") return Mode::handshakes;
  if (name == "subscribers") return Mode::subscribers;
  if (name == "reconnect") return Mode::reconnect;
  refuse();
}

const std::map<std::string_view, bool Options::*> flags = {
    {"--raw", &Options::raw}, {"--stream", &Options::stream}, {"--deflate", &Options::deflate},
    {"--tls", &Options::tls}, {"--resume", &Options::resume}, {"--wait", &Options::wait},
};

std::uint64_t whole(const char* value) {
  return std::strtoull(value, nullptr, 10);
}

std::uint32_t address(const char* value) {
  in_addr parsed{};
  if (inet_pton(AF_INET, value, &parsed) != 1) refuse();
  return ntohl(parsed.s_addr);
}

using Setter = std::function<void(Options&, const char*)>;

const std::map<std::string_view, Setter> setters = {
    {"--port", [](Options& o, const char* v) { o.port = static_cast<std::uint16_t>(whole(v)); }},
    {"--path", [](Options& o, const char* v) { o.path = v; }},
    {"--agreed", [](Options& o, const char* v) { o.agreed = v; }},
    {"--connections", [](Options& o, const char* v) { o.connections = whole(v); }},
    {"--opening", [](Options& o, const char* v) { o.opening = whole(v); }},
    {"--source", [](Options& o, const char* v) { o.source = address(v); }},
    {"--sources", [](Options& o, const char* v) { o.sources = whole(v); }},
    {"--pipeline", [](Options& o, const char* v) { o.pipeline = whole(v); }},
    {"--size", [](Options& o, const char* v) { o.size = whole(v); }},
    {"--rate", [](Options& o, const char* v) { o.rate = std::atof(v); }},
    {"--slow", [](Options& o, const char* v) { o.slow = whole(v); }},
    {"--seconds", [](Options& o, const char* v) { o.seconds = std::atof(v); }},
    {"--messages", [](Options& o, const char* v) { o.messages = whole(v); }},
    {"--warmup", [](Options& o, const char* v) { o.warmup_seconds = std::atof(v); }},
    {"--total", [](Options& o, const char* v) { o.total = whole(v); }},
    {"--server-pid", [](Options& o, const char* v) { o.server_pid = std::atoi(v); }},
    {"--limit",
     [](Options& o, const char* v) { o.limit_seconds = static_cast<unsigned>(whole(v)); }},
};

bool make_sense(const Options& options) {
  return options.port != 0 && options.connections != 0 && options.pipeline != 0 &&
         options.opening != 0 && options.sources != 0 &&
         (options.sources == 1 || options.source != 0) && (!options.resume || options.tls) &&
         (options.rate == 0 || options.messages == 0);
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  options.mode = parse_mode(argc > 1 ? argv[1] : "");
  for (int i = 2; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--no-resume") {
      options.resume = false;
    } else if (const auto flag = flags.find(name); flag != flags.end()) {
      options.*flag->second = true;
    } else if (const auto setter = setters.find(name); setter != setters.end() && i + 1 < argc) {
      setter->second(options, argv[++i]);
    } else {
      refuse();
    }
  }
  if (!make_sense(options)) refuse();
  return options;
}

}  // namespace load
