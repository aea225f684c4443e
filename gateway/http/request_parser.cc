#include "http/request_parser.h"

#include <llhttp.h>

#include <algorithm>
#include <string_view>

#include "base/field.h"
#include "http/authority.h"
#include "http/target.h"

namespace sluice::http {
namespace {

using Check = std::optional<RequestError>;

RequestError bad_request(std::string message) {
  return RequestError{400, std::move(message)};
}

// RFC 9112 6.1 and 6.3: whether there is a body, and no two opinions on its length.
Check check_framing(Request& request) {
  const std::optional<std::string> length = request.header("content-length");
  const std::optional<std::string> coding = request.header("transfer-encoding");
  if (coding) {
    if (length) return bad_request("both Content-Length and Transfer-Encoding came");
    if (request.version_minor == 0) return bad_request("HTTP/1.0 knows no Transfer-Encoding");
    if (!equals_ignoring_case(*coding, "chunked")) return bad_request("unknown Transfer-Encoding");
  }
  if (length && (length->empty() || length->find_first_not_of("0123456789") != std::string::npos)) {
    return bad_request("Content-Length is not one number");
  }
  request.has_body = coding || (length && length->find_first_not_of('0') != std::string::npos);
  return {};
}

// RFC 9112 9.3.
void decide_keep_alive(Request& request) {
  const bool asked = request.version_minor == 1 || request.has_token("connection", "keep-alive");
  request.keep_alive = asked && !request.has_token("connection", "close");
}

Check check_target(Request& request) {
  Result<Target> target = parse_target(request.target);
  if (!target) return bad_request(target.error().message);
  if (target->path == "*" && request.method != "OPTIONS") {
    return bad_request("only OPTIONS may have the target *");
  }
  request.path = std::move(target->path);
  request.query = std::move(target->query);
  request.authority = std::move(target->authority);
  return {};
}

// RFC 9112 3.2: exactly one valid Host with HTTP/1.1.
Check check_host(Request& request) {
  const std::size_t count = request.count("host");
  if (count > 1) return bad_request("more than one Host came");
  if (count == 0) {
    if (request.version_minor > 0) return bad_request("Host is missing");
  } else {
    const std::string host = *request.header("host");
    // RFC 9112 3.2.2: an absolute-form target overrides Host. A client must send both alike, so
    // that who differs means two servers to understand two things.
    if (!request.authority.empty() && !equals_ignoring_case(request.authority, host)) {
      return bad_request("Host and the target's host differ");
    }
    if (!parse_authority(host)) return bad_request("Host is not valid");
    request.authority = host;
  }
  if (request.authority.empty()) return {};  // HTTP/1.0 without Host
  std::optional<Authority> authority = parse_authority(request.authority);
  if (!authority) return bad_request("the target's host is not valid");
  request.host = std::move(authority->host);
  return {};
}

RequestError to_request_error(llhttp_errno_t error, const char* reason) {
  // RFC 9110 15.6.2: 501 for a method that the server does not recognise.
  if (error == HPE_INVALID_METHOD) return RequestError{501, "the method is not known here"};
  return bad_request(reason == nullptr || *reason == '\0' ? "malformed request" : reason);
}

}  // namespace

struct RequestParser::Callbacks {
  static RequestParser& parser(llhttp_t* llhttp) {
    return *static_cast<RequestParser*>(llhttp->data);
  }

  static int on_url(llhttp_t* llhttp, const char* at, std::size_t size) {
    parser(llhttp).request_.target.append(at, size);
    return HPE_OK;
  }

  static int on_header_field(llhttp_t* llhttp, const char* at, std::size_t size) {
    RequestParser& self = parser(llhttp);
    std::vector<Header>& headers = self.request_.headers;
    if (headers.empty() || self.name_complete_) headers.emplace_back();
    self.name_complete_ = false;
    headers.back().name.append(at, size);
    return HPE_OK;
  }

  static int on_header_value(llhttp_t* llhttp, const char* at, std::size_t size) {
    parser(llhttp).request_.headers.back().value.append(at, size);
    return HPE_OK;
  }

  static int on_header_field_complete(llhttp_t* llhttp) {
    parser(llhttp).name_complete_ = true;
    return HPE_OK;
  }

  // The head is all that llhttp is to read.
  static int on_headers_complete(llhttp_t*) { return HPE_PAUSED; }

  static llhttp_settings_t make_settings() {
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_url = on_url;
    settings.on_header_field = on_header_field;
    settings.on_header_value = on_header_value;
    settings.on_header_field_complete = on_header_field_complete;
    settings.on_headers_complete = on_headers_complete;
    return settings;
  }
};

RequestParser::RequestParser(const ParserLimits& limits)
    : limits_(limits), scanner_(limits), llhttp_(std::make_unique<llhttp__internal_s>()) {
  reset();
}

RequestParser::~RequestParser() = default;

void RequestParser::reset() {
  static const llhttp_settings_t settings = Callbacks::make_settings();
  llhttp_init(llhttp_.get(), HTTP_REQUEST, &settings);
  llhttp_->data = this;
  scanner_ = HeadScanner(limits_);
  name_complete_ = false;
  request_ = Request();
  error_.reset();
}

RequestParser::Status RequestParser::status() const {
  if (error_) return Status::error;
  return scanner_.done() ? Status::complete : Status::need_more;
}

RequestParser::Status RequestParser::feed(Bytes bytes, std::size_t& consumed) {
  consumed = 0;
  if (status() != Status::need_more) return status();
  const std::size_t empty_lines = scanner_.skip_empty_lines(bytes);
  const Bytes head = bytes.subspan(empty_lines);
  const std::size_t size = scanner_.scan(head);
  consumed = empty_lines + size;
  parse(head.first(size));
  // llhttp has seen only what came before the scanner's objection: the first of the two counts.
  if (!error_) error_ = scanner_.error();
  if (!error_ && scanner_.done()) finish();
  return status();
}

void RequestParser::parse(Bytes bytes) {
  if (bytes.empty()) return;
  const std::string_view text = as_text(bytes);
  const llhttp_errno_t error = llhttp_execute(llhttp_.get(), text.data(), text.size());
  if (error == HPE_OK || error == HPE_PAUSED) return;
  error_ = to_request_error(error, llhttp_get_error_reason(llhttp_.get()));
}

void RequestParser::finish() {
  request_.method =
      llhttp_method_name(static_cast<llhttp_method_t>(llhttp_get_method(llhttp_.get())));
  request_.version_minor = llhttp_get_http_minor(llhttp_.get());
  for (Header& field : request_.headers) field.value = trim(field.value);
  error_ = check_framing(request_);
  if (!error_) error_ = check_target(request_);
  if (!error_) error_ = check_host(request_);
  // Nobody looks for its route any more, which may say that a part of the path is a secret.
  if (error_) request_.path.clear();
  decide_keep_alive(request_);
}

}  // namespace sluice::http
