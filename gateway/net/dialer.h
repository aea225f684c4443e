// Dialer: one outgoing connection being made: TCP or unix, then TLS if asked for.
//
// Destroying it gives the attempt up. It has no timer of its own: whoever owns it has the deadline,
// and moves it on from an address that does not answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "net/address.h"
#include "net/socket.h"
#include "net/tls_client_context.h"
#include "uv/poll.h"
#include "uv/timer.h"

namespace sluice::net {

class Dialer final : private uv::Poll::Owner, private Transport::Owner {
 public:
  // The last two are our own shortage and say nothing of the server: no descriptor or memory, which
  // every address needs, and no port to connect from, of which another address may have some left.
  enum class Failure { refused, unreachable, reset, tls, out_of_descriptors, out_of_ports };
  static bool is_own_shortage(Failure failure) {
    return failure == Failure::out_of_descriptors || failure == Failure::out_of_ports;
  }

  class Owner {
   public:
    // The stream stands, TLS included. Take it, and call set_owner() on it at once; nothing was
    // read from it, and reading is off. A server that asks for a client certificate (TLS 1.3)
    // judges it after this, and says so with a failure of the stream.
    virtual void on_dialled(std::unique_ptr<Transport> transport) = 0;
    // The last address that was tried has failed. `error` is a sentence for the log.
    virtual void on_dial_failed(Failure failure, const Error& error) = 0;
    // An address has failed, and another one is tried: that has a share of the time left, as of
    // now. Not called from inside of the constructor and of try_another().
    virtual void on_next_address() {}

   protected:
    ~Owner() = default;
  };

  // Tries the addresses in order until one answers. The owner hears of it once, from the loop and
  // never from inside the constructor; the dialer is done then and may be destroyed. `tls` may be
  // null; the loop and the buffers outlive the transport.
  // `server_name` is for SNI and verification; an IP address is verified as one and sends no SNI.
  // `prologue` goes out first, in the clear (a PROXY protocol header); it may be empty.
  Dialer(uv::Loop& loop, IoBuffers& buffers, std::vector<Address> addresses,
         std::shared_ptr<const TlsClientContext> tls, std::string server_name, std::string prologue,
         Owner& owner);
  ~Dialer();
  Dialer(const Dialer&) = delete;
  Dialer& operator=(const Dialer&) = delete;

  // How long the present address may take, if there are `left_ms` for it and all behind it: a fair
  // share, but enough to answer from anywhere. All of it for the last one, and for the one that has
  // answered, whose TLS handshake goes on.
  std::uint64_t share_ms(std::uint64_t left_ms) const;
  // Gives the present address up for the next one, unless it is the last or has answered.
  void try_another();
  // Why an address could not be tried, if no port was left to connect from and no other address has
  // answered since: whatever they say, that one may be well. Otherwise null.
  const Error* out_of_ports() const;
  // The addresses up to the present one: all before it have failed or were given up.
  std::span<const Address> tried() const { return std::span(addresses_).first(tried_); }

 private:
  struct Trouble {
    Failure failure;
    Error error;
  };
  static Failure failure_of(int error);

  std::string address() const;  // the present one
  bool is_waiting_with_others_left() const;
  void try_next();
  bool try_address(const Address& address);
  void on_poll(uv::Poll::Events events) override;
  void on_connected();
  void note(int error);
  void give_up_socket();

  void on_secure() override;
  void on_receive(MutableBytes) override {}
  void on_end() override;
  void on_sent() override {}
  void on_failure(FailureKind kind, const Error& error) override;

  void tell_soon();
  void tell();

  uv::Loop& loop_;
  IoBuffers& buffers_;
  const std::vector<Address> addresses_;
  const std::shared_ptr<const TlsClientContext> tls_;
  const std::string server_name_;
  const std::string prologue_;
  Dialer::Owner& owner_;

  std::size_t tried_ = 0;  // of the addresses; the last of them is the present one
  std::optional<Fd> fd_;   // while it connects; closed after poll_
  std::optional<uv::Poll> poll_;
  std::unique_ptr<Transport> transport_;
  std::optional<Trouble> trouble_;
  std::optional<uv::Timer> tell_;  // with no delay; most never need it
};

}  // namespace sluice::net
