// Where tensors come from, by name: a checkpoint, an artifact, a test's map.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/codec/weight.h"
#include "lib/tensor/tensor.h"

namespace qwb {

// The end of the name of a module's weight while it is a plain tensor.
inline constexpr std::string_view kWeightSuffix = ".weight";

// A weight whose parts lie in the source or, where they had to be rearranged, in `owned`.
struct LoadedWeight {
  Weight weight;
  std::vector<Tensor> owned;
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // The tensor of that exact name, or nothing. The view lives as long as the source.
  virtual std::optional<TensorView> find(const std::string& name) const = 0;
  // Type and shape of that tensor without its bytes, which find() may have to rearrange first.
  virtual std::optional<PartSpec> describe(const std::string& name) const;
  // All names, in a fixed order.
  virtual std::vector<std::string> names() const = 0;
  // The stored form of a module (a linear layer by its checkpoint name, without ".weight") if it is
  // quantized, checked; nothing if its weight is a plain tensor "<module>.weight" or absent.
  virtual std::optional<Weight> quantized(const std::string& /*module*/) const {
    return std::nullopt;
  }
  // The same without what had to be rearranged being kept by the source. Throws not_found.
  virtual LoadedWeight load_quantized(const std::string& module) const;
  // What load_quantized() will give, known without reading codes. Throws not_found.
  virtual WeightLayout quantized_layout(const std::string& module) const;
  // The names of all modules for which quantized() gives something, in a fixed order.
  virtual std::vector<std::string> quantized_modules() const { return {}; }
  // The bytes of this tensor are not needed for a while: a mapped file may drop its pages from
  // memory.
  virtual void release(const TensorView& /*view*/) const {}
  // The bytes are needed soon.
  virtual void prefetch(const TensorView& /*view*/) const {}
};

}  // namespace qwb
