// An architecture: what its config.json means, what its tensors are called, and how one block is
// wired, and what GGUF calls all that. One file each in architectures/, and one line in
// registry.cpp. The wiring is a list of sublayers: norm, mixer (attention, MLP, experts), addition
// to the residual stream, with every optional part that is present.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/codec/source.h"
#include "lib/model/config.h"
#include "lib/model/gguf_spec.h"

namespace qwb {

// A linear layer of a block.
struct LinearSpec {
  std::string module;  // checkpoint name without ".weight"
  int64_t out = 0;
  int64_t in = 0;
  Orientation orientation = Orientation::out_in;
  bool bias = false;  // "<module>.bias" [out]
};

struct NormSpec {
  // "<module>.weight" [n], and "<module>.bias" [n] if it has one; empty: there is no norm.
  std::string module;
  bool centred = false;  // LayerNorm instead of RMSNorm
  float offset = 0;      // the gain is offset + weight (Gemma: 1)
  bool biased = true;    // of a centred one (Cohere's is without)
  bool empty() const { return module.empty(); }
  bool has_bias() const { return centred && biased; }
};

// Mixers: what a sublayer does between its norm and the residual stream.
struct AttentionSpec {
  std::vector<LinearSpec> qkv;  // q, k, v; or one module whose output holds q, k and v side by side
  // Of one module: its output holds for each kv head the heads of q that share it, k and v
  // (GPT-NeoX, BLOOM, Falcon).
  bool grouped = false;
  // RMSNorms before the rotation, over each head_dim, or over all heads at once (OLMo 2); empty:
  // none.
  NormSpec q_norm = {}, k_norm = {};
  bool norms_span_heads = false;
  LinearSpec output = {};
};

struct MlpSpec {
  std::vector<LinearSpec> gate = {};  // empty: the MLP is not gated, or
  LinearSpec up = {};                 // `up` holds both side by side, gate first
  LinearSpec down = {};
  bool fused = false;
};

// Each token goes to the `used` experts that the router scores highest; what they make of it is
// added up, weighted by the softmax of the router's scores over all experts, if `normalized` to a
// sum of 1 over those used.
struct MoeSpec {
  LinearSpec router;  // [experts, hidden]
  std::vector<MlpSpec> experts = {};
  int64_t used = 0;
  bool normalized = true;
  // An expert that sees every token, its answer multiplied with the sigmoid of shared_gate's one
  // output; a gate without a name: with 1 (Qwen2-MoE; Granite-MoE).
  std::optional<MlpSpec> shared = std::nullopt;
  LinearSpec shared_gate = {};
};

// Attention and MLP beside each other, x += attention(before(x)) + mlp(mlp_norm(x)); without a norm
// of its own the MLP reads what the attention does.
struct ParallelSpec {
  AttentionSpec attention = {};
  NormSpec mlp_norm = {};
  MlpSpec mlp = {};
};

// x += scale * after(mixer(before(x))), x being the residual stream and scale the model's
// residual_scale. Without `before` the mixer reads the stream itself (OLMo 2).
struct SublayerSpec {
  NormSpec before;
  std::variant<AttentionSpec, MlpSpec, MoeSpec, ParallelSpec> mixer;
  NormSpec after = {};  // sandwich norms (Gemma 2); empty: none
};

// The attention of a sublayer, alone or beside an MLP; null: it has none.
const AttentionSpec* attention_of(const SublayerSpec& sublayer);

struct BlockSpec {
  std::vector<SublayerSpec> sublayers;
};

struct ModelSpec {
  std::string embedding;  // tensor [vocab, hidden]
  // Tensor [position_offset + max_positions, hidden] added to the embedding; empty: none.
  std::string positions;
  NormSpec final_norm;
  std::string output_embedding;  // tensor [vocab, hidden]; the embedding's own name when tied
  std::vector<BlockSpec> blocks;
  NormSpec embedding_norm = {};  // of the embeddings, before the first block; empty: none
  std::string output_bias = {};  // tensor [vocab], added to the logits; empty: none
};

struct Architecture {
  std::string name;  // config.json's model_type
  // Reads and checks the fields of config.json.
  std::function<ModelConfig(const Json& config, const std::string& where)> parse;
  // Names and wiring; the source tells which of several spellings is used.
  std::function<ModelSpec(const ModelConfig& config, const TensorSource& source)> spec;
  // How GGUF files hold it; nothing: they cannot.
  std::optional<GgufSpec> gguf = {};
};

// The linear modules of a block, in the order they are computed.
std::vector<LinearSpec> block_linears(const BlockSpec& spec);

// All architectures. References to them stay valid.
const std::deque<Architecture>& architectures();
// One more, before others use them. Throws usage if there is one of that name.
void add_architecture(Architecture architecture);
// Throws unsupported, with the names there are.
const Architecture& find_architecture(std::string_view model_type, const std::string& where);

}  // namespace qwb
