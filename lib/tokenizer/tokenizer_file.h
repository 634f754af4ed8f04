// tokenizer.json as parsed. The vocabulary and the merges (hundreds of thousands of entries) go
// straight into flat lists, the rest into an ordinary JSON value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/json.h"

namespace qwb::tokenizer {

// Ids above this are refused: no vocabulary comes near, and tables are sized by the largest id.
inline constexpr int64_t kMaxId = 1 << 24;

struct TokenizerFile {
  Json root;            // without model.vocab and model.merges
  bool scored = false;  // vocab was a list of [piece, score] (Unigram)
  std::vector<std::pair<std::string, int32_t>> vocab;  // token, id
  std::vector<double> scores;                          // of vocab[i] when scored
  std::vector<std::pair<std::string, std::string>> merges;
};

// Throws `failed` (damaged: bad JSON, wrong types, ids that are negative, above kMaxId or given
// twice).
TokenizerFile parse_tokenizer_file(std::string_view text, const std::string& where);

// What a tokenizer is made of when its file is parsed already: Tokenizer::of().
struct ParsedTokenizer {
  TokenizerFile file;
  std::string_view text;  // of tokenizer.json: the content hash is of it
  Json config;            // tokenizer_config.json with its side files; null: none
  Json model;             // config.json; null: none
  std::string where;
};

}  // namespace qwb::tokenizer
