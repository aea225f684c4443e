// Sends more than it was asked to bear, for the tests of back-pressure:
//
//   "N SIZE"             N text messages of SIZE bytes at once, numbered, whoever reads them
//   "close CODE REASON"  closes
//   "pause"              pauses, for good
//
// It never looks at buffered_amount().
#include <cstdio>
#include <cstdlib>
#include <sluice/plugin.hpp>
#include <string>

class Flood : public sluice::Socket {
  void on_message(sluice::Message message) override {
    const std::string text(message.data());
    if (text.rfind("close ", 0) == 0) {
      char* reason = nullptr;
      const long code = std::strtol(text.c_str() + 6, &reason, 10);
      close(static_cast<int>(code), *reason == ' ' ? reason + 1 : reason);
    } else if (text == "pause") {
      pause();
    } else {
      flood(text);
    }
  }

  // "00000017xxxxx": the number, and as much behind it as SIZE says.
  void flood(const std::string& text) {
    char* rest = nullptr;
    const unsigned long count = std::strtoul(text.c_str(), &rest, 10);
    std::string message(std::strtoul(rest, nullptr, 10), 'x');
    char number[9];
    for (unsigned long i = 0; i < count; ++i) {
      std::snprintf(number, sizeof number, "%08lu", i % 100000000);
      send(message.replace(0, 8, number));
    }
  }
};

SLUICE_PLUGIN(Flood)
