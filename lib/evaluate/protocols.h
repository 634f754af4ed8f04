// The named ways to compute a perplexity, as plans: which windows of tokens a model sees and which
// of their tokens are scored. One loop (perplexity.h) scores every plan. Byte-exact descriptions,
// sources and known values: protocols.md. A value belongs to its protocol, context, stride, text
// and tokens; values of different ones are never compared.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/evaluate/text.h"
#include "lib/model/config.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {

// Tokens ids[begin .. begin + size) of a plan, read from an empty cache; tokens first .. size - 1
// of them are scored, each by what the model says after the ones before it. (The last token is
// never read.)
struct TokenWindow {
  int64_t begin = 0;
  int64_t size = 0;
  int64_t first = 1;                        // at least 1
  std::optional<int32_t> first_token = {};  // takes the place of ids[begin]
  double scale = 1;                         // on the sum of its losses (hf-stride)
  double weight = 0;                        // what its scored tokens count
  int64_t unit = 0;                         // which unit of the statistics it belongs to, ascending

  int64_t scored() const { return size - first; }
};

struct TokenPlan {
  std::string protocol;
  int64_t context = 0;  // most tokens that a window reads
  int64_t stride = 0;   // hf-stride; else 0
  std::vector<int32_t> ids;
  std::vector<TokenWindow> windows;
  // Statistics' units and what each counts: windows, or documents where there are several.
  std::vector<double> unit_weights;
  int64_t documents = 1;
  // lm-eval: of all measured documents, before preprocessing. Weights are words.
  int64_t words = 0;
  int64_t bytes = 0;
  std::string text_hash;   // XXH3-128 of the text's bytes
  std::string token_hash;  // XXH3-128 of the ids as little-endian 32-bit integers

  int64_t scored() const;
  int64_t read() const;      // tokens that a model reads for it
  std::string hash() const;  // of everything that decides the result: ids and windows
};

struct ProtocolOptions {
  std::string protocol = "windows";
  int64_t context = 0;      // 0: the protocol's default
  int64_t stride = 0;       // hf-stride; 0: half the context
  int64_t max_windows = 0;  // 0: all. Only the first windows (lm-eval: documents)
};

struct Protocol {
  std::string name;
  std::string summary;
  std::string column;  // "perplexity", or what else its value is
  std::function<TokenPlan(const ProtocolOptions&, const ModelConfig&, const Tokenizer&,
                          const EvaluationText&)>
      plan;
};
const std::vector<Protocol>& protocols();
// Throws usage, listing the names.
const Protocol& find_protocol(std::string_view name);

// Throws usage: an unknown protocol, a context that the model cannot take, a stride without
// meaning, a text too short, tokens outside of the model's vocabulary.
TokenPlan make_plan(const ProtocolOptions& options, const ModelConfig& config,
                    const Tokenizer& tokenizer, const EvaluationText& text);

}  // namespace qwb
