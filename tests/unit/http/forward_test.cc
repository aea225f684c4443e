#include "http/forward.h"

#include <algorithm>
#include <ostream>
#include <set>

#include "base/field.h"
#include "heads.h"

namespace sluice::http {
namespace {

using namespace std::string_literals;

std::string describe(const std::vector<Header>& fields) {
  std::string text;
  for (const Header& field : fields) text += field.name + ": " + field.value + "\n";
  return text;
}

// The names and values that the upstream gets, each on a line; traceparent, which is random, only
// if `with_trace`.
std::string forward(const std::string& lines, const ForwardedFrom& from,
                    const ForwardRules& rules = {}, bool with_trace = false) {
  const Request read = request("GET / HTTP/1.1\r\nHost: Example.com:8080\r\n" + lines + "\r\n");
  std::vector<Header> fields = forwarded_headers(read, from, rules);
  CHECK(serialise_request("GET", "/", fields).has_value());
  if (!with_trace) {
    std::erase_if(fields, [](const Header& field) { return field.name == "traceparent"; });
  }
  return describe(fields);
}

// What the gateway sets for that request of an untrusted client.
const ForwardedFrom stranger{"192.0.2.1", false, false};
const ForwardedFrom proxy{"10.0.0.9", false, true};
const std::string own =
    "X-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: Example.com:8080\n"
    "Forwarded: for=192.0.2.1;host=\"Example.com:8080\";proto=http\n";

// ---- TrustedProxies

bool trusts(const std::vector<std::string>& ranges, std::string_view ip) {
  const Result<TrustedProxies> trusted = TrustedProxies::parse(ranges);
  REQUIRE(trusted.has_value());
  return trusted->contains(ip);
}

TEST_CASE("a trusted proxy is an address in one of the ranges") {
  struct Row {
    const char* range;
    const char* ip;
    bool trusted;
  };
  for (const Row& row : std::vector<Row>{
           {"10.0.0.0/8", "10.0.0.0", true},
           {"10.0.0.0/8", "10.255.255.255", true},
           {"10.0.0.0/8", "11.0.0.0", false},
           {"10.0.0.0/8", "9.255.255.255", false},
           {"10.1.2.3/8", "10.9.9.9", true},
           {"192.0.2.128/25", "192.0.2.128", true},
           {"192.0.2.128/25", "192.0.2.127", false},
           {"192.0.2.6/31", "192.0.2.7", true},
           {"192.0.2.6/31", "192.0.2.8", false},
           {"192.0.2.7", "192.0.2.7", true},
           {"192.0.2.7", "192.0.2.6", false},
           {"192.0.2.7/32", "192.0.2.7", true},
           {"0.0.0.0/0", "203.0.113.1", true},
           {"0.0.0.0/0", "::1", false},
           {"0.0.0.0/0", "2001:db8::1", false},
           {"10.0.0.0/8", "::ffff:10.1.2.3", true},
           {"10.0.0.0/8", "::ffff:11.1.2.3", false},
           {"10.0.0.0/8", "::10.1.2.3", false},
           {"::ffff:10.0.0.0/104", "10.1.2.3", true},
           {"2001:db8::/32", "2001:db8:ffff::1", true},
           {"2001:db8::/32", "2001:db9::1", false},
           {"2001:db8::/33", "2001:db8:8000::1", false},
           {"::1", "::1", true},
           {"::1", "0:0:0:0:0:0:0:1", true},
           {"::1", "::2", false},
           {"::1", "127.0.0.1", false},
           {"::/0", "2001:db8::1", true},
           {"::/0", "192.0.2.1", false},
           {"unix", "unix", true},
           {"10.0.0.0/8", "unix", false},
           {"unix", "10.0.0.1", false},
           {"0.0.0.0/0", "", false},
           {"0.0.0.0/0", "example.org", false},
           {"0.0.0.0/0", "10.0.0.1:80", false},
       }) {
    CAPTURE(row.range);
    CAPTURE(row.ip);
    CHECK(trusts({row.range}, row.ip) == row.trusted);
  }
  CHECK_FALSE(trusts({}, "127.0.0.1"));
  CHECK(trusts({"10.0.0.0/8", "::1", "unix", "192.0.2.7"}, "192.0.2.7"));
}

TEST_CASE("a range that is none is an error") {
  for (const std::string& range : {""s,
                                   "x"s,
                                   "localhost"s,
                                   "10.0.0.0/33"s,
                                   "10.0.0.0/"s,
                                   "10.0.0.0/-1"s,
                                   "10.0.0.0/+8"s,
                                   "10.0.0.0/8/8"s,
                                   "10.0.0.0/8x"s,
                                   "10.0.0/8"s,
                                   "10.0.0.256"s,
                                   "10.0.0.0/99999999999"s,
                                   "::/129"s,
                                   "[::1]"s,
                                   "::g"s,
                                   "/8"s,
                                   "UNIX"s,
                                   " 10.0.0.1"s,
                                   "10.0.0.1\0"s,
                                   "10.0.0.1:80"s}) {
    CAPTURE(range);
    const Result<TrustedProxies> trusted = TrustedProxies::parse({"::1", range});
    REQUIRE_FALSE(trusted.has_value());
    CHECK(trusted.error().message.find("\"" + range + "\"") != std::string::npos);
  }
}

// ---- forwarded_headers()

TEST_CASE("what is the client's passes through byte for byte and in order") {
  CHECK(forward("Cookie: a=1;  b=\"2\"\r\nOrigin: https://x\r\nX-Two: a\r\nx-two: b\r\n"
                "Authorization: Basic eA==\r\nX-Utf8: \xe4\xbd\xa0\r\n",
                stranger) ==
        "Host: Example.com:8080\nCookie: a=1;  b=\"2\"\nOrigin: https://x\nX-Two: a\nx-two: b\n"
        "Authorization: Basic eA==\nX-Utf8: \xe4\xbd\xa0\n" +
            own);
}

TEST_CASE("hop-by-hop fields do not pass (RFC 9110 7.6.1)") {
  CHECK(forward("Connection: close\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n"
                "Proxy-Authorization: Basic eA==\r\nProxy-Authenticate: Basic\r\nTE: trailers\r\n"
                "Trailer: A\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
                "Expect: 100-continue\r\nContent-Length: 5\r\nA: b\r\n",
                stranger) == "Host: Example.com:8080\nA: b\n" + own);
  CHECK(forward("transfer-encoding: chunked\r\nA: b\r\n", stranger) ==
        "Host: Example.com:8080\nA: b\n" + own);
  CHECK(forward("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n"
                "Sec-WebSocket-Extensions: permessage-deflate\r\nA: b\r\n",
                stranger) == "Host: Example.com:8080\nA: b\n" + own);
}

TEST_CASE("nominated fields are removed before ours are set (row 14)") {
  const std::string lines =
      "Connection: Upgrade, X-Forwarded-For, X-Auth-User\r\nconnection: ,FORWARDED,traceparent\r\n"
      "X-Forwarded-For: 203.0.113.9\r\nx-auth-user: root\r\nForwarded: for=203.0.113.9\r\nA: b\r\n";
  CHECK(forward(lines, stranger) == "Host: Example.com:8080\nA: b\n" + own);
  // What a trusted peer nominates is not appended to either.
  const std::string trusted = forward(lines, proxy);
  CHECK(trusted.find("X-Forwarded-For: 10.0.0.9\n") != std::string::npos);
  CHECK(trusted.find("203.0.113.9") == std::string::npos);
  // Nobody gets rid of Host or of what the rules set.
  CHECK(forward("Connection: Host, X-Set\r\nX-Set: client\r\n", stranger,
                {{{"X-Set", "rule"}}, {}}) == "Host: Example.com:8080\n" + own + "X-Set: rule\n");
}

TEST_CASE("what a stranger says about where it came from does not pass (row 15)") {
  CHECK(forward("X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n"
                "X-Forwarded-Host: bank.example\r\nForwarded: for=127.0.0.1\r\n"
                "x-forwarded-port: 443\r\nX-Forwarded-Prefix: /admin\r\nX-Real-IP: 127.0.0.1\r\n"
                "X_Forwarded_Proto: https\r\nx-forwarded_for: 127.0.0.1\r\nA_B: c\r\nA: b\r\n",
                stranger) == "Host: Example.com:8080\nA: b\n" + own);
}

TEST_CASE("what a trusted peer says is kept and added to") {
  CHECK(forward("X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
                "X-Forwarded-Host: bank.example\r\nForwarded: for=203.0.113.9;proto=https\r\n"
                "X-Forwarded-For: 198.51.100.1 \r\nX-Forwarded-Port: 443\r\n"
                "X-Real-IP: 203.0.113.9\r\nX_Forwarded_For: 127.0.0.1\r\n",
                proxy) ==
        "Host: Example.com:8080\nX-Forwarded-Proto: https\nX-Forwarded-Host: bank.example\n"
        "X-Forwarded-Port: 443\nX-Real-IP: 203.0.113.9\n"
        "X-Forwarded-For: 203.0.113.9, 198.51.100.1, 10.0.0.9\n"
        "Forwarded: for=203.0.113.9;proto=https, "
        "for=10.0.0.9;host=\"Example.com:8080\";proto=http\n");
  // A trusted peer that says nothing.
  CHECK(forward("X-Forwarded-For:\r\nX-Forwarded-Proto:\r\n", {"10.0.0.9", true, true}) ==
        "Host: Example.com:8080\nX-Forwarded-For: 10.0.0.9\nX-Forwarded-Proto: https\n"
        "X-Forwarded-Host: Example.com:8080\n"
        "Forwarded: for=10.0.0.9;host=\"Example.com:8080\";proto=https\n");
}

TEST_CASE("Forwarded quotes what is no token (RFC 7239 4 and 6)") {
  const auto forwarded = [](const std::string& head, const ForwardedFrom& from) {
    const std::vector<Header> fields = forwarded_headers(request(head), from, {});
    const auto found = std::find_if(fields.begin(), fields.end(),
                                    [](const Header& field) { return field.name == "Forwarded"; });
    return found == fields.end() ? std::string() : found->value;
  };
  const std::string head = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
  CHECK(forwarded(head, stranger) == "for=192.0.2.1;host=example.com;proto=http");
  CHECK(forwarded(head, {"2001:db8::1", true, false}) ==
        "for=\"[2001:db8::1]\";host=example.com;proto=https");
  CHECK(forwarded("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", stranger) ==
        "for=192.0.2.1;host=\"[::1]\";proto=http");
  CHECK(forwarded("GET / HTTP/1.0\r\n\r\n", stranger) == "for=192.0.2.1;proto=http");
}

TEST_CASE("a client on a unix socket has no address") {
  const std::string rest =
      "X-Forwarded-Proto: http\nX-Forwarded-Host: Example.com:8080\n"
      "Forwarded: for=unknown;host=\"Example.com:8080\";proto=http\n";
  CHECK(forward("X-Forwarded-For: 203.0.113.9\r\n", {"unix", false, false}) ==
        "Host: Example.com:8080\n" + rest);
  CHECK(forward("X-Forwarded-For: 203.0.113.9\r\n", {"unix", false, true}) ==
        "Host: Example.com:8080\nX-Forwarded-For: 203.0.113.9\n" + rest);
}

TEST_CASE("without an authority there is no X-Forwarded-Host") {
  const Request read = request("GET / HTTP/1.0\r\n\r\n");
  const std::string fields = describe(forwarded_headers(read, stranger, {}));
  CHECK(fields.find("X-Forwarded-Host") == std::string::npos);
  CHECK(fields.find("X-Forwarded-Proto: http\n") != std::string::npos);
}

TEST_CASE("there is one Host, and it comes first (RFC 9112 3.2)") {
  const auto host = [](const std::string& head) {
    const std::vector<Header> fields = forwarded_headers(request(head), stranger, {});
    CHECK(std::count_if(fields.begin(), fields.end(), [](const Header& field) {
            return equals_ignoring_case(field.name, "host");
          }) == 1);
    CHECK(fields.front().name == "Host");
    return fields.front().value;
  };
  CHECK(host("GET / HTTP/1.1\r\nA: b\r\nhOST: Example.com.\r\n\r\n") == "Example.com.");
  CHECK(host("GET http://A:80/x HTTP/1.1\r\nHost: a:80\r\n\r\n") == "a:80");
  CHECK(host("GET http://a:80/x HTTP/1.0\r\n\r\n") == "a:80");
  CHECK(host("GET / HTTP/1.0\r\n\r\n").empty());
}

TEST_CASE("the rules come last: remove, then set") {
  const ForwardRules rules{
      {{"X-Set", "1"}, {"x-forwarded-proto", "https"}, {"Both", "new"}, {"host", "inner"}},
      {"cookie", "X-Forwarded-For", "Both", "Host", "X-None", "traceparent"}};
  CHECK(forward("Cookie: a\r\nx-set: 0\r\nCOOKIE: b\r\nBoth: old\r\nX-SET: 2\r\nA: b\r\n", stranger,
                rules, true) ==
        "Host: inner\nA: b\nX-Forwarded-Host: Example.com:8080\n"
        "Forwarded: for=192.0.2.1;host=\"Example.com:8080\";proto=http\n"
        "X-Set: 1\nx-forwarded-proto: https\nBoth: new\n");
}

TEST_CASE("the rules have no say in what frames and upgrades") {
  const ForwardRules rules{{{"Content-Length", "5"},
                            {"transfer-encoding", "chunked"},
                            {"Connection", "close"},
                            {"Upgrade", "h2c"},
                            {"Sec-WebSocket-Key", "x"}},
                           {}};
  CHECK(forward("A: b\r\n", stranger, rules) == "Host: Example.com:8080\nA: b\n" + own);
}

TEST_CASE("a rule cannot break a line (row 17)") {
  const Request read = request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  for (const Header& field : std::vector<Header>{{"A", "b\r\nC: d"},
                                                 {"A", "b\n"},
                                                 {"A", "\0"s},
                                                 {"A\r\nB", "c"},
                                                 {"Host", "a\r\nB: c"}}) {
    CHECK_FALSE(serialise_request("GET", "/", forwarded_headers(read, stranger, {{field}, {}}))
                    .has_value());
  }
}

// ---- traceparent

std::string trace_of(const std::string& lines) {
  const Request read = request("GET / HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n");
  std::string text;
  for (const Header& field : forwarded_headers(read, stranger, {})) {
    if (to_lower(field.name).starts_with("trace")) text += field.name + ": " + field.value + "\n";
  }
  return text;
}

TEST_CASE("a well-formed traceparent is kept, with its tracestate (W3C Trace Context 3.2)") {
  const std::string good = "TraceParent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
  CHECK(trace_of(good + "\r\ntracestate: a=1\r\nTracestate: b=2\r\n") ==
        good + "\ntracestate: a=1\nTracestate: b=2\n");
}

TEST_CASE("any other traceparent is replaced, and its tracestate goes") {
  const std::string good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  std::set<std::string> seen;
  for (const std::string& lines : {
           ""s,
           "tracestate: a=1\r\n"s,
           "traceparent:\r\n"s,
           "traceparent: x\r\n"s,
           "traceparent: 01" + good.substr(2) + "\r\n",
           "traceparent: ff" + good.substr(2) + "\r\n",
           "traceparent: " + good + "-00\r\n",
           "traceparent: " + good.substr(0, 54) + "\r\n",
           "traceparent: " + good.substr(0, 54) + "g\r\n",
           "traceparent: 00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01\r\n"s,
           "traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01\r\n"s,
           "traceparent: 00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01\r\n"s,
           "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333z-01\r\n"s,
           "traceparent: 00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01\r\n"s,
           "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331_01\r\n"s,
           "traceparent: 00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01\r\n"s,
           "traceparent: " + good + "\r\ntraceparent: " + good + "\r\n",
       }) {
    CAPTURE(lines);
    const std::string trace = trace_of(lines + "tracestate: a=1\r\n");
    CHECK(trace.size() == "traceparent: \n"s.size() + good.size());
    CHECK(trace.starts_with("traceparent: 00-"));
    CHECK(trace.ends_with("-01\n"));
    CHECK(seen.insert(trace).second);  // random
    // It is one that we would keep.
    CHECK(trace_of(trace.substr(0, trace.size() - 1) + "\r\n") == trace);
  }
}

// ---- response_headers()

TEST_CASE("a response's fields pass, but not the hop's (RFC 9110 7.6.1)") {
  ResponseHead head;
  head.headers = {{"Date", "Sun, 06 Nov 1994 08:49:37 GMT"},
                  {"Set-Cookie", "a=1"},
                  {"Connection", "keep-alive, X-Hop"},
                  {"x-hop", "1"},
                  {"Keep-Alive", "timeout=5"},
                  {"Proxy-Authenticate", "Basic"},
                  {"Content-Length", "5"},
                  {"Transfer-Encoding", "chunked"},
                  {"Trailer", "Digest"},
                  {"Upgrade", "h2c"},
                  {"set-cookie", "b=2"},
                  {"WWW-Authenticate", "Basic"},
                  {"A_B", "c"}};
  CHECK(describe(response_headers(head)) ==
        "Date: Sun, 06 Nov 1994 08:49:37 GMT\nSet-Cookie: a=1\nset-cookie: b=2\n"
        "WWW-Authenticate: Basic\nA_B: c\n");
}

// ---- serialise_request()

TEST_CASE("a request is serialised whole (RFC 9112 3)") {
  CHECK(serialise_request("POST", "/a?b=c", {{"Host", "x"}, {"Content-Length", "0"}}) ==
        "POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  CHECK(serialise_request("OPTIONS", "*", {{"Host", ""}}) ==
        "OPTIONS * HTTP/1.1\r\nHost: \r\n\r\n");
}

TEST_CASE("a request that could be read as something else is not sent (row 17)") {
  const std::vector<Header> host = {{"Host", "x"}};
  for (const std::string& method : {""s, "GET "s, "G T"s, "GET\r\n"s, "GET\0"s}) {
    CHECK_FALSE(serialise_request(method, "/", host).has_value());
  }
  for (const std::string& target :
       {""s, "a"s, "http://a/"s, "*a"s, "/ "s, "/ HTTP/1.1\r\nX: y\r\n\r\n"s, "/\r"s, "/\n"s,
        "/\t"s, "/\0"s, "/\x7f"s, "/\xc3\xa9"s, "/#a"s}) {
    CAPTURE(target);
    CHECK_FALSE(serialise_request("GET", target, host).has_value());
  }
  for (const Header& field : std::vector<Header>{{"A", "b\r\nC: d"},
                                                 {"A", "b\r"},
                                                 {"A", "b\n"},
                                                 {"A", "b\0"s},
                                                 {"A", "b\x7f"},
                                                 {"", "b"},
                                                 {"A ", "b"},
                                                 {"A:", "b"},
                                                 {"A\r\nB", "c"},
                                                 {"\xc3\xa9", "b"},
                                                 {"host", "y"}}) {
    CAPTURE(field.name);
    CHECK_FALSE(serialise_request("GET", "/", {{"Host", "x"}, field}).has_value());
  }
  CHECK_FALSE(serialise_request("GET", "/", {}).has_value());
  CHECK_FALSE(
      serialise_request("GET", "/",
                        {{"Host", "x"}, {"Content-Length", "5"}, {"transfer-encoding", "chunked"}})
          .has_value());
  CHECK_FALSE(serialise_request("GET", "/",
                                {{"Host", "x"}, {"Content-Length", "5"}, {"content-length", "5"}})
                  .has_value());
}

// ---- rewrite_path()

TEST_CASE("a path is rewritten from the route's parts") {
  struct Row {
    const char* rewrite;
    const char* rest;
    const char* path;
  };
  for (const Row& row : std::vector<Row>{
           {"", "/x", "/api/x"},
           {"/", "/x", "/"},
           {"/*", "/x/y", "/x/y"},
           {"/*", "x/y", "/x/y"},
           {"/*", "/", "/"},
           {"/*", "", "/"},
           {"/v2/*", "/x%20y/", "/v2/x%20y/"},
           {"/v2", "/x", "/v2"},
           {"/v2/", "/x", "/v2/"},
           {"/v2/{room}/*", "/x", "/v2/a%2Cb/x"},
           {"/{user}-{room}", "/x", "/u-a%2Cb"},
           {"/{room}{room}/end", "/x", "/a%2Cba%2Cb/end"},
           {"/{none}/x", "/x", "//x"},
           {"/a{b", "/x", "/a{b"},
           {"/a*b", "/x", "/a*b"},
           {"/v*", "/x", "/v*"},
       }) {
    CAPTURE(row.rewrite);
    CAPTURE(row.rest);
    CHECK(rewrite_path(row.rewrite, "/api/x", row.rest, {{"user", "u"}, {"room", "a%2Cb"}}) ==
          row.path);
  }
  // What a parameter's value holds is not looked at again.
  CHECK(rewrite_path("/{a}/{b}", "/", "", {{"a", "{b}"}, {"b", "*"}}) == "/{b}/*");
}

}  // namespace
}  // namespace sluice::http
