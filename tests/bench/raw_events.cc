// The service behind webhooks in script/bench: HTTP/1.1 with as little work as possible. Each POST
// is answered with the events that it brought (application/websocket-events), so an OPEN is
// accepted, each message echoed and a CLOSE answered; only a DISCONNECT is answered with nothing.
//
//   bench_raw_events [CHANNEL]    prints "listening on 127.0.0.1:PORT" and serves until it is
//                                 killed; with a CHANNEL, whoever opens is subscribed to it (GRIP)
#include <algorithm>
#include <string>
#include <string_view>

#include "raw_server.h"

namespace {

char received[raw::receive_bytes];
std::string subscription;  // the event that subscribes; empty: nobody is subscribed

// Both gateways say how long a body is; one without any has none.
std::size_t content_length(std::string_view head) {
  constexpr std::string_view name = "\r\ncontent-length:";
  const auto same = [](char a, char b) { return (a | 0x20) == (b | 0x20); };
  const auto found = std::search(head.begin(), head.end(), name.begin(), name.end(), same);
  if (found == head.end()) return 0;
  return std::strtoull(&*found + name.size(), nullptr, 10);
}

std::string subscription_to(const std::string& channel) {
  const std::string command = R"(c:{"type":"subscribe","channel":")" + channel + "\"}";
  char size[16];
  std::snprintf(size, sizeof size, "%zx", command.size());
  return std::string("TEXT ") + size + "\r\n" + command + "\r\n";
}

void append_answer(std::string& out, std::string_view events) {
  if (events.starts_with("DISCONNECT")) events = {};
  const bool subscribes = !subscription.empty() && events.starts_with("OPEN");
  const std::string_view more = subscribes ? subscription : std::string_view();
  out += "HTTP/1.1 200 OK\r\nContent-Type: application/websocket-events\r\n";
  if (subscribes) out += "Sec-WebSocket-Extensions: grip\r\n";
  out += "Content-Length: ";
  out += std::to_string(events.size() + more.size());
  out += "\r\n\r\n";
  out += events;
  out += more;
}

// Answers what has come whole.
void answer_requests(raw::Client& client) {
  std::string_view rest = client.request;
  while (true) {
    const std::size_t head_end = rest.find("\r\n\r\n");
    if (head_end == std::string_view::npos) break;
    const std::size_t body_start = head_end + 4;
    const std::size_t length = content_length(rest.substr(0, body_start));
    if (rest.size() < body_start + length) break;
    append_answer(client.waiting, rest.substr(body_start, length));
    rest.remove_prefix(body_start + length);
  }
  client.request.erase(0, client.request.size() - rest.size());
}

void on_readable(int epoll_fd, raw::Client& client) {
  const ssize_t count = ::recv(client.fd, received, sizeof received, 0);
  if (count < 0 && errno == EAGAIN) return;
  if (count <= 0) return raw::close_client(client);
  client.request.append(received, static_cast<std::size_t>(count));
  answer_requests(client);
  const ssize_t sent = raw::send_some(client, client.waiting.data(), client.waiting.size());
  if (sent < 0) return raw::close_client(client);
  client.waiting.erase(0, static_cast<std::size_t>(sent));
  if (!client.waiting.empty()) raw::watch(epoll_fd, EPOLL_CTL_MOD, client);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) subscription = subscription_to(argv[1]);
  raw::serve_clients(on_readable);
}
