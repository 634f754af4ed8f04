// A base with adapters merged into it, as a model source that reads like any other: values are made
// when they are asked for, in f32, whatever the base's codec. Nothing is held but the factors.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/open_model.h"
#include "lib/adapt/adapter.h"
#include "lib/codec/weight.h"

namespace qwb {

struct ModelConfig;
struct ModelSpec;

// An adapter and what its additions are multiplied with.
struct WeightedAdapter {
  Adapter adapter;
  double weight = 1;
};

class MergedSource : public ModelSource {
 public:
  enum class Form {
    // Modules that were merged or are quantized in the base are quantized() modules, for writers
    // that go through them one after the other.
    modules,
    // They are f32 tensors, for whoever quantizes. A tensor is made by find() and held until all
    // of its bytes were released.
    tensors,
  };
  // `spec`: of the base. Throws failed for a module that the base does not have; unsupported for
  // what has no place of its own (the output embedding of a tied model).
  MergedSource(OpenModel base, const std::vector<WeightedAdapter>& adapters, const ModelSpec& spec,
               Form form);

  std::optional<TensorView> find(const std::string& name) const override;
  std::optional<PartSpec> describe(const std::string& name) const override;
  std::vector<std::string> names() const override;
  std::optional<Weight> quantized(const std::string& module) const override;
  LoadedWeight load_quantized(const std::string& module) const override;
  WeightLayout quantized_layout(const std::string& module) const override;
  std::vector<std::string> quantized_modules() const override;
  void release(const TensorView& view) const override;
  void prefetch(const TensorView& view) const override { base_.source->prefetch(view); }
  int64_t weight_bytes() const override { return base_.weight_bytes; }
  std::string content_hash(const Path& memo_folder = {},
                           const Context& context = {}) const override;
  std::vector<StoredTensor> stored_tensors() const override { return {}; }
  const std::map<std::string, std::string>* companions() const override {
    return base_.source->companions();
  }

  // By name: those that an adapter adds to.
  std::vector<std::string> merged_modules() const;
  // The base's weight, and what is added to it (a merged weight).
  Weight base_weight(const std::string& module) const;
  Weight merged_weight(const std::string& module) const;

 private:
  struct Addition {
    Tensor left, right;  // as MergedWeight has them
    WeightShape shape;
  };
  struct Made {
    Tensor values;
    int64_t released = 0;
  };
  void add(const std::vector<WeightedAdapter>& adapters, const ModelSpec& spec);
  void replace(const Adapter& adapter, const ModelSpec& spec);
  std::optional<std::string> tensor_module(const std::string& name) const;
  Orientation plain_orientation(const std::string& module) const;
  const Tensor& made(const std::string& module) const;

  OpenModel base_;
  Form form_;
  std::map<std::string, std::shared_ptr<const Addition>> additions_;  // by module
  std::map<std::string, std::shared_ptr<const Tensor>> replaced_;     // by tensor
  std::map<std::string, Orientation> orientations_;     // of linear modules, as plain tensors
  std::vector<std::pair<std::string, double>> merged_;  // hashes of adapters, and their weights
  mutable std::mutex mutex_;
  mutable std::map<std::string, Made> made_;  // by module, of Form::tensors
};

// The merged model, open: the base's settings and companions, without its quantization. Throws what
// MergedSource throws.
OpenModel merged_model(const OpenModel& base, const std::vector<WeightedAdapter>& adapters,
                       MergedSource::Form form);

}  // namespace qwb
