#include "uv/lookup.h"

#include <memory>
#include <utility>

namespace sluice::uv {

Result<> Lookup::start(Loop& loop, const std::string& host, Done done) {
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
