#include "http/static_files.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <ostream>

#include "http/beneath.h"
#include "http/target.h"

namespace sluice::http {
namespace {

namespace fs = std::filesystem;

// A folder with a root to serve and a secret beside it.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "sluice-static-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    base_ = name;
    fs::create_directories(root() / "sub/.hidden");
    fs::create_directories(root() / ".well-known");
    fs::create_directories(root() / "..2026_01");
    fs::create_directories(base_ / "root-twin");
    write("secret.txt", "secret");
    write("root-twin/secret.txt", "secret");
    write("root/index.html", "<!doctype html>");
    write("root/digits.txt", "0123456789");
    write("root/empty.txt", "");
    write("root/a b\xe4\xbd\xa0.txt", "name");
    write("root/%2e.txt", "percent");
    write("root/sub/index.html", "sub");
    write("root/.env", "secret");
    write("root/sub/.hidden/x.txt", "secret");
    write("root/.well-known/security.txt", "contact");
    write("root/..2026_01/config.js", "config");
    fs::create_symlink("..2026_01", root() / "..data");
    fs::create_symlink("..data/config.js", root() / "config.js");
    fs::create_symlink("../secret.txt", root() / "escape.txt");
    fs::create_symlink(base_ / "secret.txt", root() / "absolute.txt");
    fs::create_symlink("..", root() / "up");
    fs::create_symlink("../root-twin", root() / "twin");
    fs::create_symlink("loop", root() / "loop");
    fs::create_symlink("/proc/self/environ", root() / "environ");
    REQUIRE(::mkfifo((root() / "fifo").c_str(), 0600) == 0);
  }
  ~Folder() { fs::remove_all(base_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  fs::path root() const { return base_ / "root"; }
  fs::path base() const { return base_; }
  void write(const std::string& name, std::string_view text) {
    std::ofstream(base_ / name) << text;
  }

 private:
  fs::path base_;
};

struct Answer {
  int status;
  std::string body;  // of the file
  Response head;

  std::string header(std::string_view name) const {
    for (const Header& field : head.headers) {
      if (field.name == name) return field.value;
    }
    return "";
  }
};

Answer ask(const StaticFiles& files, const std::string& path, std::vector<Header> headers = {},
           const std::string& method = "GET") {
  Request request;
  request.method = method;
  request.path = path;
  request.headers = std::move(headers);
  StaticFiles::Reply reply = files.respond(request, path);
  Answer answer{reply.head.status, "", reply.head};
  std::array<std::uint8_t, 4> piece = {};
  while (reply.body && reply.body->remaining() > 0) {
    const Result<std::size_t> size = reply.body->read(piece);
    REQUIRE(size.has_value());
    answer.body += as_text(Bytes(piece).first(*size));
  }
  return answer;
}

StaticFiles open(const Folder& folder) {
  Result<StaticFiles> files = StaticFiles::open(folder.root().string(), "index.html");
  REQUIRE(files.has_value());
  return *files;
}

TEST_CASE("files are served with type and length") {
  const Folder folder;
  const StaticFiles files = open(folder);
  const Answer index = ask(files, "/");
  CHECK(index.status == 200);
  CHECK(index.body == "<!doctype html>");
  CHECK(index.header("Content-Type") == "text/html; charset=utf-8");
  CHECK(index.header("Cache-Control") == "no-cache");
  CHECK(index.head.content_length == 15);
  CHECK(ask(files, "").body == "<!doctype html>");
  CHECK(ask(files, "digits.txt").body == "0123456789");
  CHECK(ask(files, "/sub/").body == "sub");
  CHECK(ask(files, "/empty.txt").status == 200);
  CHECK(ask(files, "/empty.txt").head.content_length == 0);
  CHECK(ask(files, "/a%20b%E4%BD%A0.txt").body == "name");
  CHECK(ask(files, "/%252e.txt").body == "percent");
  CHECK(ask(files, "/.well-known/security.txt").body == "contact");
}

TEST_CASE("only GET and HEAD are answered (RFC 9110 15.5.6)") {
  const Folder folder;
  const StaticFiles files = open(folder);
  const Answer post = ask(files, "/digits.txt", {}, "POST");
  CHECK(post.status == 405);
  CHECK(post.header("Allow") == "GET, HEAD");
  const Answer head = ask(files, "/digits.txt", {}, "HEAD");
  CHECK(head.status == 200);
  CHECK(head.head.content_length == 10);
  CHECK(head.body == "");
}

TEST_CASE("a folder without slash is redirected, with the query (RFC 9110 15.4.2)") {
  const Folder folder;
  const StaticFiles files = open(folder);
  Request request;
  request.method = "GET";
  request.path = "/app/sub";
  request.query = "a=b";
  const StaticFiles::Reply reply = files.respond(request, "/sub");
  CHECK(reply.head.status == 301);
  CHECK(reply.head.headers.front().name == "Location");
  CHECK(reply.head.headers.front().value == "/app/sub/?a=b");
}

TEST_CASE("what is not there or not a file is not found") {
  const Folder folder;
  const StaticFiles files = open(folder);
  for (const char* path :
       {"/none", "/digits.txt/", "/digits.txt/x", "/.well-known/", "/fifo", "/loop"}) {
    CAPTURE(path);
    CHECK(ask(files, path).status == 404);
  }
  CHECK(ask(files, "/" + std::string(5000, 'a')).status == 404);
}

TEST_CASE("nothing outside of the root is served") {
  const Folder folder;
  const StaticFiles files = open(folder);
  for (const char* path :
       {"/escape.txt", "/absolute.txt", "/up/secret.txt", "/up/root/digits.txt", "/twin/secret.txt",
        "/../secret.txt", "/%2e%2e/secret.txt", "/environ", "/%2Fetc/passwd", "//etc/passwd",
        "/sub/../../secret.txt", "/digits.txt%00"}) {
    CAPTURE(path);
    CHECK(ask(files, path).status == 404);
  }
}

TEST_CASE("names that begin with a dot are not served") {
  const Folder folder;
  const StaticFiles files = open(folder);
  for (const char* path : {"/.env", "/sub/.hidden/x.txt", "/..2026_01/config.js",
                           "/..data/config.js", "/%2eenv", "/.", "/.well-known/.x"}) {
    CAPTURE(path);
    CHECK(ask(files, path).status == 404);
  }
}

TEST_CASE("links that stay beneath the root are followed") {
  const Folder folder;
  CHECK(ask(open(folder), "/config.js").body == "config");
}

TEST_CASE("without openat2 the same files are opened and refused") {
  const Folder folder;
  const int root = ::open(folder.root().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  REQUIRE(root >= 0);
  for (const char* name : {"digits.txt", "config.js", "sub/index.html", "fifo"}) {
    CAPTURE(name);
    const int fd = open_beneath_checked(root, name);
    CHECK(fd >= 0);
    ::close(fd);
  }
  for (const char* name : {"escape.txt", "absolute.txt", "up/secret.txt", "twin/secret.txt",
                           "../secret.txt", "/etc/passwd", "none", "loop", "environ"}) {
    CAPTURE(name);
    CHECK(open_beneath_checked(root, name) == -1);
  }
  ::close(root);
}

TEST_CASE("a root that is a link may be turned while serving") {
  Folder folder;
  fs::create_symlink("root", folder.base() / "current");
  const auto files = StaticFiles::open((folder.base() / "current").string(), "index.html");
  REQUIRE(files.has_value());
  CHECK(ask(*files, "/digits.txt").status == 200);
  fs::remove(folder.base() / "current");
  fs::create_symlink("root-twin", folder.base() / "current");
  CHECK(ask(*files, "/digits.txt").status == 404);
  CHECK(ask(*files, "/secret.txt").status == 200);
}

TEST_CASE("a root that is no folder is an error at start") {
  const Folder folder;
  const auto missing = StaticFiles::open((folder.base() / "none").string(), "index.html");
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().message.find("No such file or directory") != std::string::npos);
  CHECK_FALSE(StaticFiles::open((folder.base() / "secret.txt").string(), "x").has_value());
}

TEST_CASE("If-None-Match is compared weakly and goes first (RFC 9110 13.1.2)") {
  const Folder folder;
  const StaticFiles files = open(folder);
  const Answer first = ask(files, "/digits.txt");
  const std::string tag = first.header("ETag");
  REQUIRE(tag.size() > 2);
  for (const std::string& value : {tag, "W/" + tag, "\"other\", " + tag, std::string("*")}) {
    CAPTURE(value);
    const Answer again = ask(files, "/digits.txt", {{"If-None-Match", value}});
    CHECK(again.status == 304);
    CHECK(again.header("ETag") == tag);
    CHECK(again.body == "");
  }
  CHECK(ask(files, "/digits.txt", {{"If-None-Match", "\"other\""}}).status == 200);
  CHECK(ask(files, "/digits.txt",
            {{"If-None-Match", "\"other\""}, {"If-Modified-Since", first.header("Last-Modified")}})
            .status == 200);
}

TEST_CASE("If-Match and If-Unmodified-Since ask for one version (RFC 9110 13.1.1, 13.1.4)") {
  const Folder folder;
  const StaticFiles files = open(folder);
  const Answer first = ask(files, "/digits.txt");
  const std::string tag = first.header("ETag");
  for (const std::string& value : {tag, std::string("*"), "\"other\", " + tag}) {
    CAPTURE(value);
    CHECK(ask(files, "/digits.txt", {{"If-Match", value}}).status == 200);
  }
  // The comparison is a strong one, and the condition goes before all others.
  for (const std::string& value : {std::string("\"other\""), "W/" + tag}) {
    CAPTURE(value);
    const Answer refused = ask(files, "/digits.txt", {{"If-Match", value}, {"Range", "bytes=5-"}});
    CHECK(refused.status == 412);
  }
  CHECK(
      ask(files, "/digits.txt", {{"If-Unmodified-Since", first.header("Last-Modified")}}).status ==
      200);
  const std::string before = "Sun, 06 Nov 1994 08:49:37 GMT";
  CHECK(ask(files, "/digits.txt", {{"If-Unmodified-Since", before}}).status == 412);
  CHECK(ask(files, "/digits.txt", {{"If-Match", tag}, {"If-Unmodified-Since", before}}).status ==
        200);
}

TEST_CASE("a file from the future has no date, but a tag (RFC 9110 8.8.2.1)") {
  const Folder folder;
  const StaticFiles files = open(folder);
  fs::last_write_time(folder.root() / "digits.txt",
                      fs::file_time_type::clock::now() + std::chrono::hours(24));
  const Answer answer = ask(files, "/digits.txt");
  CHECK(answer.header("Last-Modified") == "");
  const std::string now = http_date(std::time(nullptr));
  CHECK(ask(files, "/digits.txt", {{"If-Unmodified-Since", now}}).status == 200);
  CHECK(ask(files, "/digits.txt", {{"If-Match", answer.header("ETag")}}).status == 200);
}

TEST_CASE("a changed file has another tag") {
  Folder folder;
  const StaticFiles files = open(folder);
  const std::string before = ask(files, "/digits.txt").header("ETag");
  folder.write("root/digits.txt", "01234567890");
  CHECK(ask(files, "/digits.txt").header("ETag") != before);
}

TEST_CASE("If-Modified-Since understands all three dates (RFC 9110 13.1.3, 5.6.7)") {
  const Folder folder;
  const StaticFiles files = open(folder);
  const std::array<timespec, 2> times = {timespec{784111777, 5}, timespec{784111777, 5}};
  REQUIRE(::utimensat(AT_FDCWD, (folder.root() / "digits.txt").c_str(), times.data(), 0) == 0);
  CHECK(ask(files, "/digits.txt").header("Last-Modified") == "Sun, 06 Nov 1994 08:49:37 GMT");
  const auto since = [&](const char* date) {
    return ask(files, "/digits.txt", {{"If-Modified-Since", date}}).status;
  };
  CHECK(since("Sun, 06 Nov 1994 08:49:37 GMT") == 304);
  CHECK(since("Sunday, 06-Nov-94 08:49:37 GMT") == 304);
  CHECK(since("Sun Nov  6 08:49:37 1994") == 304);
  CHECK(since("Sun, 06 Nov 1994 08:49:36 GMT") == 200);
  CHECK(since("yesterday") == 200);
  CHECK(since("Sun, 06 Nov 1994 08:49:37 GMT and more") == 200);
}

TEST_CASE("one range is served (RFC 9110 14.1.2, 15.3.7)") {
  const Folder folder;
  const StaticFiles files = open(folder);
  struct Row {
    const char* range;
    const char* body;
    const char* content_range;
  };
  for (const Row& row : std::initializer_list<Row>{
           {"bytes=0-0", "0", "bytes 0-0/10"},
           {"bytes=2-5", "2345", "bytes 2-5/10"},
           {"Bytes=7-", "789", "bytes 7-9/10"},
           {"bytes=7-999", "789", "bytes 7-9/10"},
           {"bytes=7-99999999999999999999999", "789", "bytes 7-9/10"},
           {"bytes=-3", "789", "bytes 7-9/10"},
           {"bytes=-999", "0123456789", "bytes 0-9/10"},
       }) {
    CAPTURE(row.range);
    const Answer answer = ask(files, "/digits.txt", {{"Range", row.range}});
    CHECK(answer.status == 206);
    CHECK(answer.body == row.body);
    CHECK(answer.header("Content-Range") == row.content_range);
    CHECK(answer.head.content_length == answer.body.size());
  }
}

TEST_CASE("a range behind the end is refused with the length (RFC 9110 15.5.17)") {
  const Folder folder;
  const StaticFiles files = open(folder);
  for (const char* range :
       {"bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999999-"}) {
    CAPTURE(range);
    const Answer answer = ask(files, "/digits.txt", {{"Range", range}});
    CHECK(answer.status == 416);
    CHECK(answer.header("Content-Range") == "bytes */10");
  }
  CHECK(ask(files, "/empty.txt", {{"Range", "bytes=0-"}}).status == 416);
}

TEST_CASE("a range that is not understood, or several, give the whole file (RFC 9110 14.2)") {
  const Folder folder;
  const StaticFiles files = open(folder);
  for (const char* range : {"bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=-", "bytes=5-2",
                            "bytes=a-b", "bytes=1-b", "bytes=+1-2", "bytes=1", "by", ""}) {
    CAPTURE(range);
    const Answer answer = ask(files, "/digits.txt", {{"Range", range}});
    CHECK(answer.status == 200);
    CHECK(answer.body == "0123456789");
    CHECK(answer.header("Accept-Ranges") == "bytes");
  }
}

TEST_CASE("If-Range gives the part only of the same version (RFC 9110 13.1.5)") {
  const Folder folder;
  const StaticFiles files = open(folder);
  const Answer whole = ask(files, "/digits.txt");
  const auto with = [&](const std::string& condition) {
    return ask(files, "/digits.txt", {{"Range", "bytes=1-2"}, {"If-Range", condition}}).status;
  };
  CHECK(with(whole.header("ETag")) == 206);
  CHECK(with(whole.header("Last-Modified")) == 206);
  CHECK(with("W/" + whole.header("ETag")) == 200);
  CHECK(with("\"other\"") == 200);
  CHECK(with("Sun, 06 Nov 1994 08:49:37 GMT") == 200);
}

TEST_CASE("a file that becomes shorter while it is sent is an error") {
  Folder folder;
  Request request;
  request.method = "GET";
  StaticFiles::Reply reply = open(folder).respond(request, "/digits.txt");
  REQUIRE(reply.body.has_value());
  folder.write("root/digits.txt", "0123");
  std::array<std::uint8_t, 16> piece = {};
  CHECK(reply.body->read(piece) == std::size_t{4});
  CHECK_FALSE(reply.body->read(piece).has_value());
}

TEST_CASE("no descriptor is leaked") {
  const Folder folder;
  const StaticFiles files = open(folder);
  const auto count = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  const auto before = count();
  for (const char* path : {"/", "/digits.txt", "/none", "/sub", "/fifo", "/escape.txt", "/.env"}) {
    ask(files, path);
    ask(files, path, {}, "HEAD");
    ask(files, path, {{"If-None-Match", "*"}});
    ask(files, path, {{"Range", "bytes=99-"}});
  }
  CHECK(count() == before);
}

TEST_CASE("content types come from the extension, in any case") {
  CHECK(content_type("a/b.HTML") == "text/html; charset=utf-8");
  CHECK(content_type("x.mjs") == "text/javascript; charset=utf-8");
  CHECK(content_type("x.wasm") == "application/wasm");
  CHECK(content_type("x.tar.gz") == "application/gzip");
  CHECK(content_type("README") == "application/octet-stream");
  CHECK(content_type("x.") == "application/octet-stream");
}

}  // namespace
}  // namespace sluice::http
