// Lookup: one question to the system's resolver, answered on libuv's threads.
#pragma once

#include <netdb.h>

#include <functional>
#include <string>

#include "base/result.h"
#include "uv/loop.h"

namespace sluice::uv {

class Lookup {
 public:
  // Called from the loop, once. The list is valid during the call, and never empty.
  using Done = std::function<void(Result<const addrinfo*>)>;

  Lookup() = default;
  // Forgets the answer. A thread that is asking already goes on until the system gives up;
  // Loop::close() waits for it, but not for long.
  ~Lookup() { forget(); }
  Lookup(const Lookup&) = delete;
  Lookup& operator=(const Lookup&) = delete;

  // Call it once. Fails at once, and `done` is not called, if the name cannot be asked for.
  Result<> start(Loop& loop, const std::string& host, Done done);

 private:
  static void on_answer(uv_getaddrinfo_t* request, int status, addrinfo* found);
  void forget();

  uv_getaddrinfo_t* request_ = nullptr;  // libuv's until it has called back
  Done done_;
};

}  // namespace sluice::uv
