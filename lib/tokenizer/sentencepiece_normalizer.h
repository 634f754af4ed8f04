// SentencePiece's normalizer: characters by its compiled table, then spaces.
#pragma once

#include <memory>
#include <string>

#include "lib/tokenizer/normalizer.h"
#include "lib/tokenizer/sentencepiece_file.h"

namespace qwb::tokenizer {

// first_only: only a text's first part gets the space before it that the model was trained with,
// not every part behind a special token. Throws `failed` for a damaged table.
std::unique_ptr<Normalizer> make_sentencepiece_normalizer(const SentencePieceFile& file,
                                                          bool first_only,
                                                          const std::string& where);

}  // namespace qwb::tokenizer
