#include "net/tls_rules.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <system_error>

namespace sluice::net {
namespace {

// A service has nobody to ask; OpenSSL would ask whoever sits at the terminal, or read its input.
int no_passphrase(char*, int, int, void*) {
  return -1;
}

}  // namespace

void apply_tls_rules(SSL_CTX* context) {
  SSL_CTX_set_default_passwd_cb(context, no_passphrase);
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // An idle connection holds no record buffers; a write may take a part, from wherever the bytes
  // have moved to.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

Result<> use_certificate(SSL_CTX* context, const std::string& cert_file,
                         const std::string& key_file) {
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context, cert_file.c_str()) != 1) {
    return fail("certificate " + cert_file + ": " + openssl_reason());
  }
  if (SSL_CTX_use_PrivateKey_file(context, key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    const bool locked = ERR_GET_REASON(ERR_peek_error()) == ERR_R_INTERRUPTED_OR_CANCELLED;
    return fail("private key " + key_file + ": " +
                (locked ? "it has a passphrase, which nobody is asked for" : openssl_reason()));
  }
  if (SSL_CTX_check_private_key(context) != 1) {
    return fail("private key " + key_file + " does not belong to certificate " + cert_file);
  }
  return {};
}

std::string openssl_reason() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  // For errors of the system OpenSSL has no text of its own.
  if (ERR_SYSTEM_ERROR(code)) return std::generic_category().message(ERR_GET_REASON(code));
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "unknown error" : reason;
}

}  // namespace sluice::net
