// What transformers makes of a tokenizer.json by the tokenizer_class beside it.
//
// Classes without a constructor of their own (TokenizersBackend, the former
// PreTrainedTokenizerFast) use tokenizer.json as it stands. Others take only the vocabulary,
// the merges and the post-processor and bring their own normalizer, pre-tokenizer, settings of the
// model and names of special tokens. Source: transformers 5.24, AutoTokenizer.from_pretrained and
// TokenizersBackend.convert_to_native_format.
#pragma once

#include <string>

#include "lib/base/json.h"
#include "lib/tokenizer/tokenizer_file.h"

namespace qwb::tokenizer {

// Changes `file` and `config` (tokenizer_config.json, may be null) to what transformers loads
// without trust_remote_code. `model` is config.json, null if there is none. Two kinds of published
// checkpoints keep their tokenizer.json, because they were trained with it and the class loses a
// part: Llama-2 style files (the class drops one U+2581 before a text that begins with a space) and
// GPT2Tokenizer with digits kept apart (SmolLM2). Returns a note that tells the second, or that the
// repository's own class is not run, else an empty text. Throws unsupported for classes that bring
// parts that are not known here.
std::string apply_tokenizer_class(TokenizerFile& file, Json& config, const Json& model,
                                  const std::string& where);

// vocab.json and merges.txt say nothing about how a text is cut first: throws unsupported unless
// the class does, GPT-2's or Qwen's.
void need_byte_level_class(const Json& config, const Json& model, const std::string& where);

}  // namespace qwb::tokenizer
