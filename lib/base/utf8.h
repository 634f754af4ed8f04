// Which bytes are a character.
#pragma once

#include <string_view>

namespace qwb {

// Length of the valid UTF-8 sequence at `at`, or 0 with `bad` = bytes of the maximal invalid part
// (Unicode 3.9, as Rust, Python and browsers replace it), or -1 if the text ends inside a sequence
// that is valid so far.
int utf8_sequence(std::string_view text, size_t at, int& bad);

}  // namespace qwb
