// The parts of a Tokenizer, put together when it is loaded and constant afterwards.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib/tokenizer/added_tokens.h"
#include "lib/tokenizer/decoder.h"
#include "lib/tokenizer/model.h"
#include "lib/tokenizer/normalizer.h"
#include "lib/tokenizer/post_processor.h"
#include "lib/tokenizer/pre_tokenizer.h"
#include "lib/tokenizer/string_table.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {

struct Tokenizer::Impl {
  tokenizer::TokenFinder raw_tokens;         // added tokens searched in the text as it is
  tokenizer::TokenFinder normalized_tokens;  // and in the normalized text
  std::unique_ptr<tokenizer::Normalizer> normalizer;
  std::unique_ptr<tokenizer::PreTokenizer> pre_tokenizer;
  std::unique_ptr<tokenizer::Model> model;
  std::unique_ptr<tokenizer::DecoderPlan> decoder;
  tokenizer::Template specials = {tokenizer::kText};
  tokenizer::StringTable ids;       // token -> id
  std::vector<std::string> tokens;  // id -> token, empty if unused
  std::set<int32_t> added;          // ids of the added tokens
  std::vector<bool> special;        // by id
  std::vector<bool> skipped;        // by id: left out when special tokens are skipped
  std::optional<int32_t> bos, eos;
  std::string hash;
  std::string note;
  std::map<std::string, std::string> named;  // bos_token and the like -> text
  mutable tokenizer::WorkspacePool workspaces;

  // The ids of a text without its special tokens. `text` must be valid UTF-8.
  void encode_text(std::string_view text, std::vector<int32_t>& out) const;
};

}  // namespace qwb
