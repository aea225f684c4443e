// routes.yaml to Config: strict, and with every mistake at once.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "base/result.h"
#include "config/config.h"
#include "config/diagnostic.h"
#include "config/environment.h"

namespace sluice::config {

// Reads a configuration from its text. Pure: the same text and environment give the same result.
// `file_name` is what diagnostics call it; relative paths in it become relative to `base_dir`, or
// stay as they are if that is empty. Diagnostics come sorted by position.
tl::expected<Config, Diagnostics> parse(std::string_view text, const std::string& file_name,
                                        const Environment& environment,
                                        const std::string& base_dir = "");

// Reads the file, with the environment of the process; paths in it are relative to its folder.
tl::expected<Config, Diagnostics> load_file(const std::string& path);

// `metrics.address` alone, empty if there is none, whatever else is wrong with the file: a gateway
// may run with what stood there before. Diagnostics are of a file that is no YAML, or whose
// `metrics` is faulty.
tl::expected<std::string, Diagnostics> load_metrics_address(const std::string& path);

// The text of a file, for render(). Reads no more than a configuration may have, and a byte.
Result<std::string> read_file(const std::string& path);

}  // namespace sluice::config
