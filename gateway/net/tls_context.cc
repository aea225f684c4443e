#include "net/tls_context.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <string_view>

#include "net/tls_rules.h"

namespace sluice::net {
namespace {

// We speak HTTP/1.1 and nothing else. A client that insists on other protocols is refused with the
// alert no_application_protocol (RFC 7301 3.2), so that nobody can make a browser mistake one
// protocol for another (ALPACA). A client without ALPN is served.
int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                    const unsigned char* offered, unsigned int offered_size, void*) {
  static constexpr std::string_view http1_1 = "http/1.1";
  for (unsigned int at = 0; at < offered_size;) {
    const unsigned int size = offered[at];
    if (at + 1 + size > offered_size) break;
    if (std::string_view(reinterpret_cast<const char*>(offered) + at + 1, size) == http1_1) {
      *chosen = offered + at + 1;
      *chosen_size = static_cast<unsigned char>(size);
      return SSL_TLSEXT_ERR_OK;
    }
    at += 1 + size;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

}  // namespace

void TlsContext::Free::operator()(SSL_CTX* context) const {
  SSL_CTX_free(context);
}

Result<std::shared_ptr<const TlsContext>> TlsContext::create(const TlsSettings& settings) {
  std::shared_ptr<TlsContext> made(new TlsContext);
  for (const auto& certificate : settings.certificates) {
    auto context = load(certificate, settings.tls1_3_only);
    if (!context) return tl::unexpected(context.error());
    SSL_CTX_set_tlsext_servername_callback(context->get(), &TlsContext::choose_by_name);
    SSL_CTX_set_tlsext_servername_arg(context->get(), made.get());
    made->contexts_.push_back(std::move(*context));
  }
  return made;
}

Result<TlsContext::ContextPtr> TlsContext::load(const TlsSettings::Certificate& certificate,
                                                bool tls1_3_only) {
  ContextPtr context(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* ctx = context.get();
  apply_tls_rules(ctx);
  if (tls1_3_only) SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
  SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
  // Sessions are not cached: tickets resume them, without memory of ours.
  static constexpr unsigned char session_context[] = "sluice";
  SSL_CTX_set_session_id_context(ctx, session_context, sizeof session_context - 1);
  SSL_CTX_set_max_early_data(ctx, 0);  // no replayable upgrades
  SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, nullptr);

  if (auto used = use_certificate(ctx, certificate.cert_file, certificate.key_file); !used) {
    return tl::unexpected(used.error());
  }
  return context;
}

bool TlsContext::is_misdirected(const SSL* ssl, const std::string& host) const {
  const auto covers = [&host](X509* certificate) {
    return X509_check_host(certificate, host.c_str(), host.size(), 0, nullptr) == 1;
  };
  if (contexts_.size() == 1 || covers(SSL_get_certificate(ssl))) return false;
  for (const auto& context : contexts_) {
    if (covers(SSL_CTX_get0_certificate(context.get()))) return true;
  }
  return false;
}

// RFC 6066 3: the name that the client asks for chooses the certificate; an unknown name gets the
// first one, and the client decides what it thinks of that.
int TlsContext::choose_by_name(SSL* ssl, int*, void* self) {
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (name == nullptr) return SSL_TLSEXT_ERR_NOACK;
  for (const auto& context : static_cast<const TlsContext*>(self)->contexts_) {
    X509* certificate = SSL_CTX_get0_certificate(context.get());
    if (X509_check_host(certificate, name, 0, 0, nullptr) == 1) {
      SSL_set_SSL_CTX(ssl, context.get());
      return SSL_TLSEXT_ERR_OK;
    }
  }
  return SSL_TLSEXT_ERR_NOACK;
}

}  // namespace sluice::net
