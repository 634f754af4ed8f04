// The bytes of single tokens, which are not always whole characters.
#pragma once

#include <cstdint>
#include <string>

#include "lib/tokenizer/tokenizer.h"

namespace qwb {

// What a token adds to a text in which others stand before it. A special token's bytes are its
// name. Bytes of tokens that follow each other are those of their text.
std::string token_bytes(const Tokenizer& tokenizer, int32_t id);

}  // namespace qwb
