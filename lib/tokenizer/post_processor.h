// The post-processors of tokenizer.json for one sequence: which special tokens surround it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/json.h"

namespace qwb::tokenizer {

// Ids, and where among them the text goes. kText stands for the ids of the text.
using Template = std::vector<int32_t>;
inline constexpr int32_t kText = -1;

// From the "post_processor" value; null gives just the text. Throws `unsupported` naming a type
// that is not known, `failed` on damage.
Template make_template(const Json& json, const std::string& where);

}  // namespace qwb::tokenizer
