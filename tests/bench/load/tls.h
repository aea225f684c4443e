// TLS 1.3 as a client, with or without the tickets of earlier connections (RFC 8446 2.2).
#pragma once

#include <openssl/ssl.h>
#include <sys/types.h>

#include <cstddef>
#include <vector>

namespace load {

class Tls {
 public:
  explicit Tls(bool resume);
  ~Tls();
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  // For a connected socket; with a ticket if there is one. Whose it is afterwards, frees it.
  SSL* begin(int fd);
  bool has_tickets() const { return !sessions_.empty(); }

 private:
  static int on_session(SSL* ssl, SSL_SESSION* session);

  SSL_CTX* const context_;
  const bool resume_;
  std::vector<SSL_SESSION*> sessions_;  // the newest last
};

// What read(2) and write(2) would have returned for the result of an SSL function.
ssize_t as_count(SSL* ssl, int result);

}  // namespace load
