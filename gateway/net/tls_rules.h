// What TLS is like for us, whether we are its server or its client.
#pragma once

#include <string>

#include "base/result.h"

using SSL_CTX = struct ssl_ctx_st;

namespace sluice::net {

// TLS 1.2 or later without renegotiation and compression, with little memory while idle.
void apply_tls_rules(SSL_CTX* context);

// Reads a certificate with its chain, leaf first, and its private key; both PEM. Errors name the
// file.
Result<> use_certificate(SSL_CTX* context, const std::string& cert_file,
                         const std::string& key_file);

// The words for the oldest error in OpenSSL's queue, which is empty afterwards.
std::string openssl_reason();

}  // namespace sluice::net
