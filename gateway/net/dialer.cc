#include "net/dialer.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "net/tls_transport.h"

namespace sluice::net {
namespace {

// A round trip to the other side of the world, and more.
constexpr std::uint64_t address_ms_min = 500;

// A dead server's port may be the very one that the kernel gives us to connect from: TCP then
// connects the socket to itself, with nobody there.
bool is_connected_to_itself(int fd, const Address& dialled) {
  if (dialled.family() == AF_UNIX) return false;
  const auto local = Address::of_socket(fd);
  if (!local || local->port() != dialled.port()) return false;
  const auto peer = Address::of_peer(fd);
  return peer && *peer == *local;
}

int pending_error(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
  return error;
}

// What connect() answers when no port is left, it also answers where there is no address to come
// from, as without IPv6. Datagrams need the address as well, but none of TCP's ports.
bool has_source_address(const Address& dialled) {
  const Fd fd(::socket(dialled.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return ::connect(fd.get(), dialled.raw(), dialled.raw_size()) == 0 || errno != EADDRNOTAVAIL;
}

}  // namespace

Dialer::Dialer(uv::Loop& loop, IoBuffers& buffers, std::vector<Address> addresses,
               std::shared_ptr<const TlsClientContext> tls, std::string server_name,
               std::string prologue, Owner& owner)
    : loop_(loop),
      buffers_(buffers),
      addresses_(std::move(addresses)),
      tls_(std::move(tls)),
      server_name_(std::move(server_name)),
      prologue_(std::move(prologue)),
      owner_(owner) {
  if (addresses_.empty()) trouble_ = {Failure::unreachable, Error{"no address to connect to"}};
  try_next();
}

Dialer::~Dialer() = default;

void Dialer::try_next() {
  while (tried_ < addresses_.size()) {
    if (try_address(addresses_[tried_++])) return;
    give_up_socket();
    // Another address needs a descriptor as well.
    if (trouble_->failure == Failure::out_of_descriptors) break;
  }
  tell_soon();
}

bool Dialer::is_waiting_with_others_left() const {
  return poll_ && tried_ < addresses_.size();
}

std::uint64_t Dialer::share_ms(std::uint64_t left_ms) const {
  if (!is_waiting_with_others_left()) return left_ms;
  const std::uint64_t fair_ms = left_ms / (addresses_.size() - tried_ + 1);
  return std::min(left_ms, std::max(fair_ms, address_ms_min));
}

void Dialer::try_another() {
  if (!is_waiting_with_others_left()) return;
  give_up_socket();
  try_next();
}

const Error* Dialer::out_of_ports() const {
  const bool short_of_them = trouble_ && trouble_->failure == Failure::out_of_ports;
  return short_of_them ? &trouble_->error : nullptr;
}

// Returns whether the loop will tell how it went.
bool Dialer::try_address(const Address& address) {
  const int fd = ::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    note(errno);
    return false;
  }
  fd_.emplace(fd);
  set_sending_options(fd);
  // One that is interrupted goes on in the background as well.
  if (::connect(fd, address.raw(), address.raw_size()) != 0 && errno != EINPROGRESS &&
      errno != EINTR) {
    note(errno);
    return false;
  }
  // A connection that stands already can be written to: the loop says so at once.
  poll_.emplace(loop_, fd, static_cast<uv::Poll::Owner&>(*this));
  poll_->watch(false, true);
  return true;
}

void Dialer::on_poll(uv::Poll::Events events) {
  int error = 0;
  if (events.failed) {
    error = pending_error(fd_->get());
    if (error == 0) error = ECONNRESET;
  } else if (is_connected_to_itself(fd_->get(), addresses_[tried_ - 1])) {
    error = ECONNREFUSED;
  }
  if (error == 0) return on_connected();
  note(error);
  give_up_socket();
  try_next();
  if (poll_) owner_.on_next_address();
}

// The loop knows a descriptor once only, so our poll leaves before the transport's comes.
void Dialer::on_connected() {
  poll_.reset();
  const int fd = fd_->release();
  fd_.reset();
  trouble_.reset();  // of addresses before this one
  Transport::Owner& self = *this;
  if (tls_ == nullptr) {
    transport_ = std::make_unique<PlainTransport>(loop_, buffers_, fd, self);
    transport_->output().append(as_bytes(prologue_));
    transport_->flush();
    if (!trouble_) tell();
    return;
  }
  auto secured = std::make_unique<TlsTransport>(loop_, buffers_, fd, *tls_, self);
  TlsTransport& tls = *secured;
  transport_ = std::move(secured);
  tls.read(true);
  tls.start_handshake(server_name_, prologue_);
}

std::string Dialer::address() const {
  return addresses_[tried_ - 1].to_string();
}

void Dialer::note(int error) {
  if (out_of_ports() != nullptr) return;
  const bool no_port = error == EADDRNOTAVAIL && has_source_address(addresses_[tried_ - 1]);
  // Without IPv6 an IPv6 address says less than the one before it: localhost has both.
  if (trouble_ && error == EADDRNOTAVAIL && !no_port) return;
  trouble_ = {no_port ? Failure::out_of_ports : failure_of(error),
              fail_errno("connect to " + address(), error).value()};
}

Dialer::Failure Dialer::failure_of(int error) {
  switch (error) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return Failure::out_of_descriptors;
    case ECONNRESET:
    case EPIPE:
      return Failure::reset;
    // The last two are for a unix socket: nobody made it, or too many wait for it.
    case ECONNREFUSED:
    case ENOENT:
    case EAGAIN:
      return Failure::refused;
    default:
      return Failure::unreachable;
  }
}

void Dialer::give_up_socket() {
  poll_.reset();
  fd_.reset();
}

void Dialer::on_secure() {
  transport_->read(false);
  tell_soon();
}

void Dialer::on_end() {
  on_failure(FailureKind::tls, Error{"TLS handshake: the server has closed the connection"});
}

// Also while the stream that stands waits to be told of.
void Dialer::on_failure(FailureKind kind, const Error& error) {
  trouble_ = {kind == FailureKind::tls ? Failure::tls : Failure::reset,
              Error{"connect to " + address() + ": " + error.message}};
  transport_->read(false);
  tell_soon();
}

// For what is found inside of somebody else's call.
void Dialer::tell_soon() {
  if (!tell_) tell_.emplace(loop_, [this] { tell(); });
  tell_->start(0);
}

// The owner may destroy the dialer in there.
void Dialer::tell() {
  if (!trouble_) return owner_.on_dialled(std::move(transport_));
  transport_.reset();
  const Trouble trouble = std::move(*trouble_);
  owner_.on_dial_failed(trouble.failure, trouble.error);
}

}  // namespace sluice::net
