// One transformer layer, cut where linear modules read a common input, so that calibration can look at each
// input, replace the modules that read it and go on: a block runs forward only once.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "lib/kernels/backend.h"
#include "lib/model/architecture.h"
#include "lib/model/config.h"
#include "lib/model/weight_bytes.h"
#include "lib/tensor/source.h"

namespace qwb {

// cos and sin of the rotary angles of consecutive positions; empty for models without rotary embedding.
struct RotaryTable {
  FloatBuffer cosine;  // [tokens, head_dim / 2]
  FloatBuffer sine;
  RotaryTable(const Rope& rope, int64_t first_position, int64_t tokens);
};

// Keys and values of one layer, [capacity, kv_heads * head_dim]; the first `past` rows are filled.
struct LayerCache {
  float* keys;
  float* values;
  int64_t past;
};

// The four inputs of a block's linear modules, in the order they are computed.
enum class Stage { attention_input, attention_output, mlp_input, mlp_output };
inline constexpr Stage kStages[] = {Stage::attention_input, Stage::attention_output, Stage::mlp_input,
                                    Stage::mlp_output};

class Block {
 public:
  // Finds and checks all tensors. `index` is the layer's number.
  Block(const ModelConfig& config, const BlockSpec& spec, int64_t index, const TensorSource& source,
        const Backend& backend);

  // Modules that read the input of `stage`.
  std::vector<const LinearSpec*> linears(Stage stage) const;
  int64_t input_size(Stage stage) const;
  const Weight& weight(const std::string& module) const;
  // Packs all weights for the backend's products (Backend::pack); the memory must outlive their use.
  std::vector<AlignedBuffer> pack_weights();
  // Goes on with another weight of the same shape (the view's owner must outlive its use).
  void set_weight(const std::string& module, const Weight& weight);
  // Adds everything that this block holds.
  void count_weights(WeightCount& count) const;
  // Empty if the module has none.
  const std::vector<float>& bias(const std::string& module) const;
  void set_bias(const std::string& module, const std::vector<float>& bias);
  // The norm whose output is the input of `stage` (attention_input or mlp_input). bias: empty exactly if the
  // norm has none.
  void set_norm(Stage stage, const std::vector<float>& gain, const std::vector<float>& bias);

  // x [tokens, hidden] is the residual stream of one sequence.
  // h [tokens, hidden] = norm(x), the input of q, k and v.
  void attention_input(const float* x, int64_t tokens, float* h) const;
  // attended [tokens, heads * head_dim]: q, k, v of h, rotation, cache, attention; the input of the output
  // projection.
  void attend(const float* h, int64_t tokens, const RotaryTable& rotary, LayerCache cache,
              float* attended) const;
  // x += output projection of attended
  void attention_output(const float* attended, int64_t tokens, float* x) const;
  // h = norm(x), the input of gate and up.
  void mlp_input(const float* x, int64_t tokens, float* h) const;
  // inner [tokens, intermediate] = act(gate h) * up h, the input of down.
  void mlp_inner(const float* h, int64_t tokens, float* inner) const;
  // x += down projection of inner
  void mlp_output(const float* inner, int64_t tokens, float* x) const;

  // All of the above.
  void forward(float* x, int64_t tokens, const RotaryTable& rotary, LayerCache cache) const;

 private:
  struct Norm {
    std::vector<float> gain, bias;
    bool centred = false;
  };
  struct Linear {
    LinearSpec spec;
    Weight weight;
    std::vector<float> bias;
  };

  Norm load_norm(const NormSpec& spec, int64_t size, const TensorSource& source) const;
  Linear load_linear(const LinearSpec& spec, const TensorSource& source) const;
  void normalize(const Norm& norm, const float* x, int64_t tokens, float* h) const;
  void apply(const Linear& linear, const float* x, int64_t tokens, float* y, bool add) const;
  // Several that read one input.
  void apply(std::initializer_list<std::pair<const Linear*, float*>> linears, const float* x,
             int64_t tokens) const;
  Linear& find(const std::string& module);
  void normalize_heads(const Norm& norm, float* x, int64_t tokens, int64_t heads) const;

  const ModelConfig& config_;
  const Backend& backend_;
  int64_t index_;
  Norm attention_norm_, mlp_norm_, q_norm_, k_norm_;
  std::vector<Linear> qkv_, gate_;
  Linear output_, up_, down_;
};

// The weight of a module: its quantized form if the source has one, else the tensor "<module>.weight", of
// exactly this size. Throws not_found or failed.
Weight find_weight(const TensorSource& source, const std::string& module, int64_t out, int64_t in,
                   Orientation orientation);
// The tensor of that name with exactly this shape, as f32. Throws not_found, failed, or `failed` on NaN or
// Inf.
std::vector<float> find_vector(const TensorSource& source, const std::string& name, int64_t size);

}  // namespace qwb
