// What a conversion tells, whatever the format: as JSON, and in words.
#pragma once

#include "formats/convert.h"
#include "lib/base/json.h"
#include "lib/base/progress.h"

namespace qwb {

// schema, source, source_format, format, exact, bytes, counts (by how), modules [{name, how,
// reason, error; and where the format gives every tensor a type: tensor, type}].
Json conversion_json(const Conversion& conversion);
// What is exact and what was (done) or will be lost, a note each.
void log_conversion(const Conversion& conversion, bool done, Progress& progress);

}  // namespace qwb
