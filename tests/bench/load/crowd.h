// Many clients on one thread and one epoll: opening them, their bytes, and lines on stdin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base.h"
#include "options.h"
#include "tls.h"

namespace load {

class Handler;

struct Client {
  enum class State : std::uint8_t { closed, connecting, securing, upgrading, open };

  Handler* handler = nullptr;
  std::uint32_t index = 0;  // of its handler's clients
  int fd = -1;
  State state = State::closed;
  bool watches_input = true;
  bool watches_output = false;
  SSL* ssl = nullptr;  // null: plain
  std::uint64_t opened_ns = 0;
  std::string partial;  // the answer to the upgrade, or a Ping, as far as it has come
};

// What is done with clients. A write() or open() in an event may lead to further events at once.
class Handler {
 public:
  virtual ~Handler() = default;

  virtual void on_open(Client& client) = 0;
  virtual void on_bytes(Client& client, std::uint8_t* bytes, std::size_t size) = 0;
  // There is room again, after a write() that was not taken whole.
  virtual void on_writable(Client& client);
  // The server has closed it, or (`why`) it was lost or did not open. The client is closed by then.
  virtual void on_end(Client& client, const std::string& why);
};

class Crowd {
 public:
  explicit Crowd(const Options& options);
  ~Crowd();
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

  // The client may not move as long as it is open.
  void open(Client& client, Handler& handler);
  // All of them, some at a time, until the last has opened or failed.
  void open_all(std::span<Client> clients, Handler& handler);
  void close(Client& client);
  void reset(Client& client);  // with RST, so that nothing of it stays in the kernel

  // What was taken of it. If that is not all, on_writable() tells when to go on, or the client was
  // lost, and on_end() has told already.
  std::size_t write(Client& client, const void* bytes, std::size_t size);
  // On an empty socket there is always room for it.
  void write_small(Client& client, const void* bytes, std::size_t size);
  void watch_input(Client& client, bool wanted);
  void watch_output(Client& client, bool wanted);

  // A quiet client is pinged. Answers the Pings at the front of what came between two frames;
  // returns how many bytes they are.
  std::size_t answer_pings(Client& client, const std::uint8_t* bytes, std::size_t size);
  std::uint64_t pings() const { return pings_; }
  const Tls* tls() const { return tls_.get(); }

  // Waits for events, at most so long.
  void poll(std::uint64_t wait_ns = 100'000'000);
  // Clients are served meanwhile. Nothing if stdin has ended.
  std::optional<std::string> wait_for_line();
  // The next line if it has come already.
  std::optional<std::string> next_line();

 private:
  void on_connected(Client& client);
  void secure(Client& client);
  void upgrade(Client& client);
  void on_upgrade_answer(Client& client, const std::uint8_t* bytes, std::size_t size);
  void finish_opening(Client& client);

  void on_client_event(Client& client, std::uint32_t events);
  void receive(Client& client);
  bool receive_some(Client& client);
  void lose(Client& client, const std::string& why);
  void watch(Client& client, int operation);
  void listen_to_stdin();
  void read_stdin();

  const Options& options_;
  const std::string upgrade_;
  const int epoll_fd_;
  std::unique_ptr<Tls> tls_;
  Buffer received_;
  std::size_t opening_ = 0;
  std::uint64_t opened_ = 0;  // for the next source address
  std::uint64_t pings_ = 0;
  bool stdin_watched_ = false;
  bool stdin_ended_ = false;
  std::string input_;
};

}  // namespace load
