#include "tls.h"

#include <cerrno>

#include "base.h"

namespace load {
namespace {

// Enough for all that are opening at once; a server sends two or so with each handshake.
constexpr std::size_t sessions_max = 1024;

}  // namespace

Tls::Tls(bool resume) : context_(SSL_CTX_new(TLS_client_method())), resume_(resume) {
  if (context_ == nullptr) die("SSL_CTX_new");
  // The certificate is not looked at: it is the server's work that is measured.
  SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION);
  SSL_CTX_set_app_data(context_, this);
  SSL_CTX_set_session_cache_mode(context_,
                                 SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
  if (resume) SSL_CTX_sess_set_new_cb(context_, on_session);
}

Tls::~Tls() {
  for (SSL_SESSION* session : sessions_) SSL_SESSION_free(session);
  SSL_CTX_free(context_);
}

SSL* Tls::begin(int fd) {
  SSL* ssl = SSL_new(context_);
  SSL_set_fd(ssl, fd);
  SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_set_connect_state(ssl);
  if (resume_ && !sessions_.empty()) {
    // A ticket is used once, as RFC 8446 C.4 wants it.
    SSL_set_session(ssl, sessions_.back());
    SSL_SESSION_free(sessions_.back());
    sessions_.pop_back();
  }
  return ssl;
}

// Each ticket that a server sends. Returns whether the session is kept.
int Tls::on_session(SSL* ssl, SSL_SESSION* session) {
  auto* tls = static_cast<Tls*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  if (tls->sessions_.size() >= sessions_max) return 0;
  tls->sessions_.push_back(session);
  return 1;
}

ssize_t as_count(SSL* ssl, int result) {
  if (result > 0) return result;
  const int error = SSL_get_error(ssl, result);
  if (error == SSL_ERROR_ZERO_RETURN) return 0;
  const bool later = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
  errno = later ? EAGAIN : EPROTO;
  return -1;
}

}  // namespace load
