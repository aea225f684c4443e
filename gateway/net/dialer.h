// Dialer: one outgoing connection being made: TCP or unix, then TLS if asked for.
//
// Destroying it gives the attempt up. It has no timer of its own: whoever owns it has the deadline.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/address.h"
#include "net/socket.h"
#include "net/tls_client_context.h"
#include "uv/poll.h"

namespace sluice::net {

class Dialer final : private uv::Poll::Owner, private Transport::Owner {
 public:
  enum class Failure { refused, unreachable, reset, tls, out_of_descriptors };

  class Owner {
   public:
    // The stream stands, TLS included. Take it, and call set_owner() on it at once; nothing was
    // read from it, and reading is off.
    virtual void on_dialled(std::unique_ptr<Transport> transport) = 0;
    // Comes once, and last. `error` is a sentence for the log.
    virtual void on_dial_failed(Failure failure, const Error& error) = 0;

   protected:
    ~Owner() = default;
  };

  // Tries the addresses in order until one answers. The owner hears of it from the loop, never from
  // inside the constructor. `tls` may be null; it, the loop and the buffers outlive the transport.
  // `server_name` is for SNI and verification; an IP address is verified as one and sends no SNI.
  // `prologue` goes out first, in the clear (a PROXY protocol header); it may be empty.
  Dialer(uv::Loop& loop, IoBuffers& buffers, std::vector<Address> addresses,
         std::shared_ptr<const TlsClientContext> tls, std::string server_name, std::string prologue,
         Owner& owner);
  ~Dialer();
  Dialer(const Dialer&) = delete;
  Dialer& operator=(const Dialer&) = delete;

 private:
  struct State;  // for net/dialer.cc to define as it needs; members may change freely
  void on_poll(uv::Poll::Events events) override;
  void on_secure() override;
  void on_receive(MutableBytes bytes) override;
  void on_end() override;
  void on_sent() override;
  void on_failure(FailureKind kind, const Error& error) override;

  std::unique_ptr<State> state_;
};

}  // namespace sluice::net
