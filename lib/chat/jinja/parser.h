// Tokens of a chat template to its tree, by the grammar of Jinja 3.1. Blocks, includes, imports,
// inheritance and autoescape are not part of chat templates and are refused.
#pragma once

#include <string_view>

#include "lib/chat/jinja/ast.h"

namespace qwb::jinja {

// Throws Failure, with `line` at the place.
Template parse_template(std::string_view source, int& line);

}  // namespace qwb::jinja
