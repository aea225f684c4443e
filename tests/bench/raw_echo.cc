// The measure of script/bench: the least that a libuv server can do. It sends back whatever it
// reads, from the buffer that it read it into, and knows nothing of WebSocket.
//
//   bench_raw_echo      prints "listening on 127.0.0.1:PORT" and serves until it is killed
#include <netinet/in.h>
#include <uv.h>

#include <csignal>
#include <cstddef>
#include <cstdio>
#include <vector>

namespace {

constexpr std::size_t receive_bytes = 65 * 1024;  // as much as the gateway reads at once
char received[receive_bytes];

// What the kernel would not take at once.
struct Rest {
  uv_write_t request{};
  std::vector<char> bytes;
};

void close_client(uv_stream_t* client) {
  uv_close(reinterpret_cast<uv_handle_t*>(client),
           [](uv_handle_t* closed) { delete reinterpret_cast<uv_tcp_t*>(closed); });
}

void write_later(uv_stream_t* client, const char* bytes, std::size_t size) {
  auto* rest = new Rest;
  rest->bytes.assign(bytes, bytes + size);
  rest->request.data = rest;
  const uv_buf_t buffer = uv_buf_init(rest->bytes.data(), static_cast<unsigned>(size));
  uv_write(&rest->request, client, &buffer, 1,
           [](uv_write_t* request, int) { delete static_cast<Rest*>(request->data); });
}

void on_read(uv_stream_t* client, ssize_t count, const uv_buf_t* buffer) {
  if (count < 0) return close_client(client);
  const auto size = static_cast<std::size_t>(count);
  const uv_buf_t answer = uv_buf_init(buffer->base, static_cast<unsigned>(size));
  const int tried = uv_try_write(client, &answer, 1);
  if (tried < 0 && tried != UV_EAGAIN) return close_client(client);
  const std::size_t written = tried < 0 ? 0 : static_cast<std::size_t>(tried);
  if (written < size) write_later(client, buffer->base + written, size - written);
}

void on_connection(uv_stream_t* server, int status) {
  if (status < 0) return;
  auto* client = new uv_tcp_t;
  uv_tcp_init(server->loop, client);
  auto* stream = reinterpret_cast<uv_stream_t*>(client);
  if (uv_accept(server, stream) != 0) return close_client(stream);
  uv_tcp_nodelay(client, 1);
  uv_read_start(
      stream,
      [](uv_handle_t*, std::size_t, uv_buf_t* buffer) {
        *buffer = uv_buf_init(received, sizeof received);
      },
      on_read);
}

int report(const char* what, int status) {
  std::fprintf(stderr, "bench_raw_echo: %s: %s\n", what, uv_strerror(status));
  return 1;
}

}  // namespace

int main() {
  std::signal(SIGPIPE, SIG_IGN);  // a client that leaves in the middle of its echo ends itself only
  uv_loop_t* loop = uv_default_loop();
  uv_tcp_t server;
  uv_tcp_init(loop, &server);
  sockaddr_in address{};
  uv_ip4_addr("127.0.0.1", 0, &address);
  uv_tcp_bind(&server, reinterpret_cast<const sockaddr*>(&address), 0);
  const int status = uv_listen(reinterpret_cast<uv_stream_t*>(&server), 4096, on_connection);
  if (status != 0) return report("listen", status);

  int size = sizeof address;
  uv_tcp_getsockname(&server, reinterpret_cast<sockaddr*>(&address), &size);
  std::printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  return uv_run(loop, UV_RUN_DEFAULT);
}
