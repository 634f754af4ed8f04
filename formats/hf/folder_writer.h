// A model as a folder of Hugging Face layout: safetensors (sharded when large), config.json, the
// companion files and a list of what was written. How modules are packed, a PackedWriter says.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/hf/packed_format.h"
#include "formats/safetensors/sharded_writer.h"

namespace qwb {

class FolderWriter : public ModelWriter {
 public:
  FolderWriter(OpenModel source, std::shared_ptr<const PackedWriter> packing, WriterOptions options,
               Context context);

  Matrices matrices() const override { return packing_->matrices(); }
  Fit fit(const TargetModule& module, const WeightReader& read) const override {
    return packing_->fit(module, read);
  }
  std::optional<DType> scale_dtype() const override { return packing_->scale_dtype(); }
  bool takes_words() const override { return packing_->moves_words(); }
  int64_t lay_out(const std::vector<ConvertedModule>& modules,
                  const std::vector<TargetModule>& kept,
                  const std::vector<std::string>& tensors) override;
  // The folder appears complete or not at all.
  void begin(const Path& place) override;
  Stored put(const ConvertedModule& module, const Weight& weight, bool words) override;
  void put_tensor(const std::string& name) override;
  // In place of put_tensor(): other values of the type and shape that were laid out.
  void put_values(const std::string& name, const TensorView& values);
  bool finish(const Provenance& provenance) override;

 private:
  DType stored_type(DType type) const;
  Json config(const Provenance& provenance) const;

  OpenModel source_;
  std::shared_ptr<const PackedWriter> packing_;
  WriterOptions options_;
  Context context_;
  DType model_dtype_;
  std::vector<TargetModule> packed_;     // those that were put with every parameter
  std::map<std::string, size_t> index_;  // of packed_, by name
  std::vector<PartSpec> layout_;         // in the order of names
  Json settings_;                        // config.json's quantization_config
  int64_t weights_ = 0, bytes_ = 0;      // of all tensors
  std::optional<PendingFolder> folder_;
  std::unique_ptr<ShardedWriter> tensors_;
};

}  // namespace qwb
