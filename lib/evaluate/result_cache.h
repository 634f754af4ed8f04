// Measurements kept between runs: a file for each key in a folder. A key holds what decides a result; what
// it does not hold must not matter. Damaged files are misses.
#pragma once

#include <optional>

#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb {

// The value that was stored for exactly this key. Never throws.
std::optional<Json> load_result(const Path& folder, const Json& key);
// Creates the folder if it is not there. Throws `failed` if it cannot be written.
void store_result(const Path& folder, const Json& key, const Json& value);

}  // namespace qwb
