#include "net/tls_transport.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace sluice::net {
namespace {

// More is not encrypted ahead of what the kernel takes: bytes that wait, wait as plain ones.
constexpr std::size_t encrypted_bytes_high = 64 * 1024;

// What OpenSSL may add to that by itself.
constexpr std::size_t encrypted_bytes_max = 2 * encrypted_bytes_high;

}  // namespace

TlsTransport::TlsTransport(uv::Loop& loop, IoBuffers& buffers, int fd, const TlsContext& context,
                           Transport::Owner& owner)
    : Socket(loop, buffers, fd, owner),
      context_(context),
      ssl_(SSL_new(context.initial())),
      encrypted_(buffers.pool) {
  BIO* bio = BIO_new(bio_method());
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);  // one reference: ssl_ owns it
  SSL_set_accept_state(ssl_.get());
}

TlsTransport::~TlsTransport() = default;

void TlsTransport::Free::operator()(SSL* ssl) const {
  SSL_free(ssl);
}

const char* TlsTransport::tls_version() const {
  return SSL_get_version(ssl_.get());
}

bool TlsTransport::is_misdirected(const std::string& host) const {
  return context_.is_misdirected(ssl_.get(), host);
}

void TlsTransport::on_read(MutableBytes bytes) {
  received_ = bytes;
  if (established_ || handshake()) decrypt();
  received_ = {};
  // OpenSSL may have answered by itself: the handshake, a key update, an alert. While the kernel
  // refuses bytes they wait for the others, and the owner is told by on_sent() that it took them.
  if (!encrypted_.empty() && !blocked() && !failed()) flush();
  // A peer that asks for answers (key updates) and does not read them.
  if (encrypted_.size() > encrypted_bytes_max && !failed()) fail_tls("flood");
}

bool TlsTransport::handshake() {
  ERR_clear_error();
  const int status = SSL_do_handshake(ssl_.get());
  if (status == 1) {
    established_ = true;
    owner_->on_secure();
    return true;
  }
  if (SSL_get_error(ssl_.get(), status) != SSL_ERROR_WANT_READ) fail_tls("handshake");
  return false;
}

void TlsTransport::decrypt() {
  while (!failed()) {
    ERR_clear_error();
    const int count = SSL_read(ssl_.get(), buffers_.decrypted.get(), IoBuffers::receive_bytes);
    if (count > 0) {
      owner_->on_receive({buffers_.decrypted.get(), static_cast<std::size_t>(count)});
      continue;
    }
    const int error = SSL_get_error(ssl_.get(), count);
    if (error == SSL_ERROR_ZERO_RETURN) {
      on_read_end();
    } else if (error != SSL_ERROR_WANT_READ) {
      fail_tls("read");
    }
    return;
  }
}

// The peer's close_notify and its FIN mean the same, and both may come.
void TlsTransport::on_read_end() {
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
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  write(encrypted_);  // the alert that tells the peer
  fail(FailureKind::tls,
       Error{std::string("TLS ") + what + ": " + (reason == nullptr ? "unexpected end" : reason)});
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
