// What the families around GPT-NeoX share: LayerNorms, a fused or separate attention of as many
// heads for k and v as for q, a plain MLP, and ALiBi's slopes.
#pragma once

#include <string>
#include <vector>

#include "lib/model/architecture.h"

namespace qwb {

// A size's key in config.json, the name that transformers takes for the same (it wins; null: none),
// and what an absent one means.
struct SizeField {
  const char* key;
  const char* other;
  int64_t fallback;
};

struct PlainFields {
  SizeField vocab, hidden, layers, heads, positions;
  int64_t bos, eos;  // -1: none
  const char* norm_eps_key = "layer_norm_epsilon";
  bool tied = true;
};

// Sizes, head_dim, the scale of the scores, eps (absent: 1e-5), tied embeddings, special tokens.
ModelConfig parse_plain_family(const Json& config, const std::string& where, const char* name,
                               const PlainFields& fields);
int64_t read_size(const Json& config, const std::string& where, const SizeField& field);
// A size that may be null or absent.
int64_t optional_size(const Json& config, const char* key, const std::string& where,
                      int64_t fallback);
// Throws unsupported, naming the key, if the setting is not this value; absent: `fallback`.
void require_switch(const Json& config, const char* key, const std::string& where, bool value,
                    bool fallback);

// "<prefix>" if the source has the tensor "<prefix><tensor>", else nothing.
std::string prefix_of(const TensorSource& source, const std::string& prefix,
                      const std::string& tensor);

// ALiBi's slopes as BLOOM and the paper have them, 2^(-8 i / n) of the largest power of two, the
// rest from twice as many; and as MPT has them.
std::vector<float> alibi_slopes(int64_t heads);
std::vector<float> mpt_slopes(int64_t heads);

}  // namespace qwb
