// The measure of script/bench beside raw_echo.cc: what an echo costs without any library. It sends
// back what it reads, from the buffer that it read it into, and knows nothing of WebSocket.
//
//   bench_raw_epoll_echo [THREADS]    prints "listening on 127.0.0.1:PORT" and serves until it is
//                                     killed
#include "raw_server.h"

namespace {

thread_local char received[raw::receive_bytes];

void echo(int epoll_fd, raw::Client& client) {
  const ssize_t count = ::recv(client.fd, received, sizeof received, 0);
  if (count < 0 && errno == EAGAIN) return;
  if (count <= 0) return raw::close_client(client);
  const ssize_t sent = raw::send_some(client, received, static_cast<std::size_t>(count));
  if (sent < 0) return raw::close_client(client);
  if (sent == count) return;
  client.waiting.assign(received + sent, static_cast<std::size_t>(count - sent));
  raw::watch(epoll_fd, EPOLL_CTL_MOD, client);
}

}  // namespace

int main(int argc, char** argv) {
  raw::serve_clients(echo, argc > 1 ? std::stoul(argv[1]) : 1);
}
