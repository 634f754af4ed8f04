// Text from files and command lines, made harmless for terminals, tables and pictures.
#pragma once

#include <string>
#include <string_view>

namespace qwb::report {

// Valid UTF-8 without control characters: line breaks, tabs and other controls (escape sequences,
// writing direction) become spaces, invalid bytes U+FFFD.
std::string clean_text(std::string_view text);

}  // namespace qwb::report
