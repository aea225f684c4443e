// Handler: whatever answers plain HTTP requests of a route.
#pragma once

#include <string_view>

#include "http/request.h"
#include "http/static_files.h"

namespace sluice::http {

// Shared by the workers: respond() may be called by several threads at a time.
class Handler {
 public:
  virtual ~Handler() = default;
  // `rest` is what remains of the path below the prefix of a route that ends in "/*"; the whole
  // path for other routes.
  virtual StaticFiles::Reply respond(const Request& request, std::string_view rest) const = 0;
};

// The target `static: { root: … }`.
class StaticHandler final : public Handler {
 public:
  explicit StaticHandler(StaticFiles files) : files_(std::move(files)) {}
  StaticFiles::Reply respond(const Request& request, std::string_view rest) const override {
    return files_.respond(request, rest);
  }

 private:
  StaticFiles files_;
};

}  // namespace sluice::http
