// TlsTransport: the server's end of a TLS stream.
//
// OpenSSL sees the socket through one BIO of ours: what it reads is a view of the worker's receive
// buffer, what it writes is appended to a queue of encrypted bytes. An idle connection holds no
// record buffers.
#pragma once

#include <memory>

#include "net/socket.h"
#include "net/tls_context.h"

using BIO = struct bio_st;
using BIO_METHOD = struct bio_method_st;

namespace sluice::net {

class TlsTransport final : public Socket {
 public:
  TlsTransport(uv::Loop& loop, IoBuffers& buffers, int fd, const TlsContext& context,
               Transport::Owner& owner);
  ~TlsTransport() override;

  void flush() override;
  // Sends close_notify (RFC 8446 6.1), then FIN.
  void shutdown() override;
  std::size_t encrypted_bytes() const override { return encrypted_.size(); }
  bool secure() const override { return true; }
  const char* tls_version() const override;
  bool is_misdirected(const std::string& host) const override;

 private:
  struct Free {
    void operator()(SSL* ssl) const;
  };

  void on_read(MutableBytes bytes) override;
  void on_read_end() override;

  bool handshake();
  void decrypt();
  void encrypt();
  void fail_tls(const char* what);

  static const BIO_METHOD* bio_method();
  static int bio_read(BIO* bio, char* out, int size);
  static int bio_write(BIO* bio, const char* bytes, int size);
  static long bio_control(BIO* bio, int command, long number, void* pointer);

  const TlsContext& context_;
  std::unique_ptr<SSL, Free> ssl_;
  ByteQueue encrypted_;
  MutableBytes received_;  // of the present on_read(), not yet taken by OpenSSL
  bool established_ = false;
  bool shutdown_wanted_ = false;
  bool close_notify_sent_ = false;
  bool end_told_ = false;
};

}  // namespace sluice::net
