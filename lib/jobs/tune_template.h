// How conversations become text to tune on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/open_model.h"
#include "lib/tune/documents.h"

namespace qwb {

struct TuneTemplate {
  RenderTurns render;
  std::vector<int64_t> end_tokens;  // what ends a text
  std::string origin;               // "the model's", "roles as text", or the file
  std::string hash;                 // XXH3-128 of its text and the tokenizer
  std::string text;                 // of one that is not the model's
  bool is_ours = false;             // it is not: whoever uses the adapter needs it
};

// `file`, else the model's chat template, else one of our own without new tokens: roles as text,
// the end token after each answer. Throws what ChatTemplate throws; unsupported where that takes an
// end token and the tokenizer has none.
TuneTemplate tune_template(const OpenModel& open, const std::optional<Path>& file,
                           const Tokenizer& tokenizer);

}  // namespace qwb
