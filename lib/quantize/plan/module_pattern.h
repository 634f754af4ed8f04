// Patterns on module names, as people write them in --include, --exclude and plan files:
//
//   *      any run of characters, dots included          ?     one character
//   [0-3]  one of these characters                       [!0-3] one that is none of these
//
// A pattern matches a name if it matches the whole of it or all that follows one of its dots:
// `down_proj`, `*.down_proj`, `mlp.*`, `layers.[01].*` and `model.layers.0.*` all do what they look
// like, with and without the prefixes that checkpoints put in front.
#pragma once

#include <string>
#include <string_view>

namespace qwb {

// Throws usage, naming `where`, for an empty pattern and for a '[' without its ']'.
void check_pattern(const std::string& pattern, const std::string& where);
// Linear in the name's length times the pattern's, whatever the pattern.
bool pattern_matches(std::string_view pattern, std::string_view name);
// No wildcard in it: it names something.
bool is_plain_pattern(std::string_view pattern);

}  // namespace qwb
