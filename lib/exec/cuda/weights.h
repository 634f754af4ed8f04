// Weights in a GPU's memory, made ready for its products.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "lib/exec/cuda/device.h"
#include "lib/exec/executor.h"

namespace qwb {

struct CudaWeight final : Prepared::Extra {
  using Bytes = std::shared_ptr<const AlignedBuffer>;
  cuda::StoredWeight stored = {};
  cuda::PackedWeight packed = {};  // packing none: its few rows are multiplied value by value
  std::vector<Bytes> parts;        // what the two point to
};

// Copies weights to the GPU. Bytes that several of them refer to (tied embeddings) are copied once
// while one of them lives.
class CudaWeights {
 public:
  explicit CudaWeights(const CudaDevice& device) : device_(device) {}
  std::shared_ptr<const CudaWeight> prepare(const Weight& weight) const;
  // Dense f32 values that lie in the GPU's memory, where they stay and may change.
  std::shared_ptr<const CudaWeight> in_place(const WeightLayout& layout, const float* values) const;
  // Its values as bf16 [out, in], for an in of whole kPartColumns.
  std::shared_ptr<const CudaWeight> rounded(const Weight& weight) const;

 private:
  using Shared = CudaWeight::Bytes;
  struct Maker;
  Shared upload(Bytes bytes) const;
  Shared allocate(int64_t bytes) const;

  const CudaDevice& device_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<const std::byte*, size_t>, std::weak_ptr<const AlignedBuffer>> copies_;
};

}  // namespace qwb
