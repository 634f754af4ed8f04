// A linear layer and a norm of a block with their values, and how they are found in a checkpoint.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "lib/codec/source.h"
#include "lib/kernels/backend.h"
#include "lib/model/architecture.h"
#include "lib/model/config.h"

namespace qwb {

// What every part of a block needs besides its own weights.
struct LayerContext {
  const ModelConfig& config;
  const Backend& backend;
  int64_t index;  // of the layer
};

struct Linear {
  LinearSpec spec;
  Weight weight;
  std::vector<float> bias;  // empty: none

  Linear(LinearSpec linear, const TensorSource& source);
  const float* bias_data() const { return bias.empty() ? nullptr : bias.data(); }
  // y [tokens, out] = x [tokens, in] W^T + bias, or y += that.
  void apply(const Backend& backend, const float* x, int64_t tokens, float* y,
             bool add = false) const;
};

// Several that read one input, each with its output.
void apply_linears(const Backend& backend,
                   std::initializer_list<std::pair<const Linear*, float*>> linears, const float* x,
                   int64_t tokens);

struct Norm {
  NormSpec spec;
  std::vector<float> gain;  // the spec's offset included
  std::vector<float> bias;  // if centred

  // Without a module: no norm.
  Norm(NormSpec norm, int64_t size, const TensorSource& source);
  // Goes on with other values, the gain as a checkpoint stores it. Throws `failed` for another
  // size.
  void set(std::vector<float> stored_gain, std::vector<float> stored_bias);
  // y [rows, size] = norm(x); in place if y is x.
  void apply(const LayerContext& layer, const float* x, int64_t rows, float* y) const;
  bool empty() const { return spec.empty(); }
};

// The weight of a module: its quantized form if the source has one, else the tensor
// "<module>.weight", of exactly this size. Throws not_found or failed.
Weight find_weight(const TensorSource& source, const std::string& module, int64_t out, int64_t in,
                   Orientation orientation);
// The tensor of that name with exactly this shape, as f32. Throws not_found, failed, or `failed` on
// NaN or Inf.
std::vector<float> find_vector(const TensorSource& source, const std::string& name, int64_t size);

}  // namespace qwb
