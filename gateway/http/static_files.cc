#include "http/static_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <utility>
#include <vector>

#include "base/field.h"
#include "base/percent.h"
#include "http/beneath.h"

namespace sluice::http {
namespace {

using Reply = StaticFiles::Reply;

Reply refuse(int status, std::string_view message, std::vector<Header> headers = {}) {
  return {refusal(status, message, std::move(headers)), std::nullopt};
}

Reply not_found() {
  return refuse(404, "there is no such file");
}

Reply refuse_errno(int error) {
  switch (error) {
    case EACCES:
      return refuse(403, "the file cannot be read");
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return refuse(503, "too many files are open");
    case EAGAIN:
      return refuse(503, "the files are being moved");
    default:
      return not_found();  // ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EXDEV: outside of the root
  }
}

// The file's name below the root, decoded; nothing if a segment is hidden. A normalised path has
// neither ".." nor an escaped slash nor NUL; a segment ".." would count as hidden anyway.
std::optional<std::string> file_name(std::string_view path) {
  std::string name = percent_decode(path);
  name.erase(0, name.find_first_not_of('/'));
  if (name.find('\0') != std::string::npos) return std::nullopt;
  for (std::size_t at = 0; at < name.size();
       at = std::min(name.find('/', at), name.size() - 1) + 1) {
    const std::string_view rest = std::string_view(name).substr(at);
    const std::string_view segment = rest.substr(0, rest.find('/'));
    if (segment.starts_with('.') && segment != ".well-known") return std::nullopt;
  }
  return name;
}

std::string entity_tag(const struct stat& file) {
  const auto nanoseconds = static_cast<unsigned long long>(file.st_mtim.tv_sec) * 1'000'000'000ULL +
                           static_cast<unsigned long long>(file.st_mtim.tv_nsec);
  std::array<char, 64> tag = {};
  std::snprintf(tag.data(), tag.size(), "\"%llx-%llx-%llx\"",
                static_cast<unsigned long long>(file.st_size), nanoseconds,
                static_cast<unsigned long long>(file.st_ino));
  return tag.data();
}

// RFC 9110 5.6.7: the preferred form and the two obsolete ones. Nothing if it is none of them.
std::optional<std::time_t> parse_date(const std::string& text) {
  for (const char* format :
       {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"}) {
    std::tm utc = {};
    const char* const end = strptime(text.c_str(), format, &utc);
    if (end != nullptr && *end == '\0') return timegm(&utc);
  }
  return std::nullopt;
}

// RFC 9110 8.8.3.2: the weak comparison does not look at "W/".
std::string_view without_weakness(std::string_view tag) {
  return tag.starts_with("W/") ? tag.substr(2) : tag;
}

// RFC 9110 13.2.2, its first two steps: whether the client is out for another version of the file.
// If-Match (13.1.1: a strong comparison), if it came, decides alone.
bool is_other_version(const Request& request, const std::string& tag,
                      std::optional<std::time_t> modified) {
  if (const auto tags = request.header("if-match")) {
    const std::vector<std::string_view> list = split_list(*tags);
    return std::none_of(list.begin(), list.end(),
                        [&tag](std::string_view wanted) { return wanted == "*" || wanted == tag; });
  }
  const auto until = parse_date(request.header("if-unmodified-since").value_or(""));
  return until && modified && *modified > *until;
}

// RFC 9110 13.2.2: whether the client's copy is still good. If-None-Match, if it came, decides
// alone.
bool is_not_modified(const Request& request, const std::string& tag,
                     std::optional<std::time_t> modified) {
  if (const auto tags = request.header("if-none-match")) {
    const std::vector<std::string_view> list = split_list(*tags);
    return std::any_of(list.begin(), list.end(), [&tag](std::string_view known) {
      return known == "*" || without_weakness(known) == tag;
    });
  }
  const auto since = parse_date(request.header("if-modified-since").value_or(""));
  return since && modified && *modified <= *since;
}

struct Range {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  // 0: the range cannot be satisfied
};

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (rest != end || text.empty()) return std::nullopt;
  // RFC 9110 14.1.2 lets a last position exceed the file; so may one that exceeds the integer.
  if (error == std::errc::result_out_of_range) return UINT64_MAX;
  if (error != std::errc{}) return std::nullopt;
  return number;
}

// RFC 9110 14.1.2: "-5" is the last five bytes, "5-" all from the sixth on, "5-9" five of them.
std::optional<Range> parse_range(std::string_view text, std::uint64_t size) {
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto first = parse_number(text.substr(0, dash));
  const auto last = parse_number(text.substr(dash + 1));
  if (dash == 0) {
    if (!last) return std::nullopt;
    const std::uint64_t length = std::min(*last, size);
    return Range{size - length, length};
  }
  if (!first || (!last && dash + 1 < text.size()) || (last && *last < *first)) return std::nullopt;
  if (*first >= size) return Range{};
  return Range{*first, std::min(last.value_or(UINT64_MAX), size - 1) - *first + 1};
}

// The one range that is asked for. Nothing, and so the whole file, if there is none, if it is not
// understood, if there are several (RFC 9110 14.2: a server may ignore Range), or if If-Range says
// that the client's part is of another version (13.1.5: a strong comparison).
std::optional<Range> requested_range(const Request& request, const std::string& tag,
                                     std::optional<std::time_t> modified, std::uint64_t size) {
  const std::optional<std::string> value = request.header("range");
  if (!value || request.method != "GET") return std::nullopt;
  if (!equals_ignoring_case(std::string_view(*value).substr(0, 6), "bytes=")) return std::nullopt;
  const std::optional<std::string> condition = request.header("if-range");
  const bool fits =
      !condition || *condition == tag || (modified && *condition == http_date(*modified));
  if (!fits) return std::nullopt;
  const std::vector<std::string_view> ranges = split_list(std::string_view(*value).substr(6));
  return ranges.size() == 1 ? parse_range(ranges.front(), size) : std::nullopt;
}

std::string content_range(const Range& range, std::uint64_t size) {
  const std::string whole = std::to_string(size);
  if (range.length == 0) return "bytes */" + whole;
  return "bytes " + std::to_string(range.offset) + "-" +
         std::to_string(range.offset + range.length - 1) + "/" + whole;
}

Reply serve(const Request& request, FileBody file, const struct stat& status,
            std::string_view name) {
  const auto size = static_cast<std::uint64_t>(status.st_size);
  const std::string tag = entity_tag(status);
  // RFC 9110 8.8.2.1: never later than the response itself. Of a file from the future no date is
  // told.
  std::optional<std::time_t> modified = status.st_mtim.tv_sec;
  if (*modified > std::time(nullptr)) modified.reset();
  if (is_other_version(request, tag, modified)) {
    return refuse(412, "the file is of another version");
  }
  Reply reply;
  reply.head.headers = {{"ETag", tag}, {"Cache-Control", "no-cache"}};
  if (modified) reply.head.headers.push_back({"Last-Modified", http_date(*modified)});
  if (is_not_modified(request, tag, modified)) {
    reply.head.status = 304;
    return reply;
  }
  const std::optional<Range> range = requested_range(request, tag, modified, size);
  if (range && range->length == 0) {
    return refuse(416, "the file is shorter", {{"Content-Range", content_range(*range, size)}});
  }
  reply.head.status = range ? 206 : 200;
  if (range) reply.head.headers.push_back({"Content-Range", content_range(*range, size)});
  reply.head.headers.push_back({"Content-Type", std::string(content_type(name))});
  reply.head.headers.push_back({"Accept-Ranges", "bytes"});
  reply.head.headers.push_back({"X-Content-Type-Options", "nosniff"});
  reply.head.content_length = range ? range->length : size;
  if (request.method == "GET") {
    file.select(range ? range->offset : 0, *reply.head.content_length);
    reply.body = std::move(file);
  }
  return reply;
}

// RFC 9110 15.4.2. Relative links of an index only work below a slash.
Reply redirect_to_folder(const Request& request) {
  std::string location = request.path + "/";
  if (!request.query.empty()) location += "?" + request.query;
  return refuse(301, "this is a folder", {{"Location", location}});
}

}  // namespace

FileBody::~FileBody() {
  if (fd_ >= 0) ::close(fd_);
}

FileBody::FileBody(FileBody&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      offset_(other.offset_),
      remaining_(std::exchange(other.remaining_, 0)) {}

FileBody& FileBody::operator=(FileBody&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(offset_, other.offset_);
  std::swap(remaining_, other.remaining_);
  return *this;
}

void FileBody::select(std::uint64_t offset, std::uint64_t length) {
  offset_ = offset;
  remaining_ = length;
}

Result<std::size_t> FileBody::read(MutableBytes into) {
  const std::size_t wanted =
      static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), remaining_));
  if (wanted == 0) return std::size_t{0};
  ssize_t size = -1;
  do {
    size = ::pread(fd_, into.data(), wanted, static_cast<off_t>(offset_));
  } while (size < 0 && errno == EINTR);
  if (size < 0) return fail_errno("reading a static file", errno);
  if (size == 0) return fail("a static file became shorter while it was sent");
  offset_ += static_cast<std::uint64_t>(size);
  remaining_ -= static_cast<std::uint64_t>(size);
  return static_cast<std::size_t>(size);
}

Result<StaticFiles> StaticFiles::open(std::string root, std::string index) {
  const int fd = ::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail_errno("static root " + root, errno);
  ::close(fd);
  return StaticFiles(std::move(root), std::move(index));
}

Reply StaticFiles::respond(const Request& request, std::string_view path) const {
  if (request.method != "GET" && request.method != "HEAD") {
    return refuse(405, "static files are read with GET or HEAD", {{"Allow", "GET, HEAD"}});
  }
  std::optional<std::string> name = file_name(path);
  if (!name) return not_found();
  const bool folder = name->empty() || name->ends_with('/');
  if (folder) *name += index_;
  const int fd = open_beneath(root_, *name);
  if (fd < 0) return refuse_errno(errno);
  FileBody file(fd);
  struct stat status = {};
  if (::fstat(fd, &status) < 0) return refuse_errno(errno);
  if (S_ISDIR(status.st_mode) && !folder) return redirect_to_folder(request);
  if (!S_ISREG(status.st_mode)) return not_found();
  return serve(request, std::move(file), status, *name);
}

std::string_view content_type(std::string_view file_name) {
  using Type = std::pair<std::string_view, std::string_view>;
  static constexpr std::array types = {
      Type{"html", "text/html; charset=utf-8"},
      Type{"htm", "text/html; charset=utf-8"},
      Type{"css", "text/css; charset=utf-8"},
      Type{"js", "text/javascript; charset=utf-8"},
      Type{"mjs", "text/javascript; charset=utf-8"},
      Type{"json", "application/json"},
      Type{"map", "application/json"},
      Type{"webmanifest", "application/manifest+json"},
      Type{"svg", "image/svg+xml"},
      Type{"png", "image/png"},
      Type{"jpg", "image/jpeg"},
      Type{"jpeg", "image/jpeg"},
      Type{"gif", "image/gif"},
      Type{"webp", "image/webp"},
      Type{"avif", "image/avif"},
      Type{"ico", "image/vnd.microsoft.icon"},
      Type{"txt", "text/plain; charset=utf-8"},
      Type{"md", "text/markdown; charset=utf-8"},
      Type{"csv", "text/csv; charset=utf-8"},
      Type{"xml", "application/xml"},
      Type{"pdf", "application/pdf"},
      Type{"wasm", "application/wasm"},
      Type{"woff", "font/woff"},
      Type{"woff2", "font/woff2"},
      Type{"ttf", "font/ttf"},
      Type{"mp3", "audio/mpeg"},
      Type{"mp4", "video/mp4"},
      Type{"webm", "video/webm"},
      Type{"zip", "application/zip"},
      Type{"gz", "application/gzip"},
  };
  const std::size_t dot = file_name.rfind('.');
  const std::string_view extension =
      dot == std::string_view::npos ? std::string_view{} : file_name.substr(dot + 1);
  for (const auto& [name, type] : types) {
    if (equals_ignoring_case(name, extension)) return type;
  }
  return "application/octet-stream";
}

}  // namespace sluice::http
