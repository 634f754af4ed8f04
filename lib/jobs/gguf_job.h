// What a conversion to GGUF says, and what it is asked by name (convert_job.h does it).
#pragma once

#include "formats/gguf_export.h"
#include "lib/base/progress.h"
#include "lib/quantize/plan.h"

namespace qwb {

inline constexpr const char* kGgufFormat = "gguf";

// "Q4_0", "q4_k", ...; throws usage, naming `flag` and listing the types.
GgmlType parse_ggml_type(const std::string& text, const std::string& flag);
// "F32, F16, ..."
std::string ggml_type_names();

// By its first bytes alone: what may be replaced where a GGUF is to be written.
bool begins_as_gguf(const Path& file);

// schema, source, source_format, format, exact, bytes, modules [{name, tensor, type, how, reason,
// error}], counts.
Json gguf_json(const OpenModel& open, const GgufReport& report);
// What is exact and what was lost, a note each.
void tell_gguf(const GgufReport& report, bool done, Progress& progress);

// Throws unsupported, naming modules, if GGUF cannot hold exactly what the plan will make, as far
// as it can be known before the work: minimums of asymmetric grids show only afterwards.
void check_plan_fits_gguf(const Plan& plan);

}  // namespace qwb
