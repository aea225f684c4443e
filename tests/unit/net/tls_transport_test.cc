#include "net/tls_transport.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "support/certificate.h"
#include "support/stream.h"

using namespace sluice;
using namespace sluice::test;

namespace {

struct ClientWishes {
  int version_min = TLS1_2_VERSION;
  int version_max = TLS1_3_VERSION;
  std::string name{};
  std::string protocols{};  // ALPN, in wire format
};

// A client on a thread of its own, with OpenSSL on a blocking socket.
class TlsClient {
 public:
  TlsClient(int fd, const ClientWishes& wishes)
      : context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free),
        ssl_((SSL_CTX_set_security_level(context_.get(), 0), SSL_new(context_.get())), SSL_free) {
    SSL_set_min_proto_version(ssl_.get(), wishes.version_min);
    SSL_set_max_proto_version(ssl_.get(), wishes.version_max);
    SSL_set_mode(ssl_.get(), SSL_MODE_AUTO_RETRY);
    if (!wishes.name.empty()) SSL_set_tlsext_host_name(ssl_.get(), wishes.name.c_str());
    if (!wishes.protocols.empty()) {
      SSL_set_alpn_protos(ssl_.get(),
                          reinterpret_cast<const unsigned char*>(wishes.protocols.data()),
                          static_cast<unsigned>(wishes.protocols.size()));
    }
    SSL_set_fd(ssl_.get(), fd);
  }
  bool connect() { return SSL_connect(ssl_.get()) == 1; }
  bool send(std::string_view text) {
    return SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) ==
           static_cast<int>(text.size());
  }
  std::string read(std::size_t size) {
    std::string text(size, '\0');
    std::size_t got = 0;
    while (got < size) {
      const int count = SSL_read(ssl_.get(), text.data() + got, static_cast<int>(size - got));
      if (count <= 0) {
        error = SSL_get_error(ssl_.get(), count);
        break;
      }
      got += static_cast<std::size_t>(count);
    }
    text.resize(got);
    return text;
  }
  // RFC 8446 4.6.3: the peer has to answer with a KeyUpdate of its own.
  bool ask_for_new_keys() { return change_keys(SSL_KEY_UPDATE_REQUESTED); }
  bool change_keys(int kind = SSL_KEY_UPDATE_NOT_REQUESTED) {
    return SSL_key_update(ssl_.get(), kind) == 1 && SSL_do_handshake(ssl_.get()) == 1;
  }
  void close_notify() { SSL_shutdown(ssl_.get()); }
  std::string server_name() {
    const std::unique_ptr<X509, void (*)(X509*)> certificate(SSL_get1_peer_certificate(ssl_.get()),
                                                             X509_free);
    char name[256] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, name,
                              sizeof name);
    return name;
  }
  std::string protocol() {
    const unsigned char* name = nullptr;
    unsigned int size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &size);
    return {reinterpret_cast<const char*>(name), size};
  }

  int error = SSL_ERROR_NONE;

 private:
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  std::unique_ptr<SSL, void (*)(SSL*)> ssl_;
};

// Certificates are made once.
struct Certificates {
  TemporaryFolder folder;
  CertificateFiles one = make_certificate(folder, "one.example");
  CertificateFiles two = make_certificate(folder, "*.two.example");
};
const Certificates& certificates() {
  static const Certificates made;
  return made;
}

std::shared_ptr<const net::TlsContext> make_context(bool tls1_3_only = false) {
  net::TlsSettings settings;
  settings.certificates = {{certificates().one.cert, certificates().one.key},
                           {certificates().two.cert, certificates().two.key}};
  settings.tls1_3_only = tls1_3_only;
  auto context = net::TlsContext::create(settings);
  REQUIRE(context.has_value());
  return *context;
}

struct TlsStream : ServerEnd {
  explicit TlsStream(std::pair<int, int> ends = tcp_pair(), bool tls1_3_only = false)
      : context(make_context(tls1_3_only)), end(ends.second) {
    transport = std::make_unique<net::TlsTransport>(loop.loop, buffers, ends.first, *context,
                                                    static_cast<Recorder&>(owner));
    transport->read(true);
  }
  ~TlsStream() {
    if (thread.joinable()) thread.join();
    transport.reset();  // before what it was made with
  }
  // Runs `act` on the client's thread after the handshake, and the loop until it is done.
  void with_client(const std::function<void(TlsClient&)>& act, const ClientWishes& wishes = {}) {
    start_client(act, wishes);
    loop.run_until([&] { return done.load(); });
  }
  void start_client(const std::function<void(TlsClient&)>& act, const ClientWishes& wishes = {}) {
    thread = std::thread([this, act, wishes] {
      TlsClient client(end.fd(), wishes);
      connected = client.connect();
      if (connected) act(client);
      ERR_clear_error();
      done = true;
    });
  }

  std::shared_ptr<const net::TlsContext> context;
  ClientEnd end;
  std::thread thread;
  std::atomic<bool> connected{false};
  std::atomic<bool> done{false};
};

void nothing(TlsClient&) {}

}  // namespace

TEST_CASE("TLS 1.2 and 1.3: the handshake is told once, then bytes go both ways") {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    CAPTURE(version);
    TlsStream stream;
    CHECK(stream.transport->secure());
    stream.owner.receive_then = [&](std::string_view bytes) { stream.send(bytes); };
    std::string got;
    stream.with_client(
        [&](TlsClient& client) {
          client.send("Hello");
          got = client.read(5);
        },
        {.version_min = version, .version_max = version});
    CHECK(got == "Hello");
    CHECK(stream.owner.received == "Hello");
    CHECK(stream.owner.told() == "secure");
    CHECK(std::string(stream.transport->tls_version()) ==
          (version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3"));
  }
}

TEST_CASE("TLS: a client that speaks only an older version is refused") {
  TlsStream old;
  old.with_client(nothing, {.version_min = TLS1_1_VERSION, .version_max = TLS1_1_VERSION});
  CHECK_FALSE(old.connected);
  CHECK(old.owner.told() == "failure tls");

  TlsStream only_1_3(tcp_pair(), true);
  only_1_3.with_client(nothing, {.version_max = TLS1_2_VERSION});
  CHECK_FALSE(only_1_3.connected);
  CHECK(only_1_3.owner.told() == "failure tls");
}

TEST_CASE("TLS: the name that the client asks for chooses the certificate (RFC 6066 3)") {
  const struct {
    std::string asked;
    std::string served;
  } rows[] = {{"one.example", "one.example"},
              {"a.two.example", "*.two.example"},
              {"A.Two.Example", "*.two.example"},
              {"unknown.example", "one.example"},
              {"", "one.example"}};
  for (const auto& row : rows) {
    CAPTURE(row.asked);
    TlsStream stream;
    std::string served;
    stream.with_client([&](TlsClient& client) { served = client.server_name(); },
                       {.name = row.asked});
    CHECK(served == row.served);
  }
}

TEST_CASE("TLS: http/1.1 is chosen, a client that insists on others is refused (RFC 7301 3.2)") {
  TlsStream both;
  std::string chosen;
  both.with_client([&](TlsClient& client) { chosen = client.protocol(); },
                   {.protocols = std::string("\x02h2\x08http/1.1")});
  CHECK(chosen == "http/1.1");

  TlsStream none;
  none.with_client([&](TlsClient& client) { chosen = client.protocol(); });
  CHECK(none.connected);
  CHECK(chosen.empty());

  for (const char* others : {"\x02h2",
                             "\x03"
                             "ftp"}) {
    TlsStream stream;
    stream.with_client(nothing, {.protocols = others});
    CHECK_FALSE(stream.connected);
    CHECK(stream.owner.told() == "failure tls");
  }
}

TEST_CASE("TLS: what is sent before the handshake waits for it") {
  TlsStream stream;
  stream.send("early");
  CHECK(stream.transport->buffered_bytes() == 5);
  std::string got;
  stream.start_client([&](TlsClient& client) { got = client.read(5); });
  stream.loop.run_until([&] { return stream.owner.told("secure"); });
  stream.transport->flush();
  stream.loop.run_until([&] { return stream.done.load(); });
  CHECK(got == "early");
}

TEST_CASE("TLS: back-pressure holds plain bytes, and only a little of them encrypted") {
  TlsStream stream;
  const std::string text = numbered(16 * 1024 * 1024);
  std::string got;
  std::atomic<bool> go{false};
  stream.start_client([&](TlsClient& client) {
    while (!go) std::this_thread::yield();
    got = client.read(text.size());
  });
  stream.loop.run_until([&] { return stream.owner.told("secure"); });
  stream.send(text);
  REQUIRE(stream.transport->blocked());
  CHECK(stream.transport->encrypted_bytes() > 0);
  CHECK(stream.transport->encrypted_bytes() <= 64 * 1024 + 2 * 17 * 1024);
  CHECK(stream.transport->buffered_bytes() ==
        stream.transport->output().size() + stream.transport->encrypted_bytes());
  CHECK(stream.transport->buffered_bytes() > 1024 * 1024);
  go = true;
  stream.loop.run_until([&] { return stream.done.load(); });
  CHECK(got == text);
  CHECK(stream.owner.sent > 0);
  CHECK(stream.transport->buffered_bytes() == 0);
}

TEST_CASE("TLS: a client that asks for new keys and reads no answer is cut (RFC 8446 4.6.3)") {
  TlsStream stream;
  std::atomic<bool> go{false};
  stream.start_client([&](TlsClient& client) {
    while (!go) std::this_thread::yield();
    for (int i = 0; i < 20'000 && client.ask_for_new_keys() && client.send("x"); ++i) continue;
  });
  stream.loop.run_until([&] { return stream.owner.told("secure"); });
  stream.send(numbered(16 * 1024 * 1024));
  REQUIRE(stream.transport->blocked());
  go = true;
  stream.loop.run_until([&] { return stream.owner.told("failure tls"); });
  CHECK(stream.owner.why.find("flood") != std::string::npos);
}

TEST_CASE("TLS: a client that changes its keys over and over and says nothing is cut") {
  TlsStream stream;
  stream.start_client([&](TlsClient& client) {
    for (int i = 0; i < 20'000 && client.change_keys(); ++i) continue;
    client.read(1);
  });
  stream.loop.run_until([&] { return stream.owner.told("failure tls"); });
  CHECK(stream.owner.why == "TLS flood: new keys over and over");
}

TEST_CASE("TLS: new keys as often as there is something to say are nobody's trouble") {
  TlsStream stream;
  stream.with_client([&](TlsClient& client) {
    for (int i = 0; i < 200; ++i) {
      REQUIRE(client.change_keys());
      REQUIRE(client.send("x"));
    }
  });
  stream.loop.run_until([&] { return stream.owner.received.size() == 200; });
  CHECK_FALSE(stream.owner.told("failure tls"));
}

TEST_CASE("TLS: much comes in while much goes out") {
  TlsStream stream;
  const std::string text = numbered(3'000'000);
  stream.owner.receive_then = [&](std::string_view bytes) { stream.send(bytes); };
  std::string got;
  stream.with_client([&](TlsClient& client) {
    for (std::size_t at = 0; at < text.size(); at += 100'000) {
      client.send(std::string_view(text).substr(at, 100'000));
      got += client.read(100'000);
    }
  });
  CHECK(got == text);
  CHECK(stream.owner.received == text);
}

TEST_CASE("TLS: shutdown() sends what waits, then close_notify, then FIN (RFC 8446 6.1)") {
  TlsStream stream;
  const std::string text = numbered(8 * 1024 * 1024);
  std::string got;
  int error = 0;
  stream.start_client([&](TlsClient& client) {
    got = client.read(text.size() + 1);
    error = client.error;
  });
  stream.loop.run_until([&] { return stream.owner.told("secure"); });
  stream.send(text);
  stream.transport->shutdown();
  stream.loop.run_until([&] { return stream.done.load(); });
  CHECK(got == text);
  CHECK(error == SSL_ERROR_ZERO_RETURN);
  CHECK(stream.end.read(1).empty());
  CHECK(stream.end.error == 0);
}

TEST_CASE("TLS: the client's close_notify is the end of the stream, told once") {
  TlsStream stream;
  stream.with_client([&](TlsClient& client) {
    client.send("last");
    client.close_notify();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // a read of its own
    stream.end.send("not TLS any more, and of no interest");
    stream.end.shutdown();
  });
  stream.loop.run_until([&] { return stream.owner.told("end"); });
  stream.loop.run_for(30);
  CHECK(stream.owner.received == "last");
  CHECK(stream.owner.told() == "secure; end");
}

TEST_CASE("TLS: an end without close_notify is the end of the stream as well") {
  TlsStream stream;
  stream.with_client([&](TlsClient& client) { client.send("last"); });
  stream.end.shutdown();
  stream.loop.run_until([&] { return stream.owner.told("end"); });
  CHECK(stream.owner.received == "last");
  CHECK(stream.owner.told() == "secure; end");
}

TEST_CASE("TLS: bytes that are no TLS are a failure, and the client gets an alert") {
  TlsStream stream;
  stream.end.send("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
  stream.loop.run_until([&] { return stream.owner.told("failure"); });
  CHECK(stream.owner.told() == "failure tls");
  CHECK(stream.owner.why.starts_with("TLS handshake: "));
  CHECK(stream.owner.received.empty());
}

TEST_CASE("TLS: a record that was tampered with is a failure after what came before it") {
  TlsStream stream;
  stream.with_client([&](TlsClient& client) { client.send("good"); });
  stream.end.send(std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'x'));
  stream.loop.run_until([&] { return stream.owner.told("failure"); });
  CHECK(stream.owner.received == "good");
  CHECK(stream.owner.told() == "secure; failure tls");
  CHECK(stream.end.read(1) != "");  // session tickets, then the alert
}

TEST_CASE("TLS: errors of a certificate name its file") {
  const Certificates& all = certificates();
  net::TlsSettings settings;
  settings.certificates = {{all.folder / "none.crt", all.one.key}};
  auto made = net::TlsContext::create(settings);
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().message.find("none.crt") != std::string::npos);

  settings.certificates = {{all.one.cert, all.folder / "none.key"}};
  made = net::TlsContext::create(settings);
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().message.find("none.key") != std::string::npos);

  settings.certificates = {{all.one.cert, all.two.key}};
  made = net::TlsContext::create(settings);
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().message.find("two.example.key") != std::string::npos);
}
