// TlsTransport: the server's or the client's end of a TLS stream.
//
// OpenSSL sees the socket through one BIO of ours: what it reads is a view of the worker's receive
// buffer, what it writes is appended to a queue of encrypted bytes. An idle connection holds no
// record buffers.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "net/socket.h"
#include "net/tls_client_context.h"
#include "net/tls_context.h"

using BIO = struct bio_st;
using BIO_METHOD = struct bio_method_st;

namespace sluice::net {

class TlsTransport final : public Socket {
 public:
  // The server. The context outlives the transport.
  TlsTransport(uv::Loop& loop, IoBuffers& buffers, int fd, const TlsContext& context,
               Transport::Owner& owner);
  // The client. Nothing happens before start_handshake().
  TlsTransport(uv::Loop& loop, IoBuffers& buffers, int fd, const TlsClientContext& context,
               Transport::Owner& owner);
  ~TlsTransport() override;

  // Begins the handshake of a client, once. `prologue` is sent first, and in the clear.
  // From then on an end of the stream without close_notify is a failure of it.
  // `server_name` is a DNS name or an IP address, which the server's certificate must be valid for
  // if the context verifies. Whether it succeeds is told by on_secure() or on_failure(), and the
  // latter may come from inside of this call. Whoever calls read(false) in on_secure() finds
  // whatever the server sends behind the handshake unread.
  void start_handshake(const std::string& server_name, std::string_view prologue);

  void flush() override;
  // Sends close_notify (RFC 8446 6.1), then FIN.
  void shutdown() override;
  std::size_t encrypted_bytes() const override { return encrypted_.size(); }
  bool secure() const override { return true; }
  bool has_unread() const override;  // or a part of a record
  const char* tls_version() const override;
  bool is_misdirected(const std::string& host) const override;

 private:
  struct Free {
    void operator()(SSL* ssl) const;
  };

  void use_own_bio();
  bool expect_server(std::string_view name);

  void on_read(MutableBytes bytes) override;
  void on_read_end() override;
  void tell_end();

  void advance_handshake();
  void decrypt();
  void encrypt();
  void fail_tls(const char* what);
  std::string reason_of_failure() const;

  static void on_protocol_message(int written, int version, int content_type, const void* bytes,
                                  std::size_t size, SSL* ssl, void* transport);
  static const BIO_METHOD* bio_method();
  static int bio_read(BIO* bio, char* out, int size);
  static int bio_write(BIO* bio, const char* bytes, int size);
  static long bio_control(BIO* bio, int command, long number, void* pointer);

  const TlsContext* context_;  // null for a client
  std::unique_ptr<SSL, Free> ssl_;
  ByteQueue encrypted_;       // and the prologue of a client
  MutableBytes received_;     // of the present on_read(), not yet taken by OpenSSL
  unsigned key_updates_ = 0;  // of the peer, since its last byte of data
  bool established_ = false;
  bool close_notify_sent_ = false;
  bool end_told_ = false;
};

}  // namespace sluice::net
