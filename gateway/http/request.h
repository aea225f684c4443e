// Request: the head of an HTTP/1.1 request, parsed, checked and normalised.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::http {

struct Header {
  std::string name;   // as sent
  std::string value;  // without leading and trailing white space
};

struct Request {
  std::string method;     // "GET"
  std::string target;     // as sent
  std::string path;       // normalised (http/target.h): what is matched, logged and forwarded
  std::string query;      // as sent, without "?"
  std::string host;       // the authority: lower-case host without port; "[::1]" keeps its brackets
  std::string authority;  // host and port as sent in Host (or in an absolute-form target)
  int version_minor = 1;  // HTTP/1.x
  bool keep_alive = true;  // what the client wants (RFC 9112 9.3)
  bool has_body = false;   // Content-Length over zero, or chunked
  std::vector<Header> headers;

  // The field's value, or nothing if it is absent. Names are compared without case. Fields that
  // came more than once are joined with ", " (RFC 9110 5.3).
  std::optional<std::string> header(std::string_view name) const;
  // How often the field came.
  std::size_t count(std::string_view name) const;
  // Whether a comma-separated list field contains the token, compared without case.
  bool has_token(std::string_view name, std::string_view token) const;
};

}  // namespace sluice::http
