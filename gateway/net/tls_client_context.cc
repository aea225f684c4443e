#include "net/tls_client_context.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "net/tls_rules.h"

namespace sluice::net {
namespace {

Result<> trust(SSL_CTX* context, const std::string& ca_file) {
  ERR_clear_error();
  if (ca_file.empty()) {
    if (SSL_CTX_set_default_verify_paths(context) == 1) return {};
    return fail("the system's certificate authorities: " + openssl_reason());
  }
  if (SSL_CTX_load_verify_file(context, ca_file.c_str()) == 1) return {};
  return fail("certificate authorities " + ca_file + ": " + openssl_reason());
}

}  // namespace

void TlsClientContext::Free::operator()(SSL_CTX* context) const {
  SSL_CTX_free(context);
}

Result<std::shared_ptr<const TlsClientContext>> TlsClientContext::create(
    const TlsClientSettings& settings) {
  std::shared_ptr<TlsClientContext> made(new TlsClientContext);
  made->verify_ = settings.verify;
  made->context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* context = made->raw();
  apply_tls_rules(context);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);  // sessions are not resumed
  SSL_CTX_set_verify(context, settings.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  if (settings.verify) {
    if (auto trusted = trust(context, settings.ca_file); !trusted) {
      return tl::unexpected(trusted.error());
    }
  }
  if (!settings.cert_file.empty()) {
    if (auto used = use_certificate(context, settings.cert_file, settings.key_file); !used) {
      return tl::unexpected(used.error());
    }
  }
  return made;
}

}  // namespace sluice::net
