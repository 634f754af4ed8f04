// What qwb-convert and qwb-quantize --format say about a conversion.
#pragma once

#include <string>
#include <vector>

#include "formats/convert.h"
#include "tools/common/tool.h"

namespace qwb {

// Names and summaries of the formats, one a line, for --help.
std::string format_help();
// "gptq, awq, ..."
std::string format_names();
// Throws `failed` unless that many bytes are free where `place` is.
void require_disk_space(const Path& place, int64_t bytes);
// "float16", "f16", "bf16", ...; throws usage.
DType parse_dtype(const std::string& text);

struct AddedError {
  double error = 0;  // |W - W'|^2 / |W|^2
  std::string module;
};
// "largest relative weight error added: ..." of the three worst.
std::string worst_errors(std::vector<AddedError> errors);

// schema, source, source_format, format, exact, bytes, modules [{name, how, reason, bytes, error}],
// counts.
Json conversion_json(const Conversion& conversion);
// "exact: the codes and scales of 56 modules are those of IN" or what was lost, on stderr.
void tell_conversion(const Conversion& conversion, bool done, Tool& tool);

}  // namespace qwb
