#include "net/dialer.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/resource.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "support/certificate.h"
#include "support/own_network.h"
#include "support/stream.h"

using namespace sluice;
using namespace sluice::test;
using Failure = net::Dialer::Failure;

namespace {

// A server's listening socket: blocking, for the test to accept from.
class Listening {
 public:
  explicit Listening(const std::string& text = "127.0.0.1:0", int backlog = 64)
      : address_(*net::Address::parse(text)),
        fd_(::socket(address_.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int on = 1;
    ::setsockopt(fd_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    REQUIRE(::bind(fd_.get(), address_.raw(), address_.raw_size()) == 0);
    if (backlog >= 0) REQUIRE(::listen(fd_.get(), backlog) == 0);
    address_ = *net::Address::of_socket(fd_.get());
  }
  int accept() const {
    const int fd = ::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    REQUIRE(fd >= 0);
    return fd;
  }
  const net::Address& address() const { return address_; }

 private:
  net::Address address_;
  Fd fd_;
};

// An address where nobody listens, but which nobody else gets either.
constexpr int nobody_listens = -1;

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

struct Wishes {
  std::shared_ptr<const net::TlsClientContext> tls = nullptr;
  std::string server_name = "one.example";
  std::string prologue = {};
};

// A dialer, and what it told.
struct Dialling final : private net::Dialer::Owner {
  ~Dialling() {
    dialer.reset();
    transport.reset();
    CHECK(loop.loop.close().has_value());
  }
  void start(std::vector<net::Address> addresses, const Wishes& wishes = {}) {
    dialer = std::make_unique<net::Dialer>(loop.loop, buffers, std::move(addresses), wishes.tls,
                                           wishes.server_name, wishes.prologue,
                                           static_cast<net::Dialer::Owner&>(*this));
    CHECK_MESSAGE(told == 0, "told from inside of the constructor");
  }
  void dial(std::vector<net::Address> addresses, const Wishes& wishes = {}) {
    start(std::move(addresses), wishes);
    loop.run_until([this] { return told > 0; });
  }
  void on_dialled(std::unique_ptr<net::Transport> made) override {
    ++told;
    transport = std::move(made);
    transport->set_owner(user);
    if (then) then();
  }
  void on_dial_failed(Failure kind, const Error& error) override {
    ++told;
    failure = kind;
    why = error.message;
    if (then) then();
  }
  void on_next_address() override { shares.push_back(dialer->share_ms(6'000)); }
  void send(std::string_view text) const {
    transport->output().append(as_bytes(text));
    transport->flush();
  }

  TestLoop loop;
  net::IoBuffers buffers;
  Recorder user;  // of the transport
  std::unique_ptr<net::Dialer> dialer;
  std::unique_ptr<net::Transport> transport;
  std::vector<std::uint64_t> shares;  // of addresses that were told of, if 6 s are left
  std::optional<Failure> failure;
  std::string why;
  int told = 0;
  std::function<void()> then;
};

struct Certificates {
  TemporaryFolder folder;
  CertificateFiles one = make_certificate(folder, "one.example");
  CertificateFiles stars = make_certificate(folder, "*.two.example");
  CertificateFiles ip = make_certificate(folder, "ip", {.alternative_name = "IP:127.0.0.1,IP:::1"});
  CertificateFiles expired = make_certificate(folder, "old.example", {.ends_s = -3600});
  CertificateFiles client = make_certificate(folder, "client");
};
const Certificates& certificates() {
  static const Certificates made;
  return made;
}

std::shared_ptr<const net::TlsClientContext> trusting(const CertificateFiles& ca,
                                                      const CertificateFiles& own = {}) {
  auto made = net::TlsClientContext::create(
      {.ca_file = ca.cert, .cert_file = own.cert, .key_file = own.key});
  REQUIRE(made.has_value());
  return *made;
}

// A TLS server on a thread of its own, with OpenSSL on a blocking socket, for one client.
class TlsServer {
 public:
  struct Wishes {
    int version_max = TLS1_3_VERSION;
    std::size_t prologue_bytes = 0;  // in the clear, before TLS
    CertificateFiles client_ca = {};
  };
  using Act = std::function<void(TlsServer&)>;

  // Runs `act` after the handshake.
  explicit TlsServer(const CertificateFiles& own) : TlsServer(own, Wishes(), {}) {}
  TlsServer(const CertificateFiles& own, const Wishes& wishes, Act act)
      : context_(SSL_CTX_new(TLS_server_method()), SSL_CTX_free) {
    SSL_CTX_use_certificate_chain_file(context_.get(), own.cert.c_str());
    SSL_CTX_use_PrivateKey_file(context_.get(), own.key.c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_set_max_proto_version(context_.get(), wishes.version_max);
    if (!wishes.client_ca.cert.empty()) {
      SSL_CTX_load_verify_file(context_.get(), wishes.client_ca.cert.c_str());
      SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                         nullptr);
    }
    thread_ = std::thread([this, wishes, act = std::move(act)] { serve(wishes, act); });
  }
  ~TlsServer() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  const net::Address& address() const { return listening_.address(); }

  // On the server's thread.
  void send(std::string_view text) {
    CHECK(SSL_write(ssl_, text.data(), static_cast<int>(text.size())) ==
          static_cast<int>(text.size()));
  }
  std::string read(std::size_t size) {
    std::string text(size, '\0');
    std::size_t got = 0;
    while (got < size) {
      const int count = SSL_read(ssl_, text.data() + got, static_cast<int>(size - got));
      if (count <= 0) break;
      got += static_cast<std::size_t>(count);
    }
    text.resize(got);
    return text;
  }
  // Whether what is written leaves by itself.
  void cork(bool on) const {
    const int value = on ? 1 : 0;
    ::setsockopt(SSL_get_fd(ssl_), IPPROTO_TCP, TCP_CORK, &value, sizeof value);
  }
  void end(bool notify) {
    if (notify) SSL_shutdown(ssl_);
    ::shutdown(SSL_get_fd(ssl_), SHUT_WR);
  }
  void key_update() { SSL_key_update(ssl_, SSL_KEY_UPDATE_REQUESTED); }

  // After join().
  bool accepted = false;
  std::string prologue;
  std::string asked_name;   // SNI
  std::string client_name;  // of the client's certificate
  int error = 0;            // of the socket, at its end

  std::function<void(TlsServer&)> on_client_key_exchange;  // set before the client comes

 private:
  void serve(const Wishes& wishes, const Act& act) {
    ClientEnd end(listening_.accept());
    prologue = end.read(wishes.prologue_bytes);
    const std::unique_ptr<SSL, void (*)(SSL*)> ssl(SSL_new(context_.get()), SSL_free);
    ssl_ = ssl.get();
    SSL_set_fd(ssl_, end.fd());
    SSL_set_mode(ssl_, SSL_MODE_AUTO_RETRY);
    SSL_set_msg_callback_arg(ssl_, this);
    SSL_set_msg_callback(ssl_, [](int written, int, int type, const void* bytes, std::size_t size,
                                  SSL*, void* self) {
      auto& server = *static_cast<TlsServer*>(self);
      if (written == 0 && type == SSL3_RT_HANDSHAKE && size > 0 &&
          *static_cast<const std::uint8_t*>(bytes) == SSL3_MT_CLIENT_KEY_EXCHANGE &&
          server.on_client_key_exchange) {
        server.on_client_key_exchange(server);
      }
    });
    accepted = SSL_accept(ssl_) == 1;
    if (accepted) {
      note();
      if (act) act(*this);
    }
    end.read(1);  // until the client goes
    error = end.error;
    ERR_clear_error();
  }
  void note() {
    const char* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
    if (name != nullptr) asked_name = name;
    const std::unique_ptr<X509, void (*)(X509*)> shown(SSL_get1_peer_certificate(ssl_), X509_free);
    if (shown == nullptr) return;
    char text[256] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(shown.get()), NID_commonName, text,
                              sizeof text);
    client_name = text;
  }

  Listening listening_;
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  SSL* ssl_ = nullptr;
  std::thread thread_;
};

// Both ways, until the client goes.
void forward_byte_by_byte(const ClientEnd& client, const ClientEnd& upstream) {
  const int on = 1;
  ::setsockopt(client.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  for (;;) {
    pollfd ends[] = {{client.fd(), POLLIN, 0}, {upstream.fd(), POLLIN, 0}};
    if (::poll(ends, 2, 10'000) <= 0) return;
    char byte = 0;
    if (ends[0].revents != 0) {
      if (::recv(client.fd(), &byte, 1, 0) <= 0) return;
      upstream.send({&byte, 1});
    }
    if (ends[1].revents != 0) {
      if (::recv(upstream.fd(), &byte, 1, 0) <= 0) return;
      ::send(client.fd(), &byte, 1, MSG_NOSIGNAL);
    }
  }
}

int option(int fd, int level, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  REQUIRE(::getsockopt(fd, level, name, &value, &size) == 0);
  return value;
}

}  // namespace

TEST_CASE("dialer: TCP and unix: the stream stands, reading is off, and bytes go both ways") {
  const TemporaryFolder folder;
  for (const std::string& where :
       {std::string("127.0.0.1:0"), std::string("[::1]:0"), "unix:" + folder / "server.sock"}) {
    CAPTURE(where);
    const Listening listening(where);
    Dialling dialling;
    dialling.dial({listening.address()});
    REQUIRE(dialling.transport != nullptr);
    CHECK_FALSE(dialling.transport->secure());
    ClientEnd server(listening.accept());
    server.send("banner");
    dialling.loop.run_for(20);
    CHECK(dialling.user.received.empty());
    dialling.dialer.reset();
    dialling.transport->read(true);
    dialling.loop.run_until([&] { return dialling.user.received == "banner"; });
    dialling.send("answer");
    CHECK(server.read(6) == "answer");
    CHECK(dialling.told == 1);
    CHECK(dialling.user.told().empty());
  }
}

TEST_CASE("dialer: the stream knows its own end, sends at once and is closed in children") {
  const Listening listening;
  Dialling dialling;
  const int before = ::dup(0);  // the number that a new descriptor gets
  ::close(before);
  dialling.dial({listening.address()});
  const Fd server(listening.accept());
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  REQUIRE(::getpeername(server.get(), reinterpret_cast<sockaddr*>(&peer), &size) == 0);
  CHECK(dialling.transport->local_endpoint().to_string() == net::Endpoint(peer).to_string());
  const auto local = net::Address::of_socket(before);
  REQUIRE(local.has_value());
  REQUIRE(local->to_string() == net::Endpoint(peer).to_string());
  CHECK((::fcntl(before, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(before, F_GETFL) & O_NONBLOCK) != 0);
  CHECK(option(before, IPPROTO_TCP, TCP_NODELAY) != 0);
}

TEST_CASE("dialer: the addresses are tried in order until one answers") {
  const Listening dead("[::1]:0", nobody_listens);
  const Listening first;
  const Listening second;
  Dialling dialling;
  dialling.dial({dead.address(), first.address(), second.address()});
  REQUIRE(dialling.transport != nullptr);
  ClientEnd server(first.accept());
  dialling.send("Hello");
  CHECK(server.read(5) == "Hello");
}

TEST_CASE("dialer: a failure says which address failed last, and how") {
  const TemporaryFolder folder;
  const Listening dead("127.0.0.1:0", nobody_listens);
  const Listening dead6("[::1]:0", nobody_listens);
  const Listening dead_unix("unix:" + folder / "dead.sock", nobody_listens);
  std::ofstream(folder / "file") << "no socket";
  const auto none = *net::Address::parse("unix:" + folder / "none.sock");
  const auto below_file = *net::Address::parse("unix:" + folder / "file/x.sock");
  const struct {
    std::vector<net::Address> addresses;
    Failure failure;
    std::string why;
  } rows[] = {
      {{dead.address()},
       Failure::refused,
       "connect to " + dead.address().to_string() + ": Connection refused"},
      {{dead_unix.address()}, Failure::refused, "Connection refused"},
      {{none}, Failure::refused, "none.sock: No such file or directory"},
      {{below_file}, Failure::unreachable, "Not a directory"},
      {{dead.address(), none}, Failure::refused, "No such file or directory"},
      {{none, dead.address(), dead6.address()}, Failure::refused, dead6.address().to_string()},
      {{dead6.address(), below_file}, Failure::unreachable, "Not a directory"},
      {{}, Failure::unreachable, "no address"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.why);
    const std::size_t before = open_descriptors();
    {
      Dialling dialling;
      dialling.dial(row.addresses);
      REQUIRE(dialling.failure.has_value());
      CHECK(*dialling.failure == row.failure);
      CHECK_MESSAGE(dialling.why.find(row.why) != std::string::npos, dialling.why);
      dialling.loop.run_for(5);
      CHECK(dialling.told == 1);
    }
    CHECK(open_descriptors() == before);
  }
}

TEST_CASE("dialer: a unix socket with too many who wait has refused") {
  const TemporaryFolder folder;
  const Listening listening("unix:" + folder / "full.sock", 0);
  std::vector<std::unique_ptr<Dialling>> waiting;
  for (int i = 0; i < 16; ++i) {
    waiting.push_back(std::make_unique<Dialling>());
    waiting.back()->dial({listening.address()});
    if (waiting.back()->failure) break;
  }
  REQUIRE(waiting.back()->failure.has_value());
  CHECK(*waiting.back()->failure == Failure::refused);
}

TEST_CASE("dialer: without descriptors no other address is tried") {
  const Listening first;
  const Listening second;
  Dialling dialling;
  rlimit usual{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &usual) == 0);
  const int next = ::dup(0);
  ::close(next);
  const rlimit none{.rlim_cur = static_cast<rlim_t>(next), .rlim_max = usual.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  dialling.start({first.address(), second.address()});
  ::setrlimit(RLIMIT_NOFILE, &usual);
  dialling.loop.run_until([&] { return dialling.told > 0; });
  REQUIRE(dialling.failure.has_value());
  CHECK(*dialling.failure == Failure::out_of_descriptors);
  CHECK(dialling.why.find(first.address().to_string() + ": Too many open files") !=
        std::string::npos);
}

TEST_CASE("dialer: many at once on one loop, whose descriptors follow one another") {
  const Listening listening("127.0.0.1:0", 128);
  const Listening dead("127.0.0.1:0", nobody_listens);
  struct One final : net::Dialer::Owner {
    void on_dialled(std::unique_ptr<net::Transport> made) override {
      transport = std::move(made);
      transport->set_owner(user);
      transport->read(true);
      transport->output().append(as_bytes("Hello"));
      transport->flush();
    }
    void on_dial_failed(Failure, const Error&) override { failed = true; }
    std::unique_ptr<net::Dialer> dialer;
    std::unique_ptr<net::Transport> transport;
    Recorder user;
    bool failed = false;
  };
  TestLoop loop;
  net::IoBuffers buffers;
  {
    std::vector<One> all(100);
    for (std::size_t i = 0; i < all.size(); ++i) {
      // The dead one's descriptor is closed and opened anew inside of an event.
      all[i].dialer = std::make_unique<net::Dialer>(
          loop.loop, buffers, std::vector{dead.address(), listening.address()}, nullptr, "", "",
          static_cast<net::Dialer::Owner&>(all[i]));
    }
    std::thread server([&] {
      for (std::size_t i = 0; i < all.size(); ++i) {
        ClientEnd end(listening.accept());
        end.send(end.read(5));
      }
    });
    loop.run_until([&] {
      return std::all_of(all.begin(), all.end(),
                         [](const One& one) { return one.user.received == "Hello"; });
    });
    server.join();
  }
  CHECK(loop.loop.close().has_value());
}

TEST_CASE("dialer: a connection of a socket to itself is none") {
  // A client's port is chosen from the same range as this server's, so some attempt hits it.
  std::ifstream range("/proc/sys/net/ipv4/ip_local_port_range");
  unsigned low = 0;
  range >> low;
  REQUIRE(low > 0);
  std::optional<net::Address> dead;
  for (unsigned port = low + 1000; !dead && port < low + 1200; port += 2) {
    const auto address = *net::Address::parse("127.0.0.1:" + std::to_string(port));
    const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::bind(fd.get(), address.raw(), address.raw_size()) == 0) dead = address;
  }
  REQUIRE(dead.has_value());
  Dialling dialling;
  dialling.dial(std::vector<net::Address>(33'000, *dead));
  REQUIRE(dialling.failure.has_value());
  CHECK(*dialling.failure == Failure::refused);
}

TEST_CASE("dialer: an address that does not answer has its share of the time, and is given up") {
  const Dropping silent;
  const Listening dead("127.0.0.1:0", nobody_listens);
  const Listening listening;
  Dialling dialling;
  dialling.start({dead.address(), silent.address(), listening.address(), dead.address()});
  dialling.loop.run_until([&] { return dialling.dialer->tried().size() == 2; });
  CHECK(dialling.dialer->share_ms(6'000) == 2'000);
  CHECK(dialling.dialer->out_of_ports() == nullptr);
  CHECK(dialling.dialer->share_ms(900) == 500);  // whatever is left for the others
  CHECK(dialling.dialer->share_ms(300) == 300);
  dialling.dialer->try_another();
  dialling.loop.run_until([&] { return dialling.told > 0; });
  REQUIRE(dialling.transport != nullptr);
  CHECK(dialling.transport->peer_address()->to_string() == listening.address().to_string());
  CHECK(dialling.dialer->tried().size() == 3);
  CHECK(dialling.dialer->tried()[2] == listening.address());
}

TEST_CASE("dialer: an address that comes in the midst of another's share is told of") {
  const Listening dead("127.0.0.1:0", nobody_listens);
  const Dropping silent;
  Dialling dialling;
  dialling.start({dead.address(), dead.address(), silent.address(), silent.address()});
  dialling.loop.run_until([&] { return dialling.dialer->tried().size() == 3; });
  CHECK(dialling.shares == std::vector<std::uint64_t>{2'000, 3'000});
  dialling.dialer->try_another();
  CHECK(dialling.dialer->tried().size() == 4);
  CHECK(dialling.shares.size() == 2);  // whoever asks for it knows
}

TEST_CASE("dialer: the last address, and one that has answered, have all of the time") {
  const Dropping silent;
  const Listening listening;
  Dialling last;
  last.start({silent.address()});
  CHECK(last.dialer->share_ms(6'000) == 6'000);
  last.dialer->try_another();
  last.loop.run_for(5);
  CHECK(last.told == 0);

  Dialling answered;
  answered.start({listening.address(), silent.address()}, {.tls = trusting(certificates().one)});
  ClientEnd server(listening.accept());
  answered.loop.run_until([&] {  // its first message has come
    char byte = 0;
    return ::recv(server.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
  });
  CHECK(answered.dialer->share_ms(6'000) == 6'000);
  answered.dialer->try_another();
  CHECK(answered.dialer->tried().size() == 1);
}

TEST_CASE("dialer: without a port to connect from it is our own shortage, and only then") {
  in_own_network("40000 40000", [] {
    const Listening one("127.0.0.1:5000");
    const Listening two("127.0.0.2:5000");
    const Listening dead("127.0.0.3:5000", nobody_listens);
    const auto outcome = [](std::vector<net::Address> addresses) {
      Dialling dialling;
      dialling.dial(std::move(addresses));
      return std::pair(dialling.failure, dialling.why);
    };
    Dialling first;
    first.dial({one.address()});
    if (first.transport == nullptr) return "the first: " + first.why;
    const auto [failure, why] = outcome({one.address()});
    if (failure != Failure::out_of_ports) return "the second: " + why;
    if (outcome({one.address(), two.address()}).first) return "another address: " + why;
    const auto refused = outcome({one.address(), dead.address()});
    if (refused.first != Failure::out_of_ports) return "behind it: " + refused.second;
    const auto strange = outcome({*net::Address::parse("[::1]:5000")});
    if (strange.first != Failure::unreachable) return "IPv6 is off: " + strange.second;
    const auto both = outcome({dead.address(), *net::Address::parse("[::1]:5000")});
    if (both.first != Failure::refused) return "it is off, and IPv4: " + both.second;
    return std::string();
  });
}

TEST_CASE("dialer: the prologue is the first that the server hears, in the clear") {
  const Listening listening;
  Dialling dialling;
  dialling.dial({listening.address()}, {.prologue = "PROXY UNKNOWN\r\n"});
  ClientEnd server(listening.accept());
  dialling.send("Hello");
  CHECK(server.read(20) == "PROXY UNKNOWN\r\nHello");
}

TEST_CASE("dialer: the prologue goes out before TLS") {
  TlsServer server(certificates().one, {.prologue_bytes = 15}, {});
  {
    Dialling dialling;
    dialling.dial({server.address()},
                  {.tls = trusting(certificates().one), .prologue = "PROXY UNKNOWN\r\n"});
    CHECK(dialling.transport != nullptr);
  }
  server.join();
  CHECK(server.accepted);
  CHECK(server.prologue == "PROXY UNKNOWN\r\n");
}

TEST_CASE("dialer: TLS 1.2 and 1.3: a server that is trusted, and bytes both ways") {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    CAPTURE(version);
    const std::string text = numbered(3'000'000);
    std::string got;
    TlsServer server(certificates().one, {.version_max = version}, [&](TlsServer& self) {
      got = self.read(text.size());
      self.send(text);
    });
    {
      Dialling dialling;
      dialling.dial({server.address()}, {.tls = trusting(certificates().one)});
      REQUIRE(dialling.transport != nullptr);
      CHECK(dialling.transport->secure());
      CHECK(std::string(dialling.transport->tls_version()) ==
            (version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3"));
      CHECK_FALSE(dialling.transport->is_misdirected("one.example"));
      dialling.dialer.reset();
      dialling.transport->read(true);
      dialling.send(text);
      dialling.loop.run_until([&] { return dialling.user.received.size() == text.size(); });
      CHECK(dialling.user.received == text);
      CHECK(dialling.user.told().empty());
    }
    server.join();
    CHECK(got == text);
    CHECK(server.asked_name == "one.example");
  }
}

TEST_CASE("dialer: TLS: a handshake and bytes that come one by one") {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    CAPTURE(version);
    TlsServer server(certificates().one, {.version_max = version},
                     [](TlsServer& self) { self.send(self.read(5)); });
    const Listening between;
    std::thread drip([&] {
      const ClientEnd client(between.accept());
      const ClientEnd upstream(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      REQUIRE(::connect(upstream.fd(), server.address().raw(), server.address().raw_size()) == 0);
      forward_byte_by_byte(client, upstream);
    });
    {
      Dialling dialling;
      dialling.dial({between.address()}, {.tls = trusting(certificates().one)});
      REQUIRE(dialling.transport != nullptr);
      dialling.send("Hello");
      dialling.transport->read(true);
      dialling.loop.run_until([&] { return dialling.user.received == "Hello"; });
    }
    drip.join();
  }
}

TEST_CASE("dialer: TLS: whose certificate is accepted for which name") {
  const Certificates& all = certificates();
  const struct {
    const CertificateFiles& server;
    const CertificateFiles& trusted;
    std::string name;
    std::string why;  // empty: it is accepted
    std::string asked;
  } rows[] = {
      {all.one, all.one, "one.example", "", "one.example"},
      {all.one, all.one, "ONE.example.", "", "ONE.example"},
      {all.one, all.one, "two.example", "hostname mismatch", ""},
      {all.one, all.one, "a.one.example", "hostname mismatch", ""},
      {all.one, all.one, "127.0.0.1", "IP address mismatch", ""},
      {all.one, all.one, "", "\"\" is no server's name", ""},
      {all.one, all.one, std::string(300, 'a'), "is no server's name", ""},
      {all.one, all.client, "one.example", "self-signed certificate", ""},
      {all.stars, all.stars, "a.two.example", "", "a.two.example"},
      {all.stars, all.stars, "a.b.two.example", "hostname mismatch", ""},
      {all.stars, all.stars, "two.example", "hostname mismatch", ""},
      {all.ip, all.ip, "127.0.0.1", "", ""},
      {all.ip, all.ip, "::1", "", ""},
      {all.ip, all.ip, "[::1]", "", ""},
      {all.ip, all.ip, "127.0.0.2", "IP address mismatch", ""},
      {all.ip, all.ip, "ip.example", "hostname mismatch", ""},
      {all.expired, all.expired, "old.example", "certificate has expired", ""},
  };
  for (const auto& row : rows) {
    CAPTURE(row.name);
    CAPTURE(row.why);
    TlsServer server(row.server);
    {
      Dialling dialling;
      dialling.dial({server.address()}, {.tls = trusting(row.trusted), .server_name = row.name});
      CHECK((dialling.transport != nullptr) == row.why.empty());
      if (!row.why.empty()) {
        CHECK(dialling.failure == Failure::tls);
        CHECK_MESSAGE(dialling.why.find(row.why) != std::string::npos, dialling.why);
        CHECK(dialling.why.starts_with("connect to " + server.address().to_string() +
                                       ": TLS handshake: "));
      }
    }
    server.join();
    CHECK(server.accepted == row.why.empty());
    CHECK(server.asked_name == row.asked);
  }
}

TEST_CASE("dialer: TLS: without verification any certificate will do, and no name") {
  const auto careless = net::TlsClientContext::create({.verify = false});
  REQUIRE(careless.has_value());
  for (const char* name : {"two.example", ""}) {
    TlsServer server(certificates().expired);
    Dialling dialling;
    dialling.dial({server.address()}, {.tls = *careless, .server_name = name});
    CHECK(dialling.transport != nullptr);
    dialling.transport.reset();
    server.join();
    CHECK(server.asked_name == name);
  }
}

TEST_CASE("dialer: TLS: a server that nobody vouches for is refused by the system's list") {
  const auto system = net::TlsClientContext::create({});
  REQUIRE(system.has_value());
  CHECK((*system)->verify());
  TlsServer server(certificates().one);
  Dialling dialling;
  dialling.dial({server.address()}, {.tls = *system});
  CHECK(dialling.failure == Failure::tls);
  CHECK_MESSAGE(dialling.why.find("certificate verify failed: ") != std::string::npos,
                dialling.why);
}

TEST_CASE("dialer: TLS: a server that wants to know us is shown the client certificate") {
  const Certificates& all = certificates();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    CAPTURE(version);
    const TlsServer::Wishes wishes{.version_max = version, .client_ca = all.client};
    TlsServer server(all.one, wishes, {});
    {
      Dialling dialling;
      dialling.dial({server.address()}, {.tls = trusting(all.one, all.client)});
      CHECK(dialling.transport != nullptr);
    }
    server.join();
    CHECK(server.accepted);
    CHECK(server.client_name == "client");

    TlsServer strict(all.one, wishes, {});
    Dialling unknown;
    unknown.dial({strict.address()}, {.tls = trusting(all.one)});
    if (version == TLS1_2_VERSION) {
      CHECK(unknown.failure == Failure::tls);
    } else {
      // The server says so behind a handshake that is over for the client.
      REQUIRE(unknown.transport != nullptr);
      unknown.transport->read(true);
      unknown.loop.run_until([&] { return unknown.user.told("failure tls"); });
      CHECK_MESSAGE(unknown.user.why.find("certificate required") != std::string::npos,
                    unknown.user.why);
    }
  }
}

TEST_CASE("dialer: TLS: what the server says right behind the handshake waits for read(true)") {
  std::atomic<bool> sent{false};
  TlsServer server(certificates().one, {.version_max = TLS1_2_VERSION}, [&](TlsServer& self) {
    self.send("banner");
    self.cork(false);
    sent = true;
  });
  // The end of the handshake and the banner come as one piece.
  server.on_client_key_exchange = [](TlsServer& self) { self.cork(true); };
  Dialling dialling;
  dialling.dial({server.address()}, {.tls = trusting(certificates().one)});
  REQUIRE(dialling.transport != nullptr);
  dialling.loop.run_until([&] { return sent.load(); });
  dialling.loop.run_for(20);
  CHECK(dialling.user.received.empty());
  dialling.transport->read(true);
  dialling.loop.run_until([&] { return dialling.user.received == "banner"; });
  dialling.transport.reset();
}

TEST_CASE("dialer: TLS: the server's close_notify ends the stream, a FIN alone breaks it") {
  for (const bool notify : {true, false}) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      CAPTURE(notify);
      CAPTURE(version);
      TlsServer server(certificates().one, {.version_max = version}, [&](TlsServer& self) {
        self.send("all of it?");
        self.end(notify);
      });
      Dialling dialling;
      dialling.dial({server.address()}, {.tls = trusting(certificates().one)});
      REQUIRE(dialling.transport != nullptr);
      dialling.transport->read(true);
      dialling.loop.run_until([&] { return !dialling.user.told().empty(); });
      dialling.loop.run_for(5);
      CHECK(dialling.user.received == "all of it?");
      CHECK(dialling.user.told() == (notify ? "end" : "failure tls"));
      dialling.transport.reset();
    }
  }
}

TEST_CASE("dialer: TLS: a server that speaks something else, or nothing") {
  const struct {
    std::function<void(ClientEnd&)> act;
    Failure failure;
    std::string why;
  } rows[] = {
      {[](ClientEnd& end) { end.send("HTTP/1.1 400 Bad Request\r\n\r\n"); }, Failure::tls,
       "wrong version number"},
      {[](ClientEnd& end) { end.shutdown(); }, Failure::tls, "the server has closed"},
      {[](ClientEnd& end) { end.reset(); }, Failure::reset, "reset by peer"},
      {[](ClientEnd& end) { end.send(std::string("\x15\x03\x03\x00\x02\x02\x28", 7)); },
       Failure::tls, "handshake failure"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.why);
    const Listening listening;
    Dialling dialling;
    dialling.start({listening.address()}, {.tls = trusting(certificates().one)});
    ClientEnd server(listening.accept());
    dialling.loop.run_until([&] {  // its first message has come
      char byte = 0;
      return ::recv(server.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
    });
    CHECK(dialling.told == 0);
    row.act(server);
    dialling.loop.run_until([&] { return dialling.told > 0; });
    CHECK(dialling.failure == row.failure);
    CHECK_MESSAGE(dialling.why.find(row.why) != std::string::npos, dialling.why);
  }
}

TEST_CASE("dialer: an alert tells the server why we do not go on") {
  TlsServer server(certificates().one);
  Dialling dialling;
  dialling.dial({server.address()}, {.tls = trusting(certificates().client)});
  CHECK(dialling.failure == Failure::tls);
  server.join();
  CHECK(server.error == 0);  // not a reset, which would have thrown the alert away
}

TEST_CASE("dialer: destroyed at any time it leaves nothing behind, and tells nothing") {
  const Listening listening;
  const Listening dead("127.0.0.1:0", nobody_listens);
  const auto tls = trusting(certificates().one);
  const std::size_t before = open_descriptors();
  for (const auto& address : {listening.address(), dead.address()}) {
    for (const auto& context : {decltype(tls)(), tls}) {
      for (int turns = 0; turns < 6; ++turns) {
        CAPTURE(turns);
        Dialling dialling;
        int turn = 0;
        dialling.loop.at_turn_end = [&] {
          if (turn++ == turns) dialling.dialer.reset();
        };
        dialling.start({address}, {.tls = context});
        if (turns == 0) dialling.dialer.reset();
        dialling.loop.run_until([&] { return dialling.dialer == nullptr; });
        const int told = dialling.told;
        dialling.loop.run_for(2);
        CHECK(dialling.told == told);
      }
    }
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("dialer: destroyed while it tells") {
  const Listening listening;
  const Listening dead("127.0.0.1:0", nobody_listens);
  for (const auto& address : {listening.address(), dead.address()}) {
    Dialling dialling;
    dialling.then = [&] { dialling.dialer.reset(); };
    dialling.dial({address});
    CHECK(dialling.told == 1);
  }
  for (const auto& trusted : {certificates().one, certificates().client}) {
    TlsServer server(certificates().one);
    Dialling dialling;
    dialling.then = [&] {
      dialling.dialer.reset();
      dialling.transport.reset();
    };
    dialling.dial({server.address()}, {.tls = trusting(trusted)});
    CHECK(dialling.told == 1);
  }
}

TEST_CASE("TLS client: errors of the files name them") {
  const Certificates& all = certificates();
  const std::string other_kind = all.folder / "ed25519.key";
  const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key(
      EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"), EVP_PKEY_free);
  FILE* file = std::fopen(other_kind.c_str(), "w");
  PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
  const struct {
    net::TlsClientSettings settings;
    std::string file;
  } rows[] = {
      {{.ca_file = all.folder / "none.crt"}, "none.crt"},
      {{.ca_file = all.one.key}, "one.example.key"},
      {{.cert_file = all.folder / "none.crt", .key_file = all.one.key}, "none.crt"},
      {{.cert_file = all.one.cert, .key_file = all.folder / "none.key"}, "none.key"},
      {{.cert_file = all.one.cert, .key_file = all.client.key}, "client.key"},
      {{.cert_file = all.one.cert, .key_file = other_kind}, "ed25519.key"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.file);
    const auto made = net::TlsClientContext::create(row.settings);
    REQUIRE_FALSE(made.has_value());
    CHECK_MESSAGE(made.error().message.find(row.file) != std::string::npos, made.error().message);
  }
}
