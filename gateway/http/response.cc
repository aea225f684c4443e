#include "http/response.h"

#include <array>
#include <cstdio>
#include <ctime>

#include "base/field.h"

namespace sluice::http {

namespace {

// RFC 9110 8.6: no Content-Length with 1xx and 204. With 304 it would have to be that of the 200.
bool may_have_length(int status) {
  return status >= 200 && status != 204 && status != 304;
}

Result<> append_field(std::string& head, std::string_view name, std::string_view value) {
  if (!is_token(name))
    return fail("not a header field's name: " + std::to_string(name.size()) + " bytes");
  if (!is_field_value(value))
    return fail("a control character in header field " + std::string(name));
  head.append(name).append(": ").append(value).append("\r\n");
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
  if (has_field(response, "upgrade")) options = "Upgrade";
  if (response.status == 101) return options;
  if (closes(response, context)) {
    options += options.empty() ? "close" : ", close";
  } else if (context.version_minor == 0) {
    options += options.empty() ? "keep-alive" : ", keep-alive";
  }
  return options;
}

void append_status_line(std::string& head, int status) {
  head.append("HTTP/1.1 ").append(std::to_string(status)).append(" ");
  head.append(reason_phrase(status)).append("\r\n");
}

std::uint64_t body_length(const Response& response) {
  return response.content_length.value_or(response.body.size());
}

// The fields that describe the connection and the body, in the order in which servers send them.
std::vector<Header> own_fields(const Response& response, const ResponseContext& context) {
  std::vector<Header> fields;
  if (!context.date.empty()) fields.push_back({"Date", std::string(context.date)});
  if (may_have_length(response.status)) {
    fields.push_back({"Content-Length", std::to_string(body_length(response))});
  }
  std::string options = connection_options(response, context);
  if (!options.empty()) fields.push_back({"Connection", std::move(options)});
  return fields;
}

}  // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
    case 101:
      return "Switching Protocols";
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 303:
      return "See Other";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 402:
      return "Payment Required";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Content";
    case 425:
      return "Too Early";
    case 426:
      return "Upgrade Required";
    case 428:
      return "Precondition Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 451:
      return "Unavailable For Legal Reasons";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "";
  }
}

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

std::string error_body(int status, std::string_view message) {
  std::string body = std::to_string(status);
  body.append(" ").append(reason_phrase(status));
  if (!message.empty()) body.append(": ").append(message);
  return body + "\n";
}

Response refusal(int status, std::string_view message, std::vector<Header> headers) {
  Response response;
  response.status = status;
  response.headers = std::move(headers);
  response.headers.push_back({"Content-Type", "text/plain; charset=utf-8"});
  response.headers.push_back({"X-Content-Type-Options", "nosniff"});
  response.body = error_body(status, message);
  return response;
}

bool closes(const Response& response, const ResponseContext& context) {
  return response.close || !context.keep_alive;
}

Result<std::string> serialise(const Response& response, const ResponseContext& context) {
  std::string wire;
  append_status_line(wire, response.status);
  for (const std::vector<Header>& fields : {own_fields(response, context), response.headers}) {
    for (const Header& field : fields) {
      if (Result<> appended = append_field(wire, field.name, field.value); !appended) {
        return tl::unexpected(appended.error());
      }
    }
  }
  wire += "\r\n";
  if (!context.head && may_have_length(response.status)) wire += response.body;
  return wire;
}

}  // namespace sluice::http
