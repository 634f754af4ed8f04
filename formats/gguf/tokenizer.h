// Tokenizers: a GGUF file's tokenizer.* keys as Hugging Face files, and the reverse. What is known
// of each kind, and which pre-tokenizers: formats/gguf/gguf.md.
#pragma once

#include <map>
#include <string>

#include "formats/gguf/file.h"
#include "formats/registry.h"
#include "lib/base/context.h"

namespace qwb {

// tokenizer.json, tokenizer_config.json (with the chat template) and generation_config.json;
// nothing if the file has no tokenizer. Throws unsupported for a kind or pre-tokenizer that is not
// known, `failed` for lists that do not fit each other.
std::map<std::string, std::string> gguf_companions(const GgufMetadata& metadata,
                                                   const std::string& where);

// Adds the tokenizer of a model whose embedding has `vocabulary` rows, with its special tokens and
// chat template. Throws unsupported for a tokenizer that llama.cpp could not imitate; a model
// without one is told through `context`.
void add_gguf_tokenizer(const OpenModel& open, int64_t vocabulary, GgufMetadata& metadata,
                        const Context& context);

// The pre-tokenizer called `name` in tokenizer.ggml.pre as the parts of tokenizer.json it stands
// for: {"pre_tokenizer": .., "normalizer": .., "ignore_merges": ..}. Throws unsupported.
Json gguf_pre_tokenizer(const std::string& name, const std::string& where);
// Whether llama.cpp puts BOS before texts of this pre-tokenizer where the file does not say.
bool gguf_begins_with_bos(const std::string& name);
// The name for these parts of a tokenizer.json. Throws unsupported.
std::string gguf_pre_tokenizer_name(const Json& tokenizer, const std::string& where);

}  // namespace qwb
