// A linear layer and a norm of a block with their values, and how they are found in a checkpoint.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/codec/source.h"
#include "lib/exec/executor.h"
#include "lib/model/architecture.h"
#include "lib/model/config.h"
#include "lib/model/low_rank.h"

namespace qwb {

// What every part of a block needs besides its own weights.
struct LayerContext {
  const ModelConfig& config;
  const Executor& executor;
  int64_t index;  // of the layer
};

// A vector in an executor's memory. Cheap to copy.
class DeviceVector {
 public:
  DeviceVector() = default;
  DeviceVector(const Executor& executor, const std::vector<float>& values);
  bool empty() const { return values_ == nullptr; }
  int64_t size() const { return empty() ? 0 : values_->columns(); }
  In view() const { return empty() ? In() : In(*values_); }  // [1, size]

 private:
  std::shared_ptr<const Matrix> values_;
};

struct Linear {
  LinearSpec spec;
  Prepared weight;
  DeviceVector bias;   // empty: none
  LowRanks additions;  // adapters

  Linear(LinearSpec linear, const TensorSource& source, const Executor& executor);
  // Without the additions.
  Affine affine() const { return {weight, bias.view()}; }
  // y [rows, out] = what the module makes of x [rows, in], or y += that.
  void apply(const Executor& executor, const Rows& x, Out y,
             Accumulate accumulate = Accumulate::no) const;
  // Throws `failed` for another shape.
  void attach(std::shared_ptr<const LowRank> addition);
};
// Several modules that read one input.
struct LinearOutput {
  const Linear& module;
  Out y;
};
void apply(const Executor& executor, const Rows& x, std::span<const LinearOutput> outputs);

struct Norm {
  NormSpec spec;
  DeviceVector gain;  // the spec's offset included
  DeviceVector bias;  // if centred; zeros if it has none

  // Without a module: no norm.
  Norm(NormSpec norm, int64_t size, const TensorSource& source, const Executor& executor);
  // Goes on with other values, the gain as a checkpoint stores it. Throws `failed` for another
  // size.
  void set(const Executor& executor, std::vector<float> stored_gain,
           const std::vector<float>& stored_bias);
  // y [rows, size] = norm(x); in place if y is x.
  void apply(const LayerContext& layer, In x, Out y) const;
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
