#include "http/line_reader.h"

#include <algorithm>

#include "base/field.h"

namespace sluice::http {

LineReader::Status LineReader::read(Bytes& input, std::size_t bytes_max) {
  Status status = Status::need_more;
  while (!input.empty() && status == Status::need_more) {
    status = take(static_cast<char>(input.front()), bytes_max);
    input = input.subspan(1);
    if (status == Status::need_more && !carriage_return_) take_run(input, bytes_max);
  }
  return status;
}

// Most of a line: what take() would append, at once.
void LineReader::take_run(Bytes& input, std::size_t bytes_max) {
  const std::size_t room = bytes_max - std::min(bytes_max, line_.size());
  const std::string_view text = as_text(input.first(std::min(input.size(), room)));
  const auto* const end =
      std::find_if(text.begin(), text.end(), [](char c) { return is_control(c); });
  line_.append(text.begin(), end);
  input = input.subspan(static_cast<std::size_t>(end - text.begin()));
}

LineReader::Status LineReader::take(char c, std::size_t bytes_max) {
  if (complete_) line_.clear();
  complete_ = carriage_return_ && c == '\n';
  if (complete_) {
    carriage_return_ = false;
    return Status::complete;
  }
  // RFC 9112 2.2: neither a bare CR nor a bare LF ends a line here.
  if (carriage_return_ || (is_control(c) && c != '\t' && c != '\r')) return Status::malformed;
  if (c == '\r') {
    carriage_return_ = true;
    return Status::need_more;
  }
  if (line_.size() == bytes_max) return Status::too_long;
  line_ += c;
  return Status::need_more;
}

std::optional<Header> parse_field_line(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  // A token has no white space: this refuses obs-fold and "Name :" too.
  if (!is_token(line.substr(0, colon))) return std::nullopt;
  return Header{std::string(line.substr(0, colon)), std::string(trim(line.substr(colon + 1)))};
}

}  // namespace sluice::http
