// What a Protocol says about some bytes, in lines that do not depend on how the bytes were cut.
#pragma once

#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ws/protocol.h"

namespace sluice::ws::test {

inline std::string quoted(Bytes bytes) {
  std::string text = "\"";
  for (const std::uint8_t byte : bytes) {
    char hex[5];
    std::snprintf(hex, sizeof(hex), "\\x%02x", byte);
    const bool printable = byte >= 0x20 && byte < 0x7F && byte != '"' && byte != '\\';
    text += printable ? std::string(1, static_cast<char>(byte)) : std::string(hex);
  }
  return text + "\"";
}

// Collects events. Pieces of one frame become one line; the part of a frame that came before a
// failure is left out, since how much of it was delivered depends on the cutting. What contradicts
// the contract of Event becomes a line that begins with "BROKEN".
class Transcript {
 public:
  void add(const Event& event) {
    if (ended_) broken("event after the end");
    if (event.type == Event::Type::data) return add_data(event);
    if (frame_) {
      // A control frame cannot be inside a data frame, a failure can.
      if (event.type != Event::Type::failure) broken("frame inside a frame");
      frame_.reset();
    }
    switch (event.type) {
      case Event::Type::ping:
        return line("ping " + quoted(event.payload));
      case Event::Type::pong:
        return line("pong " + quoted(event.payload));
      case Event::Type::close:
        ended_ = true;
        return line("close " + std::to_string(event.close_code) + " " + quoted(event.payload));
      default:
        ended_ = failed_ = true;
        return line("failure " + std::to_string(event.close_code) + " " + quoted(event.payload));
    }
  }

  // The lines, with one for an unfinished frame and one for the state that was reached.
  std::vector<std::string> finish(const Protocol& protocol) {
    if (frame_) line("unfinished " + describe(false));
    if (protocol.in_message()) line("in message");
    if (protocol.receiving()) line("receiving");
    return lines_;
  }

  const std::vector<std::string>& lines() const { return lines_; }
  bool failed() const { return failed_; }

 private:
  struct Frame {
    Event first;
    std::vector<std::uint8_t> payload;
  };

  void add_data(const Event& event) {
    if (event.frame_start != !frame_.has_value()) broken("frame_start");
    if (event.message_start != (!in_message_ && event.frame_start)) broken("message_start");
    if (event.message_end && !event.frame_end) broken("message_end inside a frame");
    if (event.payload.empty() && !(event.frame_start && event.frame_end)) {
      broken("empty piece of a frame that is not empty");
    }
    if (!frame_) frame_ = Frame{event, {}};
    if (in_message_ && event.message_type != type_) broken("message_type");
    in_message_ = true;
    type_ = event.message_type;
    frame_->payload.insert(frame_->payload.end(), event.payload.begin(), event.payload.end());
    if (event.frame_end) end_frame(event.message_end);
  }

  void end_frame(bool message_end) {
    line(describe(message_end));
    frame_.reset();
    in_message_ = !message_end;
  }

  // "text(5) start end "Hello"", with the bytes that came.
  std::string describe(bool message_end) const {
    const Event& first = frame_->first;
    return std::string(first.message_type == MessageType::text ? "text(" : "binary(") +
           std::to_string(frame_->payload.size()) + ")" + (first.message_start ? " start" : "") +
           (message_end ? " end " : " ") + quoted(frame_->payload);
  }

  void line(std::string text) { lines_.push_back(std::move(text)); }
  void broken(const std::string& what) { line("BROKEN " + what); }

  std::vector<std::string> lines_;
  std::optional<Frame> frame_;
  bool in_message_ = false;
  bool ended_ = false;
  bool failed_ = false;
  MessageType type_ = MessageType::text;
};

// Hands one chunk over as a worker does: in memory that is not valid afterwards, and exactly as big
// as it must be, so that a sanitizer sees every step beside it.
inline void receive_chunk(Protocol& protocol, Bytes chunk, Transcript& transcript) {
  const auto memory = std::make_unique<std::uint8_t[]>(chunk.size());
  std::copy(chunk.begin(), chunk.end(), memory.get());
  protocol.receive({memory.get(), chunk.size()});
  while (const auto event = protocol.next_event()) transcript.add(*event);
}

// `next_chunk` says how long the next chunk is; it is called until the input is used up.
inline std::vector<std::string> run(Role role, const ProtocolLimits& limits, Bytes input,
                                    const std::function<std::size_t()>& next_chunk) {
  Protocol protocol(role, limits);
  Transcript transcript;
  while (!input.empty()) {
    const std::size_t size = std::min(std::max<std::size_t>(next_chunk(), 1), input.size());
    receive_chunk(protocol, input.first(size), transcript);
    input = input.subspan(size);
  }
  return transcript.finish(protocol);
}

inline std::vector<std::string> run_whole(Role role, const ProtocolLimits& limits, Bytes input) {
  return run(role, limits, input, [&] { return input.size(); });
}

inline std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

}  // namespace sluice::ws::test
