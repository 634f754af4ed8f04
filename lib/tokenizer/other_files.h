// Tokenizers without a tokenizer.json: what one would hold, made of tokenizer.model (SentencePiece)
// or of vocab.json and merges.txt.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "lib/base/json.h"
#include "lib/tokenizer/normalizer.h"
#include "lib/tokenizer/tokenizer_file.h"

namespace qwb::tokenizer {

struct MadeTokenizer {
  TokenizerFile file;
  std::unique_ptr<Normalizer> normalizer;  // null: that of `file`
  std::string settings;  // of the configuration, that decide ids and are in neither
};

// The ids are those of SentencePiece, which transformers' classes without parts of their own give
// too; control pieces in a text are found as special tokens. `config` (tokenizer_config.json, may
// be null) gets the names of the special tokens that it lacks; its add_bos_token and add_eos_token
// decide what stands around a text. Throws unsupported for a class with parts of its own, `failed`
// for damage.
MadeTokenizer tokenizer_of_sentencepiece(std::string_view bytes, Json& config,
                                         const std::string& where);

// For the classes of GPT-2 and Qwen2, which know what stands before the merges: the text
// of a tokenizer.json.
std::string tokenizer_of_merges(std::string_view vocab_json, std::string_view merges,
                                const Json& config, const std::string& where);

}  // namespace qwb::tokenizer
