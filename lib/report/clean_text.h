// Text from files, command lines and models, made harmless for terminals, tables and pictures.
#pragma once

#include <string>
#include <string_view>

namespace qwb::report {

// Valid UTF-8 without control characters: line breaks, tabs and other controls (escape sequences,
// writing direction) become spaces, invalid bytes U+FFFD.
std::string clean_text(std::string_view text);
// The same, but line feeds and tabs stay: for a text of several lines on a terminal.
std::string clean_lines(std::string_view text);

}  // namespace qwb::report
