// What must hold for any bytes that a peer sends. Used by the fuzz target and by the unit test that
// replays its corpus.
#pragma once

#include <string>
#include <vector>

#include "unit/ws/transcript.h"

namespace sluice::ws::test {

// The first byte of the input: bit 0 the role, bit 1 tight limits, the rest how to cut.
struct StreamInput {
  Role role;
  ProtocolLimits limits;
  unsigned seed;
  Bytes bytes;
};

inline StreamInput stream_input(Bytes input) {
  const unsigned first = input.empty() ? 0 : input[0];
  const ProtocolLimits tight{.message_bytes_max = 300, .fragments_max = 4};
  return {(first & 1U) == 0 ? Role::server : Role::client,
          (first & 2U) == 0 ? ProtocolLimits{} : tight, first >> 2,
          input.empty() ? input : input.subspan(1)};
}

inline std::vector<std::string> run_chunked(const StreamInput& input) {
  unsigned state = input.seed + 1;
  const unsigned size_max = 1 + input.seed % 16;
  return run(input.role, input.limits, input.bytes, [&] {
    state = state * 1103515245U + 12345U;
    return 1 + (state >> 16) % size_max;
  });
}

// Sends all that was received again, as the peer would, and returns what then arrives.
inline std::vector<std::string> run_relayed(const StreamInput& input) {
  ChunkPool pool;
  ByteQueue wire(pool);
  Protocol receiver(input.role, input.limits);
  Protocol sender(input.role == Role::server ? Role::client : Role::server, input.limits);
  std::vector<std::uint8_t> bytes(input.bytes.begin(), input.bytes.end());
  receiver.receive(bytes);
  while (const auto event = receiver.next_event()) {
    switch (event->type) {
      case Event::Type::data:
        if (!event->frame_end) return {};  // the input ends inside a frame: not to be relayed
        sender.send_fragment(event->message_type, event->payload, event->message_start,
                             event->message_end, wire);
        break;
      case Event::Type::ping:
        sender.send_ping(event->payload, wire);
        break;
      case Event::Type::pong:
        sender.send_pong(event->payload, wire);
        break;
      case Event::Type::close:
        sender.send_close(event->close_code, as_text(event->payload), wire);
        break;
      case Event::Type::failure:
        return {};
    }
  }
  if (receiver.receiving()) return {};  // perhaps inside a frame
  const std::string sent = wire.to_string();
  return run_whole(input.role, input.limits, as_bytes(sent));
}

// Empty, or which invariant does not hold.
inline std::string broken_invariant(Bytes bytes) {
  const StreamInput input = stream_input(bytes);
  const auto whole = run_whole(input.role, input.limits, input.bytes);
  const auto chunked = run_chunked(input);
  if (joined(whole) != joined(chunked)) {
    return "the transcript depends on the cutting\nwhole:\n" + joined(whole) + "chunked:\n" +
           joined(chunked);
  }
  for (const std::string& line : whole) {
    if (line.starts_with("BROKEN")) return joined(whole);
  }
  const auto relayed = run_relayed(input);
  if (!relayed.empty() && joined(relayed) != joined(whole)) {
    return "what was received does not arrive when it is sent again\nreceived:\n" + joined(whole) +
           "again:\n" + joined(relayed);
  }
  return "";
}

}  // namespace sluice::ws::test
