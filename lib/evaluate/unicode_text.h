// Operations of Python's str on UTF-8: the tools whose protocols are followed here are written in
// Python.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qwb {

// Bytes of the white-space character (str.isspace, which is also \s of re) at `place`; 0 if there
// is none.
size_t space_at(std::string_view text, size_t place);
// str.strip, str.rstrip
std::string_view strip(std::string_view text);
std::string_view strip_right(std::string_view text);
// len(str): characters; an invalid byte counts as one.
int64_t count_characters(std::string_view text);
// str.capitalize: the first character in title case, all others in lower case, by Unicode's simple
// mappings.
std::string capitalize(std::string_view text);
// str.replace
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace qwb
