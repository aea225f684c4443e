#include "access_log.h"

#include <algorithm>
#include <string>

#include "base/log.h"
#include "metrics/counters.h"

namespace sluice::access_log {
namespace {

// Whichever of the path's segments are the secret.
std::string without_segment(std::string_view path, std::string_view secret) {
  if (secret.empty()) return std::string(path);
  std::string result;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at + 1), path.size());
    const std::string_view segment = path.substr(at + 1, end - at - 1);
    result.append(1, '/').append(segment == secret ? "[redacted]" : segment);
    at = end;
  }
  return result;
}

// What stands in a query is often a secret, and a token always is.
std::string loggable(const config::Log& settings, const Subject& subject,
                     const http::Request& request) {
  std::string path = without_segment(request.path, subject.token);
  if (request.query.empty()) return path;
  return path + "?" + (settings.query_strings ? request.query : "[redacted]");
}

void append_upstream(log::Fields& fields, const Subject& subject) {
  if (subject.upstream.empty()) return;
  fields.emplace_back("upstream", subject.upstream);
  fields.emplace_back("endpoint", subject.endpoint);
}

}  // namespace

void request(const config::Log& settings, const Subject& subject, const http::Request& request,
             int status, std::string_view why) {
  if (!settings.access) return;
  const std::string client = subject.client.to_string();
  const std::string path = loggable(settings, subject, request);
  log::Fields fields = {{"conn", subject.connection}, {"client", client}, {"route", subject.route},
                        {"method", request.method},   {"path", path},     {"status", status}};
  append_upstream(fields, subject);
  if (!why.empty()) fields.emplace_back("why", why);
  log::info(why.empty() ? "request" : "refused", fields);
}

void open(const config::Log& settings, const Subject& subject, const http::Request& request,
          const Opening& opening) {
  if (!settings.access) return;
  const std::string client = subject.client.to_string();
  const std::string path = loggable(settings, subject, request);
  const std::string origin = request.header("Origin").value_or("");
  log::Fields fields = {{"conn", subject.connection},
                        {"client", client},
                        {"route", subject.route},
                        {"host", request.authority},
                        {"path", path},
                        {"origin", origin},
                        {"protocol", opening.protocol},
                        {"extensions", opening.extensions},
                        {"tls", opening.tls},
                        {"handshake_ms", static_cast<double>(opening.handshake_us) / 1000}};
  append_upstream(fields, subject);
  log::info("open", fields);
}

void close(const config::Log& settings, const Subject& subject, const SessionEnd& end,
           const Session::Totals& totals, std::uint64_t duration_ms) {
  if (!settings.access) return;
  log::info("close", {{"conn", subject.connection},
                      {"client", subject.client.to_string()},
                      {"route", subject.route},
                      {"initiator", metrics::label(end.initiator)},
                      {"reason", metrics::label(end.reason)},
                      {"code", end.code},
                      {"text", end.text},
                      {"why", end.detail},
                      {"clean", end.was_clean},
                      {"messages_in", totals.messages[metrics::client_to_upstream]},
                      {"messages_out", totals.messages[metrics::upstream_to_client]},
                      {"bytes_in", totals.payload_bytes[metrics::client_to_upstream]},
                      {"bytes_out", totals.payload_bytes[metrics::upstream_to_client]},
                      {"buffered_max", totals.buffered_bytes_max},
                      {"duration_ms", duration_ms}});
}

}  // namespace sluice::access_log
