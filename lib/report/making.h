// How an artifact was made, from its qwb.json.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb::report {

struct ModuleError {
  std::string name;
  std::optional<int64_t> block;          // the first number in its name; nothing for embeddings
  std::optional<double> weight_error;    // relative
  std::optional<double> output_error;    // relative, on the calibration tokens
  std::optional<double> rounding_error;  // output error of plain rounding on the same grid
};

struct Making {
  std::string source;       // the unquantized model; may be empty
  std::string source_hash;  // its content hash then; may be empty
  std::string calibration;  // "demo, 128 windows, 131072 tokens"; empty: none was needed
  Json settings;
  std::optional<double> seconds;
  std::optional<double> peak_bytes;
  std::vector<ModuleError> modules;
};

// Nothing if there is no qwb.json. Throws `failed` for a damaged one.
std::optional<Making> making_of(const Path& folder);

// The unquantized model that qwb.json names, as it is or relative to the artifact; nothing if it is
// not there.
std::optional<Path> source_folder(const Making& making, const Path& folder);

}  // namespace qwb::report
