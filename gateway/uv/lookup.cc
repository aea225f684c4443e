#include "uv/lookup.h"

#include <latch>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace sluice::uv {
namespace {

constexpr int pool_threads = 4;  // of libuv's pool

// Whether so many threads can run at once.
Result<> try_threads() {
  std::latch end(1);
  std::vector<std::thread> threads;
  Result<> outcome;
  try {
    while (threads.size() < pool_threads) threads.emplace_back([&end] { end.wait(); });
  } catch (const std::system_error& error) {
    outcome = fail(std::string("no threads for it: ") + error.what());
  }
  end.count_down();
  for (std::thread& thread : threads) thread.join();
  return outcome;
}

// libuv starts its pool for the first look-up of the process, and aborts if it gets no threads for
// it.
Result<> need_pool() {
  static std::mutex mutex;
  static bool started = false;
  const std::lock_guard lock(mutex);
  if (started) return {};
  auto outcome = try_threads();
  started = outcome.has_value();
  return outcome;
}

}  // namespace

Result<> Lookup::start(Loop& loop, const std::string& host, Done done) {
  if (auto pool = need_pool(); !pool) return pool;
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;  // or every address comes once a protocol
  auto request = std::make_unique<uv_getaddrinfo_t>();
  request->data = this;
  const int status =
      uv_getaddrinfo(loop.raw(), request.get(), &Lookup::on_answer, host.c_str(), nullptr, &hints);
  if (status != 0) return fail(uv_strerror(status));
  request_ = request.release();
  done_ = std::move(done);
  return {};
}

void Lookup::on_answer(uv_getaddrinfo_t* request, int status, addrinfo* found) {
  const std::unique_ptr<uv_getaddrinfo_t> asked(request);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, uv_freeaddrinfo);
  auto* self = static_cast<Lookup*>(request->data);
  if (self == nullptr) return;
  self->request_ = nullptr;
  const Done done = std::move(self->done_);  // the lookup may be destroyed in there
  if (status != 0) {
    done(fail(uv_strerror(status)));
  } else if (found == nullptr) {
    done(fail("no address"));
  } else {
    done(found);
  }
}

void Lookup::forget() {
  if (request_ == nullptr) return;
  request_->data = nullptr;
  uv_cancel(reinterpret_cast<uv_req_t*>(request_));  // works while it waits for a thread
}

}  // namespace sluice::uv
