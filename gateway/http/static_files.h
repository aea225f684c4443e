// StaticFiles: a folder, served (RFC 9110 for conditions and ranges).
//
// Opening and looking at a file blocks for as long as the disk takes; the root should be on a local
// disk. Objects are immutable, so that threads may share them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "http/request.h"
#include "http/response.h"

namespace sluice::http {

// The part of an open file that is to be sent. Owns the descriptor.
class FileBody {
 public:
  // Nothing of the file yet; see select().
  explicit FileBody(int fd) : fd_(fd) {}
  ~FileBody();
  FileBody(FileBody&& other) noexcept;
  FileBody& operator=(FileBody&& other) noexcept;

  // From now on, read() gives `length` bytes from `offset` on.
  void select(std::uint64_t offset, std::uint64_t length);

  // Bytes that are still to be read.
  std::uint64_t remaining() const { return remaining_; }

  // Reads the next piece, as much as `into` holds at most. Returns 0 only when nothing remains (or
  // `into` is empty). Fails if the file cannot be read or has become shorter: the length was
  // promised in the head, so the connection must then be cut.
  Result<std::size_t> read(MutableBytes into);

 private:
  int fd_;
  std::uint64_t offset_ = 0;
  std::uint64_t remaining_ = 0;
};

class StaticFiles {
 public:
  // `root` must be a folder that can be read. `index` is the file that stands for a folder.
  static Result<StaticFiles> open(std::string root, std::string index);

  struct Reply {
    Response head;                 // content_length is set if there is a body to follow
    std::optional<FileBody> body;  // to be sent after the head; nothing for HEAD and errors
  };

  // Answers GET and HEAD. `path` is normalised and percent-encoded, and is what remains below the
  // route's prefix; with or without a slash in front. No file outside of the root is ever opened,
  // whatever symbolic links say, and none whose name or folder begins with a dot, but .well-known.
  Reply respond(const Request& request, std::string_view path) const;

 private:
  StaticFiles(std::string root, std::string index)
      : root_(std::move(root)), index_(std::move(index)) {}

  std::string root_;
  std::string index_;
};

// The media type by a file name's extension, "application/octet-stream" if it is unknown.
std::string_view content_type(std::string_view file_name);

}  // namespace sluice::http
