// Perplexity by named protocols. A value belongs to its protocol, context, text and tokens; values of
// different ones are never compared.
//
//   windows    disjoint windows of `context` tokens, the tail dropped, each with an empty cache; one
//   tokenizer call on the whole text with the
//              special tokens the tokenizer adds (so at most one BOS, at the very start); context - 1 tokens
//              scored per window. The protocol of the GPTQ papers.
//   llama.cpp  as llama-perplexity does it: the same windows, default context 512, at least two of them; if
//   the tokenizer adds a BOS it
//              overwrites the first token of every window; only the second half is scored (tokens context/2 +
//              1 to the end).
//
// value = exp(sum of losses / scored tokens), losses in nats, sums in f64.
// Standard error (delta method): value x s / sqrt(n), s the standard deviation of the n window means; windows
// count as independent, tokens of one window do not. (llama.cpp takes all tokens for independent and so
// reports smaller errors.)
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/progress.h"
#include "lib/model/model.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {

// A text as token ids, special tokens included as the tokenizer adds them.
struct EncodedText {
  std::vector<int32_t> ids;
  std::optional<int32_t> bos;  // what the tokenizer puts before every text, if it does
  std::string text_hash;       // XXH3-128 of the bytes
  std::string token_hash;      // XXH3-128 of the ids as little-endian 32-bit integers
};
// Throws `failed` for an empty text.
EncodedText encode_text(const Tokenizer& tokenizer, std::string_view text, const std::string& where);

struct Protocol {
  std::string name;
  std::string summary;
  int64_t default_context = 0;  // used unless the model's own limit is smaller
  int64_t minimum_windows = 1;
  bool bos_in_every_window = false;
  // The first scored token of a window.
  std::function<int64_t(int64_t context)> first_scored;
};
const std::vector<Protocol>& protocols();
// Throws usage, listing the names.
const Protocol& find_protocol(const std::string& name);

struct PerplexityOptions {
  std::string protocol = "windows";
  int64_t context = 0;      // 0: the protocol's default or the model's limit, whichever is smaller
  int64_t max_windows = 0;  // 0: all
};

struct PerplexityResult {
  std::string protocol;
  int64_t context = 0;
  int64_t tokens = 0;  // scored
  int64_t windows = 0;
  double value = 0;
  std::optional<double> standard_error;  // nothing for a single window
  std::string text_hash;
  std::string token_hash;
  std::vector<double> window_means;  // mean loss of each window
};

// The context that measure_perplexity will use. Throws usage if the model cannot take the one asked for.
int64_t perplexity_context(const ModelConfig& config, const PerplexityOptions& options);

// Throws usage (context, text too short, tokens outside of the model's vocabulary) or `failed` (a loss that
// is NaN or infinite, with its window and token). Progress counts tokens and shows the estimate so far.
PerplexityResult measure_perplexity(const Model& model, const EncodedText& text,
                                    const PerplexityOptions& options, Progress& progress);

// exp(mean loss difference) with its standard error from the paired window differences: far smaller than the
// errors of the two values, because both models find the same windows hard. Throws usage unless protocol,
// context, windows and tokens are the same.
struct PerplexityRatio {
  double value = 0;
  std::optional<double> standard_error;
};
PerplexityRatio perplexity_ratio(const PerplexityResult& result, const PerplexityResult& baseline);

}  // namespace qwb
