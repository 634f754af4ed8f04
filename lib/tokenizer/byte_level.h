// The byte-level alphabet of GPT-2: every byte has one printable character, so that any text is
// made of 256 known ones. 0x21-7E, A1-AC, AE-FF stand for themselves; the other 68 bytes,
// ascending, are U+0100 to U+0143 (space is U+0120).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qwb::tokenizer {

// Each byte as its character.
std::string byte_level_encode(std::string_view bytes);

// Each character as its byte. False, with `out` as it was, if a character stands for no byte.
bool byte_level_decode(std::string_view text, std::string& out);

}  // namespace qwb::tokenizer
