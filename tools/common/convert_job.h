// What qwb-convert and qwb-quantize --format say about a conversion.
#pragma once

#include <string>

#include "formats/convert.h"
#include "tools/common/tool.h"

namespace qwb {

// Names and summaries of the formats, one a line, for --help.
std::string format_help();
// "gptq, awq, ..."
std::string format_names();
// "float16", "f16", "bf16", ...; throws usage.
DType parse_dtype(const std::string& text);

// schema, source, source_format, format, exact, bytes, modules [{name, how, reason, bytes, error}], counts.
Json conversion_json(const Conversion& conversion);
// "exact: the codes and scales of 56 modules are those of IN" or what was lost, on stderr.
void tell_conversion(const Conversion& conversion, bool done, Tool& tool);

}  // namespace qwb
