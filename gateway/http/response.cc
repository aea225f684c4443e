#include "http/response.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <iterator>
#include <utility>

#include "base/field.h"

namespace sluice::http {
namespace {

// The statuses that we send, and the errors that a plugin may answer with.
constexpr std::pair<int, std::string_view> phrases[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

// "Not Found"; empty for a status that has no phrase (RFC 9112 4: the space before it stays).
std::string_view reason_phrase(int status) {
  const auto* const found =
      std::find_if(std::begin(phrases), std::end(phrases),
                   [&](const auto& phrase) { return phrase.first == status; });
  return found == std::end(phrases) ? std::string_view() : found->second;
}

// RFC 9110 8.6, RFC 9112 6.1: neither length nor coding with 1xx and 204. With 304 they would have
// to be those of the 200.
bool may_have_body(int status) {
  return status >= 200 && status != 204 && status != 304;
}

Result<> append_fields(std::string& head, const std::vector<Header>& fields) {
  for (const auto& [name, value] : fields) {
    if (!is_token(name)) {
      return fail("not a header field's name: " + std::to_string(name.size()) + " bytes");
    }
    if (!is_field_value(value)) return fail("a control character in header field " + name);
    head.append(name).append(": ").append(value).append("\r\n");
  }
  return {};
}

bool has_field(const Response& response, std::string_view name) {
  for (const Header& field : response.headers) {
    if (equals_ignoring_case(field.name, name)) return true;
  }
  return false;
}

// RFC 9112 9.3 and 9.6; RFC 9110 7.8: who sends Upgrade also sends the option "upgrade".
std::string connection_options(const Response& response, const ResponseContext& context) {
  std::string options;
  if (response.status < 200 && response.status != 101) return options;
  if (has_field(response, "upgrade")) options = "Upgrade";
  if (response.status == 101) return options;
  if (closes(response, context)) {
    options += options.empty() ? "close" : ", close";
  } else if (context.version_minor == 0) {
    options += options.empty() ? "keep-alive" : ", keep-alive";
  }
  return options;
}

Result<> append_status_line(std::string& head, const Response& response) {
  const std::string_view phrase = response.reason_phrase.empty()
                                      ? reason_phrase(response.status)
                                      : std::string_view(response.reason_phrase);
  if (!is_field_value(phrase)) return fail("a control character in the reason phrase");
  head.append("HTTP/1.1 ").append(std::to_string(response.status)).append(" ");
  head.append(phrase).append("\r\n");
  return {};
}

std::uint64_t body_length(const Response& response) {
  return response.content_length.value_or(response.body.size());
}

// The fields that describe the connection and the body, in the order in which servers send them.
std::vector<Header> own_fields(const Response& response, const ResponseContext& context) {
  std::vector<Header> fields;
  // RFC 9110 6.6.1: with 1xx it is optional.
  if (response.status >= 200 && !context.date.empty() && !has_field(response, "date")) {
    fields.push_back({"Date", std::string(context.date)});
  }
  if (may_have_body(response.status)) {
    if (response.chunked) {
      fields.push_back({"Transfer-Encoding", "chunked"});
    } else if (!response.until_close) {
      fields.push_back({"Content-Length", std::to_string(body_length(response))});
    }
  }
  std::string options = connection_options(response, context);
  if (!options.empty()) fields.push_back({"Connection", std::move(options)});
  return fields;
}

}  // namespace

std::string http_date(std::int64_t unix_seconds) {
  constexpr std::array days = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t time = unix_seconds;
  std::tm utc = {};
  if (gmtime_r(&time, &utc) == nullptr) return {};
  std::array<char, 64> text = {};
  std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                days[static_cast<std::size_t>(utc.tm_wday)], utc.tm_mday,
                months[static_cast<std::size_t>(utc.tm_mon)], utc.tm_year + 1900, utc.tm_hour,
                utc.tm_min, utc.tm_sec);
  return text.data();
}

Response refusal(int status, std::string_view message, std::vector<Header> headers) {
  Response response;
  response.status = status;
  response.headers = std::move(headers);
  response.headers.push_back({"Content-Type", "text/plain; charset=utf-8"});
  response.headers.push_back({"X-Content-Type-Options", "nosniff"});
  response.body = std::to_string(status).append(" ").append(reason_phrase(status));
  if (!message.empty()) response.body.append(": ").append(message);
  response.body += '\n';
  return response;
}

bool closes(const Response& response, const ResponseContext& context) {
  const bool ends_body = response.until_close && !context.head && may_have_body(response.status);
  return response.close || ends_body || !context.keep_alive;
}

Result<std::string> serialise(const Response& response, const ResponseContext& context) {
  std::string wire;
  wire.reserve(512);  // of a usual head
  Result<> appended = append_status_line(wire, response);
  if (appended) appended = append_fields(wire, own_fields(response, context));
  if (appended) appended = append_fields(wire, response.headers);
  if (!appended) return tl::unexpected(appended.error());
  wire += "\r\n";
  if (!context.head && may_have_body(response.status)) wire += response.body;
  return wire;
}

}  // namespace sluice::http
