// TokenTable: where a client of a tcp route may go, by the token that it shows. A client never
// names an address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "bridges/token_file.h"
#include "config/config.h"
#include "upstreams/registry.h"

namespace sluice::bridges {

// The map of routes.yaml, and behind it the token file, which is read again when it changes. A file
// that is gone or broken leaves the tokens as they were, and a line in the log. Any thread.
class TokenTable {
 public:
  static constexpr std::uint64_t look_interval_ms = 1'000;
  static constexpr std::size_t file_bytes_max = 16 * 1024 * 1024;

  // Reads the file. `registry` outlives the table.
  static Result<std::shared_ptr<TokenTable>> create(const config::TcpTarget& target,
                                                    upstreams::Registry& registry);

  // Null if the token is unknown; an error if its address cannot be used. `now_ms` is a monotonic
  // clock: the file is looked at once in look_interval_ms at most.
  Result<std::shared_ptr<upstreams::Upstream>> find(std::string_view token, std::uint64_t now_ms);

  // Those of the map.
  std::vector<std::shared_ptr<upstreams::Upstream>> mapped() const;

 private:
  // What tells one state of a file from another; all zero: there is none.
  struct Stamp {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::int64_t size = 0;
    std::int64_t modified_ns = 0;
    std::int64_t changed_ns = 0;
    bool operator==(const Stamp&) const = default;
  };

  TokenTable(std::string file, upstreams::Registry& registry);

  static Stamp stamp_of(const std::string& file);
  // With mutex_ held, or before anybody shares the table.
  void look_at_file(std::uint64_t now_ms);
  Result<> read_file();
  void forget_others(const Tokens& before);

  upstreams::Registry& registry_;
  std::map<std::string, std::shared_ptr<upstreams::Upstream>, std::less<>> mapped_;
  const std::string file_;  // empty: none

  std::mutex mutex_;  // guards what follows
  Tokens tokens_;     // of the file's last good state
  Stamp seen_;        // of the state that was looked at last, good or not
  bool unreadable_ = false;
  std::uint64_t next_look_ms_ = 0;
};

}  // namespace sluice::bridges
