// A data set as documents to train on: tokens, and what the loss of each counts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/quantize/calibrate/conversation.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {

struct TrainingDocument {
  std::vector<int32_t> tokens;
  // What the loss of predicting this token counts: 1, 0 or the prompts' weight; 0 for the first.
  std::vector<float> weights;
  int64_t row = 0;  // of the file, from 1 on

  double weight() const;       // of all tokens
  int64_t supervised() const;  // tokens of a weight above 0
};

// Turns a conversation into text; whether it ends where an assistant's answer begins.
using RenderTurns = std::function<std::string(const Conversation&, bool add_generation_prompt)>;

struct DocumentRequest {
  Path file;              // .jsonl or .txt, of the shapes that calibration reads
  int64_t length = 2048;  // tokens of a document; what is longer is cut at its end
  // What tokens count that no assistant wrote; texts without turns count 1.
  double prompt_weight = 0;
  std::vector<int64_t> end_tokens;  // what ends a text, the first of them being added to texts
};

struct DocumentSet {
  std::vector<TrainingDocument> documents;
  int64_t cut = 0;                 // documents that were longer
  int64_t left_out = 0;            // rows without a token that counts
  int64_t answers = 0, ended = 0;  // turns of assistants, and those with a token that ends a text
  bool has_turns = false;
  std::string hash;  // XXH3-128 of all tokens and weights

  int64_t tokens() const;
  int64_t supervised() const;
};

// Answers are found by rendering a conversation up to where each begins and to where it ends; the
// end token that the template writes there counts as a part of it. Throws, naming the row: what
// read_conversation throws and the template says; unsupported where the text up to an answer is not
// how the whole text begins. Throws usage if no token of the whole set counts.
DocumentSet read_documents(const DocumentRequest& request, const Tokenizer& tokenizer,
                           const RenderTurns& render, const Context& context);

// A document as text, what does not count between marks: "[[user: hi]]hello".
std::string marked_text(const TrainingDocument& document, const Tokenizer& tokenizer);

}  // namespace qwb
