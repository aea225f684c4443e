#include "net/tls_transport.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace sluice::net {
namespace {

// More is not encrypted ahead of what the kernel takes: bytes that wait, wait as plain ones.
constexpr std::size_t encrypted_bytes_high = 64 * 1024;

// What OpenSSL may add to that by itself.
constexpr std::size_t encrypted_bytes_max = 2 * encrypted_bytes_high;

// Changes of the peer's keys without a byte of data between them. Nobody honest needs a second one,
// and each is work (RFC 8446 4.6.3 sets no limit, and neither does OpenSSL).
constexpr unsigned key_updates_max = 32;

}  // namespace

TlsTransport::TlsTransport(uv::Loop& loop, IoBuffers& buffers, int fd, const TlsContext& context,
                           Transport::Owner& owner)
    : Socket(loop, buffers, fd, owner),
      context_(&context),
      ssl_(SSL_new(context.initial())),
      encrypted_(buffers.pool) {
  use_own_bio();
  SSL_set_accept_state(ssl_.get());
}

TlsTransport::TlsTransport(uv::Loop& loop, IoBuffers& buffers, int fd,
                           const TlsClientContext& context, Transport::Owner& owner)
    : Socket(loop, buffers, fd, owner),
      context_(nullptr),
      ssl_(SSL_new(context.raw())),
      encrypted_(buffers.pool) {
  use_own_bio();
  SSL_set_connect_state(ssl_.get());
  peek(true);
}

void TlsTransport::use_own_bio() {
  BIO* bio = BIO_new(bio_method());
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);  // one reference: ssl_ owns it
  SSL_set_msg_callback(ssl_.get(), &TlsTransport::on_protocol_message);
  SSL_set_msg_callback_arg(ssl_.get(), this);
}

TlsTransport::~TlsTransport() = default;

void TlsTransport::Free::operator()(SSL* ssl) const {
  SSL_free(ssl);
}

bool TlsTransport::has_unread() const {
  return Socket::has_unread() || SSL_has_pending(ssl_.get()) != 0;
}

const char* TlsTransport::tls_version() const {
  return SSL_get_version(ssl_.get());
}

bool TlsTransport::is_misdirected(const std::string& host) const {
  return context_ != nullptr && context_->is_misdirected(ssl_.get(), host);
}

void TlsTransport::start_handshake(const std::string& server_name, std::string_view prologue) {
  if (!expect_server(server_name)) {
    fail(FailureKind::tls, Error{"TLS handshake: \"" + server_name + "\" is no server's name"});
    return;
  }
  encrypted_.append(as_bytes(prologue));
  advance_handshake();
  if (!failed()) flush();
}

// Without a name OpenSSL would take a certificate for any.
bool TlsTransport::expect_server(std::string_view name) {
  if (name.starts_with('[') && name.ends_with(']')) name = name.substr(1, name.size() - 2);
  X509_VERIFY_PARAM* rules = SSL_get0_param(ssl_.get());
  const std::string text(name.ends_with('.') ? name.substr(0, name.size() - 1) : name);
  if (X509_VERIFY_PARAM_set1_ip_asc(rules, text.c_str()) == 1) return true;
  if (text.empty()) return SSL_get_verify_mode(ssl_.get()) == SSL_VERIFY_NONE;
  X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return X509_VERIFY_PARAM_set1_host(rules, text.data(), text.size()) == 1 &&
         SSL_set_tlsext_host_name(ssl_.get(), text.c_str()) == 1;
}

void TlsTransport::on_read(MutableBytes bytes) {
  received_ = bytes;
  if (!established_) advance_handshake();
  if (peeking()) {
    // What is left unread makes the close a reset, which would overtake our alert.
    take(failed() ? bytes.size() : bytes.size() - received_.size());
    received_ = {};
    peek(!established_);
  }
  if (established_) decrypt();
  received_ = {};
  // OpenSSL may have answered by itself: the handshake, a key update, an alert. While the kernel
  // refuses bytes they wait for the others, and the owner is told by on_sent() that it took them.
  if (!encrypted_.empty() && !blocked() && !failed()) flush();
  // A peer that asks for answers (key updates) and does not read them.
  if (encrypted_.size() > encrypted_bytes_max && !failed()) fail_tls("flood");
}

void TlsTransport::advance_handshake() {
  ERR_clear_error();
  const int status = SSL_do_handshake(ssl_.get());
  if (status == 1) {
    established_ = true;
    owner_->on_secure();
  } else if (SSL_get_error(ssl_.get(), status) != SSL_ERROR_WANT_READ) {
    fail_tls("handshake");
  }
}

void TlsTransport::decrypt() {
  while (!failed()) {
    ERR_clear_error();
    const int count = SSL_read(ssl_.get(), buffers_.decrypted.get(), IoBuffers::receive_bytes);
    if (key_updates_ > key_updates_max) {
      write(encrypted_);
      fail(FailureKind::tls, Error{"TLS flood: new keys over and over"});
      return;
    }
    if (count > 0) {
      key_updates_ = 0;
      deliver({buffers_.decrypted.get(), static_cast<std::size_t>(count)});
      continue;
    }
    const int error = SSL_get_error(ssl_.get(), count);
    if (error == SSL_ERROR_ZERO_RETURN) {
      tell_end();
    } else if (error != SSL_ERROR_WANT_READ) {
      fail_tls("read");
    }
    return;
  }
}

// A FIN without close_notify may be anybody's, who then decides where the stream ends (RFC 8446
// 6.1). What an upstream says is not to be cut short unnoticed; a WebSocket's client has a Close
// frame for its end, and an HTTP request ends where it says.
void TlsTransport::on_read_end() {
  const bool is_client = context_ == nullptr;
  if (is_client && established_ && !end_told_) {
    return fail(FailureKind::tls, Error{"TLS read: end of stream without close_notify"});
  }
  tell_end();
}

// The peer's close_notify and its FIN mean the same, and both may come.
void TlsTransport::tell_end() {
  if (end_told_) return;
  end_told_ = true;
  owner_->on_end();
}

void TlsTransport::flush() {
  do {
    encrypt();
    write(encrypted_);
  } while (!blocked() && !failed() && established_ && !output_.empty());
  if (shutdown_wanted_ && output_.empty() && encrypted_.empty()) shutdown_write();
}

void TlsTransport::encrypt() {
  if (!established_) return;
  while (!output_.empty() && encrypted_.size() < encrypted_bytes_high && !failed()) {
    const Bytes piece = output_.front();
    ERR_clear_error();
    const int count = SSL_write(ssl_.get(), piece.data(), static_cast<int>(piece.size()));
    if (count <= 0) {
      fail_tls("write");
      return;
    }
    output_.consume(static_cast<std::size_t>(count));
  }
  if (shutdown_wanted_ && output_.empty() && !close_notify_sent_ && !failed()) {
    close_notify_sent_ = true;
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
  }
}

void TlsTransport::shutdown() {
  shutdown_wanted_ = true;
  flush();
}

void TlsTransport::fail_tls(const char* what) {
  const std::string reason = reason_of_failure();
  write(encrypted_);  // the alert that tells the peer
  fail(FailureKind::tls, Error{std::string("TLS ") + what + ": " + reason});
}

std::string TlsTransport::reason_of_failure() const {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  if (reason == nullptr) return "unexpected end";
  if (ERR_GET_LIB(code) != ERR_LIB_SSL || ERR_GET_REASON(code) != SSL_R_CERTIFICATE_VERIFY_FAILED) {
    return reason;
  }
  // "certificate verify failed: certificate has expired"
  return std::string(reason) + ": " +
         X509_verify_cert_error_string(SSL_get_verify_result(ssl_.get()));
}

void TlsTransport::on_protocol_message(int written, int, int content_type, const void* bytes,
                                       std::size_t size, SSL*, void* transport) {
  if (written != 0 || content_type != SSL3_RT_HANDSHAKE || size == 0) return;
  if (*static_cast<const unsigned char*>(bytes) != SSL3_MT_KEY_UPDATE) return;
  ++static_cast<TlsTransport*>(transport)->key_updates_;
}

const BIO_METHOD* TlsTransport::bio_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sluice");
    BIO_meth_set_read(made, &TlsTransport::bio_read);
    BIO_meth_set_write(made, &TlsTransport::bio_write);
    BIO_meth_set_ctrl(made, &TlsTransport::bio_control);
    return made;
  }();
  return method;
}

int TlsTransport::bio_read(BIO* bio, char* out, int size) {
  auto* self = static_cast<TlsTransport*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (self->received_.empty()) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const std::size_t count = std::min(static_cast<std::size_t>(size), self->received_.size());
  std::memcpy(out, self->received_.data(), count);
  self->received_ = self->received_.subspan(count);
  return static_cast<int>(count);
}

int TlsTransport::bio_write(BIO* bio, const char* bytes, int size) {
  auto* self = static_cast<TlsTransport*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  self->encrypted_.append(as_bytes({bytes, static_cast<std::size_t>(size)}));
  return size;
}

long TlsTransport::bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

}  // namespace sluice::net
