// TlsContext: the certificates and rules of one TLS listener.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

using SSL_CTX = struct ssl_ctx_st;
using SSL = struct ssl_st;

namespace sluice::net {

struct TlsSettings {
  struct Certificate {
    std::string cert_file;  // PEM, leaf first
    std::string key_file;   // PEM
  };
  std::vector<Certificate> certificates;  // at least one
  bool tls1_3_only = false;
};

// Not changed after it was made; may be shared by threads.
class TlsContext {
 public:
  // Reads the files. Errors name the file.
  static Result<std::shared_ptr<const TlsContext>> create(const TlsSettings& settings);

  // The context that a connection begins with; the client's SNI may switch it to another.
  SSL_CTX* initial() const { return contexts_.front().get(); }

  // Whether `host` has a certificate here, but not the one of this connection: a request for it
  // came the wrong way.
  bool is_misdirected(const SSL* ssl, const std::string& host) const;

 private:
  struct Free {
    void operator()(SSL_CTX* context) const;
  };
  using ContextPtr = std::unique_ptr<SSL_CTX, Free>;

  TlsContext() = default;
  static Result<ContextPtr> load(const TlsSettings::Certificate& certificate, bool tls1_3_only);
  static int choose_by_name(SSL* ssl, int* alert, void* self);

  std::vector<ContextPtr> contexts_;
};

}  // namespace sluice::net
