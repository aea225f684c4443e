#include "bridges/token_table.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <unordered_set>
#include <utility>

#include "base/fd.h"
#include "base/log.h"

namespace sluice::bridges {
namespace {

std::int64_t nanoseconds(const timespec& time) {
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

Result<std::string> read_regular_file(const std::string& path) {
  // Not blocking: what stands there may be a pipe that nobody writes to.
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return fail_errno("open", errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return fail_errno("stat", errno);
  if (!S_ISREG(status.st_mode)) return fail("not a file");
  std::string text;
  char piece[16 * 1024];
  for (;;) {
    const ssize_t count = ::read(fd.get(), piece, sizeof piece);
    if (count == 0) return text;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("read", errno);
    text.append(piece, static_cast<std::size_t>(count));
    if (text.size() > TokenTable::file_bytes_max) return fail("larger than 16 MiB");
  }
}

}  // namespace

TokenTable::TokenTable(std::string file, upstreams::Registry& registry)
    : registry_(registry), file_(std::move(file)) {}

Result<std::shared_ptr<TokenTable>> TokenTable::create(const config::TcpTarget& target,
                                                       upstreams::Registry& registry) {
  std::shared_ptr<TokenTable> table(new TokenTable(target.token_file, registry));
  for (const auto& [token, name] : target.tokens) {
    auto upstream = registry.find(name);
    if (upstream == nullptr) return fail("tokens: there is no upstream " + name);
    table->mapped_.emplace(token, std::move(upstream));
  }
  if (table->file_.empty()) return table;
  table->seen_ = stamp_of(table->file_);
  if (auto read = table->read_file(); !read) {
    return fail("token_file " + table->file_ + ": " + read.error().message);
  }
  return table;
}

std::vector<std::shared_ptr<upstreams::Upstream>> TokenTable::mapped() const {
  std::vector<std::shared_ptr<upstreams::Upstream>> upstreams;
  for (const auto& [token, upstream] : mapped_) upstreams.push_back(upstream);
  return upstreams;
}

Result<std::shared_ptr<upstreams::Upstream>> TokenTable::find(std::string_view token,
                                                              std::uint64_t now_ms) {
  if (const auto found = mapped_.find(token); found != mapped_.end()) return found->second;
  if (file_.empty()) return nullptr;
  const std::lock_guard lock(mutex_);
  look_at_file(now_ms);
  const auto address = tokens_.find(token);
  if (address == tokens_.end()) return nullptr;
  // Under the lock: another thread that finds it gone from the file forgets it behind us.
  return registry_.on_demand(address->second);
}

void TokenTable::look_at_file(std::uint64_t now_ms) {
  if (now_ms < next_look_ms_) return;
  next_look_ms_ = now_ms + look_interval_ms;
  const Stamp stamp = stamp_of(file_);
  const bool changed = stamp != seen_;
  if (!changed && !unreadable_) return;
  seen_ = stamp;
  if (const auto read = read_file(); read) {
    log::info("token file read", {{"file", file_}, {"tokens", tokens_.size()}});
  } else if (changed) {
    log::warning("token file not read",
                 {{"file", file_}, {"why", read.error().message}, {"kept", tokens_.size()}});
  }
}

TokenTable::Stamp TokenTable::stamp_of(const std::string& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return {};
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size = status.st_size,
          .modified_ns = nanoseconds(status.st_mtim),
          .changed_ns = nanoseconds(status.st_ctim)};
}

Result<> TokenTable::read_file() {
  const auto text = read_regular_file(file_);
  unreadable_ = !text;  // it may be well again without having changed
  if (!text) return tl::unexpected(text.error());
  auto tokens = parse_tokens(*text);
  if (!tokens) return tl::unexpected(tokens.error());
  forget_others(std::exchange(tokens_, std::move(*tokens)));
  return {};
}

// The addresses that have gone from the file: nobody needs to know where their names lead now.
void TokenTable::forget_others(const Tokens& before) {
  std::unordered_set<std::string_view> addresses;
  for (const auto& [token, address] : tokens_) addresses.insert(address);
  for (const auto& [token, address] : before) {
    if (!addresses.contains(address)) registry_.forget(address);
  }
}

}  // namespace sluice::bridges
