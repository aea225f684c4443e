#include "http/forward.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>

#include "base/bytes.h"
#include "base/crypto.h"
#include "base/field.h"
#include "http/fields.h"

namespace sluice::http {
namespace {

using Fields = std::vector<Header>;

// ---- What does not pass.

// RFC 9110 7.6.1 and the fields that were hop-by-hop before; RFC 9113 3.2.1 for HTTP2-Settings.
// Proxy-Authorization and Proxy-Authenticate are between two neighbours (RFC 9110 11.7). Trailer
// and Content-Length go because whoever sends the body frames it anew.
constexpr std::string_view hop_by_hop[] = {
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
};

// `name` in lower case.
bool is_hop_by_hop(std::string_view name) {
  return std::find(std::begin(hop_by_hop), std::end(hop_by_hop), name) != std::end(hop_by_hop);
}

// What the caller sets for a request, and what nobody can answer for it.
bool is_callers(std::string_view name) {
  return is_hop_by_hop(name) || name == "expect" || name.starts_with("sec-websocket-");
}

// What says where a request came from. Some of it we set; all of it is only true if a trusted peer
// says it.
bool is_about_origin(std::string_view name) {
  return name.starts_with("x-forwarded-") || name == "forwarded" || name == "x-real-ip";
}

// The names that Connection nominates, in lower case.
std::vector<std::string> nominated_names(const Fields& fields) {
  std::vector<std::string> names;
  for (const Header& field : fields) {
    if (!equals_ignoring_case(field.name, "connection")) continue;
    for (const std::string_view name : split_list(field.value)) names.push_back(to_lower(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool contains_sorted(const std::vector<std::string>& names, const std::string& name) {
  return std::binary_search(names.begin(), names.end(), name);
}

void remove_fields(Fields& fields, std::string_view name) {
  std::erase_if(fields,
                [name](const Header& field) { return equals_ignoring_case(field.name, name); });
}

// Steps 1 and 2 of forwarded_headers(), Host apart.
Fields passing_fields(const Request& request, bool trusted) {
  const std::vector<std::string> nominated = nominated_names(request.headers);
  Fields fields;
  fields.reserve(request.headers.size() + 8);
  for (const Header& field : request.headers) {
    const std::string name = to_lower(field.name);
    if (contains_sorted(nominated, name) || is_callers(name) || name == "host") continue;
    if (name.find('_') != std::string::npos) continue;
    if (!trusted && is_about_origin(name)) continue;
    fields.push_back(field);
  }
  return fields;
}

// ---- Where a request came from.

// Puts one field behind all others, with what was there before it.
void append_to_list(Fields& fields, std::string_view name, const std::string& element) {
  const std::string before = find_field(fields, name).value_or("");
  remove_fields(fields, name);
  fields.push_back({std::string(name), before.empty() ? element : before + ", " + element});
}

void set_unless_there(Fields& fields, std::string_view name, const std::string& value) {
  if (!find_field(fields, name).value_or("").empty()) return;
  remove_fields(fields, name);
  fields.push_back({std::string(name), value});
}

// RFC 7239 4: a token, or else a quoted string. `text` has neither quotes nor backslashes.
std::string token_or_quoted(const std::string& text) {
  return is_token(text) ? text : '"' + text + '"';
}

// RFC 7239 6: "IPv6 addresses are enclosed in brackets", and so quoted.
std::string forwarded_element(const std::string& client_ip, const std::string& authority,
                              std::string_view scheme) {
  std::string element;
  element.reserve(128);
  element = "for=";
  if (client_ip == "unix") {
    element += "unknown";
  } else if (client_ip.find(':') != std::string::npos) {
    element += token_or_quoted("[" + client_ip + "]");
  } else {
    element += token_or_quoted(client_ip);
  }
  if (!authority.empty()) element.append(";host=").append(token_or_quoted(authority));
  return element.append(";proto=").append(scheme);
}

void set_origin(Fields& fields, const Request& request, const ForwardedFrom& from) {
  const std::string scheme = from.secure ? "https" : "http";
  if (from.client_ip != "unix") append_to_list(fields, "X-Forwarded-For", from.client_ip);
  set_unless_there(fields, "X-Forwarded-Proto", scheme);
  if (!request.authority.empty()) set_unless_there(fields, "X-Forwarded-Host", request.authority);
  append_to_list(fields, "Forwarded", forwarded_element(from.client_ip, request.authority, scheme));
}

// ---- W3C Trace Context.

constexpr std::size_t trace_id_bytes = 16;
constexpr std::size_t parent_id_bytes = 8;

// Lower-case hexadecimal digits, and not all of them zero.
bool is_trace_part(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos &&
         text.find_first_not_of('0') != std::string_view::npos;
}

// Trace Context 3.2: version "-" trace-id "-" parent-id "-" trace-flags.
bool is_traceparent(std::string_view text) {
  constexpr std::string_view shape = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00";
  if (text.size() != shape.size() || !text.starts_with("00-")) return false;
  if (text[35] != '-' || text[52] != '-') return false;
  return is_trace_part(text.substr(3, 32)) && is_trace_part(text.substr(36, 16)) &&
         text.substr(53).find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

void append_random_id(std::string& text, std::size_t bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::array<std::uint8_t, trace_id_bytes> id = {};
  random_bytes(MutableBytes(id).first(bytes));
  id[0] |= 1;  // never all zeros
  for (const std::uint8_t byte : Bytes(id).first(bytes)) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
}

// With the flag "sampled": without it, a tracing library's usual sampler would follow its parent
// and record nothing.
std::string new_traceparent() {
  std::string text;
  text.reserve(55);
  text = "00-";
  append_random_id(text, trace_id_bytes);
  text += '-';
  append_random_id(text, parent_id_bytes);
  return text += "-01";
}

void set_trace(Fields& fields) {
  if (is_traceparent(find_field(fields, "traceparent").value_or(""))) return;
  remove_fields(fields, "traceparent");
  remove_fields(fields, "tracestate");
  fields.push_back({"traceparent", new_traceparent()});
}

// ---- The rules of the configuration.

void set_field(Fields& fields, const Header& wanted) {
  if (equals_ignoring_case(wanted.name, "host")) {
    fields.front().value = wanted.value;
    return;
  }
  remove_fields(fields, wanted.name);
  fields.push_back(wanted);
}

void apply_rules(Fields& fields, const ForwardRules& rules) {
  for (const std::string& name : rules.remove) {
    if (!equals_ignoring_case(name, "host")) remove_fields(fields, name);
  }
  for (const Header& field : rules.set) {
    if (!is_callers(to_lower(field.name))) set_field(fields, field);
  }
}

// ---- Serialising.

// RFC 9112 3.2.1 and 3.2.4: the origin-form, or the asterisk.
bool is_request_target(std::string_view target) {
  if (target == "*") return true;
  return target.starts_with('/') && std::all_of(target.begin(), target.end(), [](char c) {
           return c > ' ' && c < 0x7f && c != '#';
         });
}

Result<> check_field(const Header& field) {
  if (!is_token(field.name)) {
    return fail("not a header field's name: " + std::to_string(field.name.size()) + " bytes");
  }
  if (!is_field_value(field.value)) {
    return fail("a control character in header field " + field.name);
  }
  return {};
}

Result<> check_request(std::string_view method, std::string_view target, const Fields& fields) {
  if (!is_token(method)) return fail("the request's method is not a token");
  if (!is_request_target(target)) return fail("the request's target is not a path");
  for (const Header& field : fields) {
    if (Result<> good = check_field(field); !good) return good;
  }
  if (count_fields(fields, "host") != 1) return fail("a request has one Host");
  if (count_fields(fields, "content-length") + count_fields(fields, "transfer-encoding") > 1) {
    return fail("more than one field frames the request's body");
  }
  return {};
}

// ---- Rewriting.

std::string_view find_parameter(
    std::string_view name, const std::vector<std::pair<std::string, std::string>>& parameters) {
  for (const auto& [parameter, value] : parameters) {
    if (parameter == name) return value;
  }
  return {};
}

}  // namespace

// ---- TrustedProxies

std::optional<TrustedProxies::Bytes16> TrustedProxies::parse_address(std::string_view ip) {
  const std::string text(ip);
  Bytes16 bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};  // RFC 4291 2.5.5.2
  if (inet_pton(AF_INET, text.c_str(), bytes.data() + 12) == 1) return bytes;
  if (inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1) return bytes;
  return std::nullopt;
}

Result<TrustedProxies::Range> TrustedProxies::parse_range(std::string_view text) {
  const std::string quoted = "\"" + std::string(text) + "\"";
  const std::size_t slash = std::min(text.find('/'), text.size());
  const std::string_view ip = text.substr(0, slash);
  const std::optional<Bytes16> address = parse_address(ip);
  if (!address || text.find('\0') != std::string_view::npos) {
    return fail(quoted + " is neither an address, nor a range of addresses, nor unix");
  }
  const unsigned bits_max = ip.find(':') == std::string_view::npos ? 32 : 128;
  unsigned bits = bits_max;
  if (slash < text.size()) {
    const std::string_view number = text.substr(slash + 1);
    const char* const end = number.data() + number.size();
    const auto [rest, error] = std::from_chars(number.data(), end, bits);
    if (rest != end || error != std::errc() || bits > bits_max) {
      return fail(quoted + ": the prefix has 0 to " + std::to_string(bits_max) + " bits");
    }
  }
  return Range{*address, bits + (128 - bits_max)};
}

Result<TrustedProxies> TrustedProxies::parse(const std::vector<std::string>& ranges) {
  TrustedProxies trusted;
  for (const std::string& text : ranges) {
    if (text == "unix") {
      trusted.unix_ = true;
      continue;
    }
    const Result<Range> range = parse_range(text);
    if (!range) return tl::unexpected(range.error());
    trusted.ranges_.push_back(*range);
  }
  return trusted;
}

bool TrustedProxies::contains(std::string_view ip) const {
  if (ip == "unix") return unix_;
  if (ranges_.empty()) return false;
  const std::optional<Bytes16> address = parse_address(ip);
  if (!address) return false;
  const Bytes16 mapped = *parse_address("0.0.0.0");
  const bool v4 = std::equal(mapped.begin(), mapped.begin() + 12, address->begin());
  return std::any_of(ranges_.begin(), ranges_.end(), [&](const Range& range) {
    // "::/0" means every IPv6 address, not the IPv4 ones that a mapped form has among them.
    if (v4 && range.prefix_bits < 96) return false;
    const std::size_t whole = range.prefix_bits / 8;
    if (std::memcmp(range.address.data(), address->data(), whole) != 0) return false;
    const unsigned rest = range.prefix_bits % 8;
    return rest == 0 || ((range.address[whole] ^ (*address)[whole]) >> (8 - rest)) == 0;
  });
}

// ---- Heads

std::vector<Header> forwarded_headers(const Request& request, const ForwardedFrom& from,
                                      const ForwardRules& rules) {
  Fields fields = passing_fields(request, from.trusted);
  fields.insert(fields.begin(), Header{"Host", request.authority});
  set_origin(fields, request, from);
  set_trace(fields);
  apply_rules(fields, rules);
  return fields;
}

std::vector<Header> response_headers(const ResponseHead& head) {
  const std::vector<std::string> nominated = nominated_names(head.headers);
  Fields fields;
  fields.reserve(head.headers.size());
  for (const Header& field : head.headers) {
    const std::string name = to_lower(field.name);
    if (!contains_sorted(nominated, name) && !is_hop_by_hop(name)) fields.push_back(field);
  }
  return fields;
}

Result<std::string> serialise_request(std::string_view method, std::string_view target,
                                      const std::vector<Header>& headers) {
  if (Result<> good = check_request(method, target, headers); !good) {
    return tl::unexpected(good.error());
  }
  std::string wire;
  wire.reserve(1024);  // of a usual head
  wire.append(method).append(" ").append(target).append(" HTTP/1.1\r\n");
  for (const Header& field : headers) {
    wire.append(field.name).append(": ").append(field.value).append("\r\n");
  }
  return wire += "\r\n";
}

std::string rewrite_path(std::string_view rewrite, std::string_view path, std::string_view rest,
                         const std::vector<std::pair<std::string, std::string>>& parameters) {
  if (rewrite.empty()) return std::string(path);
  const bool star = rewrite.ends_with("/*");
  if (star) rewrite.remove_suffix(1);  // the slash stays, and that of the rest goes
  if (star && rest.starts_with('/')) rest.remove_prefix(1);
  std::string result;
  while (!rewrite.empty()) {
    const std::size_t open = std::min(rewrite.find('{'), rewrite.size());
    result += rewrite.substr(0, open);
    rewrite.remove_prefix(open);
    const std::size_t close = rewrite.find('}');
    if (close == std::string_view::npos) break;
    result += find_parameter(rewrite.substr(1, close - 1), parameters);
    rewrite.remove_prefix(close + 1);
  }
  result += rewrite;
  if (star) result += rest;
  return result;
}

}  // namespace sluice::http
