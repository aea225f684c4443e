#include "http/beneath.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice::http {
namespace {

constexpr int read_flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

// A descriptor that is closed at the end of the block, errno untouched.
class ScopedFd {
 public:
  explicit ScopedFd(int fd) : fd_(fd) {}
  ~ScopedFd() {
    const int error = errno;
    if (fd_ >= 0) ::close(fd_);
    errno = error;
  }
  ScopedFd(const ScopedFd&) = delete;
  ScopedFd& operator=(const ScopedFd&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// openat2(2) has no wrapper in glibc 2.36.
int openat2_beneath(int root_fd, const char* path) {
  open_how how = {};
  how.flags = static_cast<std::uint64_t>(read_flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  int fd = -1;
  // The kernel gives up with EAGAIN when a rename somewhere might have moved "..": it says to
  // retry.
  for (int attempt = 0; attempt < 8; ++attempt) {
    fd = static_cast<int>(::syscall(SYS_openat2, root_fd, path, &how, sizeof how));
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) break;
  }
  return fd;
}

std::string proc_path(int fd) {
  return "/proc/self/fd/" + std::to_string(fd);
}

// Where an open descriptor's file is, without symbolic links.
std::optional<std::string> location(int fd) {
  std::array<char, PATH_MAX> path = {};
  const ssize_t size = ::readlink(proc_path(fd).c_str(), path.data(), path.size());
  if (size <= 0 || size == static_cast<ssize_t>(path.size())) return std::nullopt;
  return std::string(path.data(), static_cast<std::size_t>(size));
}

bool is_beneath(std::string_view path, std::string_view root) {
  if (root == "/" || path == root) return true;
  return path.size() > root.size() && path.starts_with(root) && path[root.size()] == '/';
}

}  // namespace

// O_PATH follows the links without opening what they lead to. What was found is then asked where it
// is, so nobody can swap a link between the check and the use.
int open_beneath_checked(int root_fd, const std::string& path) {
  const ScopedFd found(::openat(root_fd, path.c_str(), O_PATH | O_CLOEXEC));
  if (found.get() < 0) return -1;
  const std::optional<std::string> root = location(root_fd);
  const std::optional<std::string> file = location(found.get());
  if (!root || !file || !is_beneath(*file, *root)) {
    errno = EXDEV;
    return -1;
  }
  return ::open(proc_path(found.get()).c_str(), read_flags);
}

int open_beneath(const std::string& root, const std::string& path) {
  // Opened anew for every request: the root itself is often a link that a deployment turns.
  const ScopedFd root_fd(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (root_fd.get() < 0) return -1;
  const int fd = openat2_beneath(root_fd.get(), path.c_str());
  // ENOSYS: an old kernel or gVisor. EPERM: a seccomp filter that does not know the call.
  if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return fd;
  return open_beneath_checked(root_fd.get(), path);
}

}  // namespace sluice::http
