// TlsClientContext: the rules by which we are the client of a TLS stream.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"

using SSL_CTX = struct ssl_ctx_st;

namespace sluice::net {

struct TlsClientSettings {
  std::string ca_file = {};    // PEM; empty: the system's
  std::string cert_file = {};  // PEM, leaf first; empty: no client certificate
  std::string key_file = {};   // PEM
  bool verify = true;          // the chain, and that the certificate is the server's
};

// Not changed after it was made; may be shared by threads. TLS 1.2 or later. No ALPN is sent: what
// runs inside is the bridge's business.
class TlsClientContext {
 public:
  // Reads the files. Errors name the file.
  static Result<std::shared_ptr<const TlsClientContext>> create(const TlsClientSettings& settings);

  SSL_CTX* raw() const { return context_.get(); }
  bool verify() const { return verify_; }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const;
  };
  TlsClientContext() = default;

  std::unique_ptr<SSL_CTX, Free> context_;
  bool verify_ = true;
};

}  // namespace sluice::net
