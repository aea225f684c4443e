// The load generator of script/bench: many clients on one thread and one epoll.
//
//   bench_load echo        each connection sends a batch of messages, waits for their echoes,
//                          compares them with what it sent, and sends the next batch
//   bench_load idle        opens the connections, has one message echoed on each, and keeps them
//   bench_load handshakes  opens a connection, closes it with a closing handshake, and so on
//
// Prints one line of JSON. The CPU time of the server is read from its clock at both ends of the
// measured time, so that it is of these messages and of no others.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using Buffer = std::vector<std::uint8_t>;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "bench_load: %s\n", what.c_str());
  std::exit(1);
}

[[noreturn]] void die_errno(const std::string& what) {
  die(what + ": " + std::strerror(errno));
}

std::uint64_t read_clock(clockid_t clock) {
  timespec time{};
  if (clock_gettime(clock, &time) != 0) die_errno("clock_gettime");
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}

std::uint64_t now_ns() {
  return read_clock(CLOCK_MONOTONIC);
}

double seconds(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

// ---- What to do

enum class Mode { echo, idle, handshakes };

struct Options {
  Mode mode = Mode::echo;
  std::uint16_t port = 0;
  bool raw = false;      // no WebSocket: the payloads alone
  bool stream = false;   // binary messages, whose boundaries may come back elsewhere
  bool deflate = false;  // JSON with permessage-deflate (RFC 7692), compressed once and for all
  bool tls = false;
  std::string path = "/echo";
  std::size_t connections = 1;
  std::size_t pipeline = 1;  // messages of a batch
  std::size_t size = 20;     // bytes of a payload
  double seconds = 1;
  std::uint64_t messages = 0;  // exactly so many instead of `seconds`, spread over the connections
  double warmup_seconds = 0.2;
  bool wait = false;  // for a line on stdin, before and after the run
  pid_t server_pid = 0;
  bool server_forks = false;     // its CPU time is that of its children too
  unsigned limit_seconds = 300;  // whatever happens, it ends then
};

void print_usage() {
  std::fputs(
      "usage: bench_load echo|idle|handshakes --port N [--raw | --stream | --deflate] [--tls]\n"
      "         [--path P] [--connections N] [--pipeline N] [--size BYTES] [--seconds S | "
      "--messages N] [--warmup S]\n"
      "         [--wait] [--server-pid PID [--server-forks]] [--limit S]\n",
      stderr);
}

Mode parse_mode(std::string_view name) {
  if (name == "echo") return Mode::echo;
  if (name == "idle") return Mode::idle;
  if (name == "handshakes") return Mode::handshakes;
  print_usage();
  std::exit(2);
}

void set_option(Options& options, std::string_view name, const char* value) {
  if (name == "--port") {
    options.port = static_cast<std::uint16_t>(std::atoi(value));
  } else if (name == "--path") {
    options.path = value;
  } else if (name == "--connections") {
    options.connections = std::strtoull(value, nullptr, 10);
  } else if (name == "--pipeline") {
    options.pipeline = std::strtoull(value, nullptr, 10);
  } else if (name == "--size") {
    options.size = std::strtoull(value, nullptr, 10);
  } else if (name == "--seconds") {
    options.seconds = std::atof(value);
  } else if (name == "--messages") {
    options.messages = std::strtoull(value, nullptr, 10);
  } else if (name == "--warmup") {
    options.warmup_seconds = std::atof(value);
  } else if (name == "--server-pid") {
    options.server_pid = std::atoi(value);
  } else if (name == "--limit") {
    options.limit_seconds = static_cast<unsigned>(std::atoi(value));
  } else {
    print_usage();
    std::exit(2);
  }
}

Options parse(int argc, char** argv) {
  Options options;
  options.mode = parse_mode(argc > 1 ? argv[1] : "");
  for (int i = 2; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--raw") {
      options.raw = true;
    } else if (name == "--stream") {
      options.stream = true;
    } else if (name == "--deflate") {
      options.deflate = true;
    } else if (name == "--tls") {
      options.tls = true;
    } else if (name == "--server-forks") {
      options.server_forks = true;
    } else if (name == "--wait") {
      options.wait = true;
    } else {
      set_option(options, name, i + 1 < argc ? argv[++i] : "");
    }
  }
  if (options.port == 0 || options.connections == 0 || options.pipeline == 0) {
    print_usage();
    std::exit(2);
  }
  return options;
}

// ---- Bytes on the wire

std::mt19937 random_bits(42);  // the same in every run

// RFC 6455 5.2.
void append_header(Buffer& out, std::uint8_t first, std::size_t size, bool masked) {
  const std::uint8_t mask_bit = masked ? 0x80 : 0;
  out.push_back(first);
  if (size < 126) {
    out.push_back(static_cast<std::uint8_t>(mask_bit | size));
    return;
  }
  const int length_bytes = size < 65536 ? 2 : 8;
  out.push_back(static_cast<std::uint8_t>(mask_bit | (length_bytes == 2 ? 126 : 127)));
  for (int i = length_bytes - 1; i >= 0; --i) {
    out.push_back(static_cast<std::uint8_t>(size >> (8 * i)));
  }
}

// RFC 6455 5.3: a key for each frame.
void append_masked(Buffer& out, std::string_view payload) {
  const std::uint32_t key = static_cast<std::uint32_t>(random_bits());
  std::uint8_t mask[4];
  std::memcpy(mask, &key, sizeof mask);
  out.insert(out.end(), mask, mask + 4);
  for (std::size_t i = 0; i < payload.size(); ++i) {
    out.push_back(static_cast<std::uint8_t>(static_cast<std::uint8_t>(payload[i]) ^ mask[i % 4]));
  }
}

std::string random_text(std::size_t size) {
  std::string text(size, ' ');
  for (char& letter : text) letter = static_cast<char>('a' + random_bits() % 26);
  return text;
}

// Records as services send them: the same keys, a few names, and numbers that differ.
std::string random_json(std::size_t size) {
  constexpr std::array names = {"alice", "bob", "carol", "dave"};
  std::string text = "[";
  while (text.size() < size) {
    text += "{\"id\":" + std::to_string(random_bits() % 100000) + ",\"user\":\"" +
            names[random_bits() % names.size()] +
            "\",\"status\":\"delivered\",\"total\":" + std::to_string(random_bits() % 1000) +
            ".50,\"currency\":\"EUR\"},";
  }
  text.resize(size);
  return text;
}

// RFC 7692 7.2.1, without context.
std::string deflated(const std::string& text) {
  z_stream stream{};
  if (deflateInit2(&stream, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK) die("deflateInit2");
  std::string out(deflateBound(&stream, text.size()) + 16, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  if (deflate(&stream, Z_SYNC_FLUSH) != Z_OK) die("deflate");
  out.resize(stream.total_out - 4);  // without the tail 00 00 FF FF
  deflateEnd(&stream);
  return out;
}

// What a connection sends at once, and what has to come back: with permessage-deflate, inflated.
struct Batch {
  Buffer request;
  Buffer response;
};

Batch make_batch(const Options& options) {
  const std::uint8_t frame = options.stream ? 0x82 : options.deflate ? 0xC1 : 0x81;
  Batch batch;
  for (std::size_t i = 0; i < options.pipeline; ++i) {
    const std::string payload =
        options.deflate ? random_json(options.size) : random_text(options.size);
    if (options.deflate) {
      const std::string compressed = deflated(payload);
      append_header(batch.request, frame, compressed.size(), true);
      append_masked(batch.request, compressed);
    } else if (options.raw) {
      batch.request.insert(batch.request.end(), payload.begin(), payload.end());
    } else {
      append_header(batch.request, frame, payload.size(), true);
      append_masked(batch.request, payload);
      if (!options.stream) append_header(batch.response, frame, payload.size(), false);
    }
    batch.response.insert(batch.response.end(), payload.begin(), payload.end());
  }
  return batch;
}

// A Close frame with code 1000, masked with zeros; and the server's.
constexpr std::array<std::uint8_t, 8> close_request = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8};
constexpr std::array<std::uint8_t, 4> close_response = {0x88, 0x02, 0x03, 0xE8};

std::string make_upgrade(const Options& options) {
  return "GET " + options.path + " HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(options.port) +
         "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" +
         (options.deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n" : "\r\n");
}

// RFC 6455 1.3: what that key has to be answered with.
constexpr std::string_view upgrade_accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

// Takes the headers out of what a server sends (RFC 6455 5.2).
class Unframer {
 public:
  struct Piece {
    std::uint8_t* bytes;
    std::size_t size;
    bool frame_end;
  };

  // The next piece of a payload, from the front of `bytes`; without bytes if there is none yet.
  Piece next(std::uint8_t*& bytes, std::size_t& size) {
    while (left_ == 0 && size > 0) {
      header_[header_size_++] = *bytes++;
      --size;
      if (header_size_ >= 2 && header_size_ == wanted()) begin_payload();
    }
    const Piece piece{bytes, std::min<std::uint64_t>(left_, size), left_ != 0 && left_ <= size};
    bytes += piece.size;
    size -= piece.size;
    left_ -= piece.size;
    return piece;
  }

 private:
  std::size_t wanted() const { return header_[1] < 126 ? 2 : header_[1] == 126 ? 4 : 10; }
  void begin_payload() {
    left_ = header_size_ == 2 ? header_[1] : 0;
    for (std::size_t i = 2; i < header_size_; ++i) left_ = left_ << 8 | header_[i];
    header_size_ = 0;
  }

  std::array<std::uint8_t, 10> header_{};
  std::size_t header_size_ = 0;
  std::uint64_t left_ = 0;
};

// Inflates what a server sends, with or without context takeover. A message is one frame.
class Inflation {
 public:
  Inflation() {
    if (inflateInit2(&stream_, -15) != Z_OK) die("inflateInit2");
  }
  ~Inflation() { inflateEnd(&stream_); }
  Inflation(const Inflation&) = delete;
  Inflation& operator=(const Inflation&) = delete;

  void append(const Unframer::Piece& piece, Buffer& out) {
    std::uint8_t tail[] = {0x00, 0x00, 0xFF, 0xFF};  // RFC 7692 7.2.2
    inflate_all(piece.bytes, piece.size, out);
    if (piece.frame_end) inflate_all(tail, sizeof tail, out);
  }

 private:
  void inflate_all(std::uint8_t* bytes, std::size_t size, Buffer& out) {
    std::uint8_t room[4096];
    stream_.next_in = bytes;
    stream_.avail_in = static_cast<uInt>(size);
    do {
      stream_.next_out = room;
      stream_.avail_out = sizeof room;
      const int status = inflate(&stream_, Z_SYNC_FLUSH);
      if (status != Z_OK && status != Z_BUF_ERROR) die("an echo does not inflate");
      out.insert(out.end(), room, stream_.next_out);
    } while (stream_.avail_out == 0);
  }

  z_stream stream_{};
};

// ---- The server's CPU time

// Of a process and of those that it has forked, in the kernel's ticks (10 ms as a rule).
std::uint64_t tree_cpu_ns(pid_t pid) {
  std::uint64_t total = 0;
  const std::string folder = "/proc/" + std::to_string(pid);
  if (std::FILE* stat = std::fopen((folder + "/stat").c_str(), "r")) {
    unsigned long long user = 0;
    unsigned long long system = 0;
    // The name of the program may hold anything; what follows its last parenthesis does not.
    char line[1024] = {};
    const std::size_t size = std::fread(line, 1, sizeof line - 1, stat);
    std::fclose(stat);
    const std::string_view text(line, size);
    const std::size_t end = text.rfind(')');
    if (end != std::string_view::npos &&
        std::sscanf(line + end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                    &system) == 2) {
      total =
          (user + system) * (1'000'000'000ULL / static_cast<unsigned long>(sysconf(_SC_CLK_TCK)));
    }
  }
  const std::string path = folder + "/task/" + std::to_string(pid) + "/children";
  if (std::FILE* children = std::fopen(path.c_str(), "r")) {
    int child = 0;
    while (std::fscanf(children, "%d", &child) == 1) total += tree_cpu_ns(child);
    std::fclose(children);
  }
  return total;
}

// ---- Sockets

int connect_to(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die_errno("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  // On the loopback it is done when the call returns.
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    die_errno("connect");
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

// Whatever the certificate: it is the gateway's work that is measured.
SSL* secure(int fd) {
  static SSL_CTX* const context = SSL_CTX_new(TLS_client_method());
  SSL* ssl = SSL_new(context);
  SSL_set_fd(ssl, fd);
  SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (SSL_connect(ssl) != 1) die("the TLS handshake failed");
  return ssl;
}

// What read(2) and write(2) would have returned.
ssize_t as_count(SSL* ssl, int result) {
  if (result > 0) return result;
  const int error = SSL_get_error(ssl, result);
  if (error == SSL_ERROR_ZERO_RETURN) return 0;
  const bool later = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
  errno = later ? EAGAIN : EPROTO;
  return -1;
}

struct Client {
  enum class State { upgrading, ready, echoing, closing, closed };

  int fd = -1;
  State state = State::closed;
  bool watches_output = false;
  std::size_t batch = 0;     // which one is under way
  std::size_t sent = 0;      // bytes of its request
  std::size_t received = 0;  // bytes of its response, or of the closing handshake
  std::uint64_t batches_left = 0;
  std::uint64_t sent_ns = 0;
  std::string head;  // of the response to the upgrade
  Unframer unframer;
  SSL* ssl = nullptr;                    // null: plain
  std::unique_ptr<Inflation> inflation;  // null: not compressed
};

ssize_t read_some(const Client& client, Buffer& room) {
  if (client.ssl == nullptr) return ::read(client.fd, room.data(), room.size());
  return as_count(client.ssl, SSL_read(client.ssl, room.data(), static_cast<int>(room.size())));
}

ssize_t write_some(const Client& client, const void* bytes, std::size_t size) {
  if (client.ssl == nullptr) return ::write(client.fd, bytes, size);
  return as_count(client.ssl, SSL_write(client.ssl, bytes, static_cast<int>(size)));
}

void close_client(Client& client) {
  SSL_free(std::exchange(client.ssl, nullptr));
  ::close(client.fd);
}

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options),
        upgrade_(make_upgrade(options)),
        received_(256 * 1024),
        epoll_fd_(::epoll_create1(EPOLL_CLOEXEC)),
        clients_(options.connections) {
    if (epoll_fd_ < 0) die_errno("epoll_create1");
    for (int i = 0; i < 16; ++i) batches_.push_back(make_batch(options));
    if (options.server_pid != 0 && clock_getcpuclockid(options.server_pid, &server_clock_) != 0) {
      die("no process " + std::to_string(options.server_pid));
    }
  }

  void run() {
    switch (options_.mode) {
      case Mode::echo:
        open_all();
        echo();
        break;
      case Mode::idle:
        open_all();
        echo_once();
        wait_for_line("{\"ready\": true}");
        break;
      case Mode::handshakes:
        shake_hands();
        break;
    }
  }

 private:
  // ---- Opening

  // A few at a time, as clients come in real life: no queue of the listener overflows.
  void open_all() {
    constexpr std::size_t under_way_max = 64;
    for (Client& client : clients_) {
      open(client);
      while (upgrading_ >= under_way_max) poll();
    }
    while (upgrading_ > 0) poll();
  }

  void open(Client& client) {
    client.fd = connect_to(options_.port);
    if (options_.tls) client.ssl = secure(client.fd);
    if (options_.deflate) client.inflation = std::make_unique<Inflation>();
    if (::fcntl(client.fd, F_SETFL, O_NONBLOCK) != 0) die_errno("fcntl");
    client.head.clear();
    client.watches_output = false;
    client.batch = static_cast<std::size_t>(random_bits()) % batches_.size();
    epoll_event event{.events = EPOLLIN, .data = {.ptr = &client}};
    if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, client.fd, &event) != 0) die_errno("epoll_ctl");
    client.state = Client::State::ready;
    if (options_.raw) return;
    client.state = Client::State::upgrading;
    ++upgrading_;
    send_small(client, upgrade_.data(), upgrade_.size());
  }

  void on_upgrade_answer(Client& client, const std::uint8_t* bytes, std::size_t size) {
    client.head.append(reinterpret_cast<const char*>(bytes), size);
    if (!client.head.ends_with("\r\n\r\n")) return;
    if (!client.head.starts_with("HTTP/1.1 101 ") ||
        client.head.find(upgrade_accept) == std::string::npos ||
        (options_.deflate && client.head.find("permessage-deflate") == std::string::npos)) {
      die("the upgrade was answered with: " + client.head.substr(0, client.head.find('\r')));
    }
    client.head = {};
    --upgrading_;
    client.state = Client::State::ready;
    if (options_.mode == Mode::handshakes) begin_close(client);
  }

  // ---- Echoes

  void echo() {
    quota_ = options_.messages / (options_.connections * options_.pipeline);
    if (options_.messages != 0 && quota_ == 0) die("--messages: less than one batch a connection");
    warm_up();
    if (options_.wait) wait_for_line("{\"ready\": true}");
    completed_ = 0;
    latencies_ns_.clear();
    const std::uint64_t server_before = server_cpu_ns();
    const std::uint64_t own_before = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    const std::uint64_t start = now_ns();
    if (quota_ != 0) {
      start_all(quota_);
      while (echoing_ > 0) poll();
    } else {
      // The warm-up's batches are still under way: the load never stops.
      const auto end = start + static_cast<std::uint64_t>(options_.seconds * 1e9);
      while (now_ns() < end) poll();
    }
    report(now_ns() - start, server_cpu_ns() - server_before,
           read_clock(CLOCK_PROCESS_CPUTIME_ID) - own_before);
    if (options_.wait) wait_for_line("");
  }

  void warm_up() {
    if (quota_ != 0) return echo_once();
    start_all(UINT64_MAX);
    const auto end = now_ns() + static_cast<std::uint64_t>(options_.warmup_seconds * 1e9);
    while (now_ns() < end) poll();
  }

  void echo_once() {
    start_all(1);
    while (echoing_ > 0) poll();
  }

  void start_all(std::uint64_t batches) {
    for (Client& client : clients_) {
      client.batches_left = batches;
      ++echoing_;
      start_batch(client);
    }
  }

  void start_batch(Client& client) {
    client.state = Client::State::echoing;
    client.batch = (client.batch + 1) % batches_.size();
    client.sent = client.received = 0;
    client.sent_ns = now_ns();
    send_batch(client);
  }

  void send_batch(Client& client) {
    const Buffer& request = batches_[client.batch].request;
    while (client.sent < request.size()) {
      const ssize_t count =
          write_some(client, request.data() + client.sent, request.size() - client.sent);
      if (count < 0 && errno == EAGAIN) break;
      if (count < 0) die_errno("write");
      client.sent += static_cast<std::size_t>(count);
    }
    watch_output(client, client.sent < request.size());
  }

  void on_echo(Client& client, std::uint8_t* bytes, std::size_t size) {
    if (options_.stream || options_.deflate) {
      content_.clear();
      while (size > 0) append_content(client, client.unframer.next(bytes, size));
      bytes = content_.data();
      size = content_.size();
    }
    const Buffer& response = batches_[client.batch].response;
    if (size > response.size() - client.received ||
        std::memcmp(response.data() + client.received, bytes, size) != 0) {
      die("an echo is not what was sent");
    }
    client.received += size;
    if (client.received < response.size()) return;
    completed_ += options_.pipeline;
    latencies_ns_.push_back(
        static_cast<std::uint32_t>(std::min<std::uint64_t>(now_ns() - client.sent_ns, UINT32_MAX)));
    if (--client.batches_left > 0) return start_batch(client);
    client.state = Client::State::ready;
    --echoing_;
  }

  void append_content(const Client& client, const Unframer::Piece& piece) {
    if (client.inflation != nullptr) return client.inflation->append(piece, content_);
    content_.insert(content_.end(), piece.bytes, piece.bytes + piece.size);
  }

  // ---- Opening and closing

  void shake_hands() {
    const std::uint64_t server_before = server_cpu_ns();
    const std::uint64_t own_before = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    const std::uint64_t start = now_ns();
    const auto end = start + static_cast<std::uint64_t>(options_.seconds * 1e9);
    for (Client& client : clients_) open(client);
    while (now_ns() < end) poll();
    reopening_ = false;
    while (closed_ < clients_.size()) poll();
    report(now_ns() - start, server_cpu_ns() - server_before,
           read_clock(CLOCK_PROCESS_CPUTIME_ID) - own_before);
  }

  void begin_close(Client& client) {
    client.state = Client::State::closing;
    client.received = 0;
    send_small(client, close_request.data(), close_request.size());
  }

  void on_close_answer(Client& client, const std::uint8_t* bytes, std::size_t size) {
    if (size > close_response.size() - client.received ||
        std::memcmp(close_response.data() + client.received, bytes, size) != 0) {
      die("the Close frame is not what was expected");
    }
    client.received += size;
  }

  // RFC 6455 7.1.1: the server closes first.
  void on_end(Client& client) {
    if (client.state != Client::State::closing || client.received != close_response.size()) {
      die("the server closed a connection");
    }
    close_client(client);
    client.state = Client::State::closed;
    ++completed_;
    if (reopening_) {
      open(client);
    } else {
      ++closed_;
    }
  }

  // ---- Events

  void poll() {
    epoll_event events[512];
    const int count = ::epoll_wait(epoll_fd_, events, 512, 100);
    if (count < 0 && errno != EINTR) die_errno("epoll_wait");
    for (int i = 0; i < count; ++i) {
      Client& client = *static_cast<Client*>(events[i].data.ptr);
      if ((events[i].events & EPOLLOUT) != 0) send_batch(client);
      if ((events[i].events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) receive(client);
    }
  }

  void receive(Client& client) {
    receive_some(client);
    // What OpenSSL has read already, epoll does not tell of.
    while (client.ssl != nullptr && SSL_pending(client.ssl) > 0) receive_some(client);
  }

  void receive_some(Client& client) {
    const ssize_t count = read_some(client, received_);
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) die_errno("read");
    if (count == 0) return on_end(client);
    const auto size = static_cast<std::size_t>(count);
    switch (client.state) {
      case Client::State::upgrading:
        return on_upgrade_answer(client, received_.data(), size);
      case Client::State::echoing:
        return on_echo(client, received_.data(), size);
      case Client::State::closing:
        return on_close_answer(client, received_.data(), size);
      case Client::State::ready:
      case Client::State::closed:
        // A Ping, after a while of quiet. Whoever only keeps connections need not answer it soon.
        if (options_.mode != Mode::idle) die("bytes that nobody asked for");
    }
  }

  void watch_output(Client& client, bool wanted) {
    if (wanted == client.watches_output) return;
    client.watches_output = wanted;
    epoll_event event{.events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN, .data = {.ptr = &client}};
    if (::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, client.fd, &event) != 0) die_errno("epoll_ctl");
  }

  // On an empty socket there is always room for it.
  void send_small(const Client& client, const void* bytes, std::size_t size) {
    if (write_some(client, bytes, size) != static_cast<ssize_t>(size)) die_errno("write");
  }

  // ---- Telling

  std::uint64_t server_cpu_ns() const {
    if (options_.server_pid == 0) return 0;
    return options_.server_forks ? tree_cpu_ns(options_.server_pid) : read_clock(server_clock_);
  }

  void wait_for_line(const char* line) {
    if (*line != '\0') std::puts(line);
    std::fflush(stdout);
    char ignored[16];
    while (std::fgets(ignored, sizeof ignored, stdin) != nullptr) {
      if (std::strchr(ignored, '\n') != nullptr) return;
    }
  }

  double latency_us(double quantile) {
    if (latencies_ns_.empty()) return 0;
    const auto place =
        static_cast<std::ptrdiff_t>(quantile * static_cast<double>(latencies_ns_.size() - 1));
    std::nth_element(latencies_ns_.begin(), latencies_ns_.begin() + place, latencies_ns_.end());
    return latencies_ns_[static_cast<std::size_t>(place)] / 1e3;
  }

  void report(std::uint64_t taken_ns, std::uint64_t server_ns, std::uint64_t own_ns) {
    std::printf(
        "{\"%s\": %llu, \"seconds\": %.6f, \"server_cpu_seconds\": %.6f, "
        "\"own_cpu_seconds\": %.6f, \"latency_us_p50\": %.1f, \"latency_us_p99\": %.1f}\n",
        options_.mode == Mode::handshakes ? "handshakes" : "messages",
        static_cast<unsigned long long>(completed_), seconds(taken_ns), seconds(server_ns),
        seconds(own_ns), latency_us(0.5), latency_us(0.99));
    std::fflush(stdout);
  }

  const Options& options_;
  const std::string upgrade_;
  std::vector<Batch> batches_;
  Buffer received_;
  Buffer content_;  // of it, without headers
  int epoll_fd_;
  clockid_t server_clock_{};
  std::vector<Client> clients_;
  std::size_t upgrading_ = 0;
  std::size_t echoing_ = 0;
  std::size_t closed_ = 0;
  bool reopening_ = true;
  std::uint64_t quota_ = 0;      // batches for each connection; 0: as many as the time allows
  std::uint64_t completed_ = 0;  // messages echoed, or connections closed
  std::vector<std::uint32_t> latencies_ns_;  // of batches
};

// As many descriptors as the process may have.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  ::alarm(options.limit_seconds);
  raise_descriptor_limit();
  Load(options).run();
  return 0;
}
