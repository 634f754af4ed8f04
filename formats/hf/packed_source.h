// A folder in a packed format as a model that every tool reads.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/hf/packed_format.h"

namespace qwb {

// What config.json says about the weights' format, or the file that older GPTQ checkpoints have
// beside it; null: nothing. Throws unsupported for settings that contradict each other.
Json announced_settings(const Path& folder, const Json& config);

// The folder as a model, its settings announced. Throws what PackedSource throws.
OpenModel open_packed(const std::shared_ptr<const Checkpoint>& files,
                      std::shared_ptr<const PackedReader> reader, const Context& context);

class PackedSource : public ModelSource {
 public:
  // Checks that the tensors of all modules fit together; rearranges nothing yet. `settings` is what
  // config.json (or an older file beside it) says. Throws what the reader's modules() throws,
  // `failed` if there are none.
  // The threads: what modules are rearranged on.
  PackedSource(std::shared_ptr<const Checkpoint> files, std::shared_ptr<const PackedReader> reader,
               Json settings, const Context& context = {});

  // Tensors that are not part of a module's quantized form.
  std::optional<TensorView> find(const std::string& name) const override;
  std::vector<std::string> names() const override;
  // Rearranged when first asked for, and kept. Thread-safe.
  std::optional<Weight> quantized(const std::string& module) const override;
  std::vector<std::string> quantized_modules() const override;
  LoadedWeight load_quantized(const std::string& module) const override;
  std::optional<LoadedWeight> load_words(const std::string& module) const override;
  WeightLayout quantized_layout(const std::string& module) const override;
  // Views into memory of this object are left alone.
  void release(const TensorView& view) const override;
  void prefetch(const TensorView& view) const override;

  int64_t weight_bytes() const override { return files_->weight_bytes(); }
  std::vector<StoredTensor> stored_tensors() const override { return files_->stored_tensors(); }
  std::vector<std::string> notes() const override;
  std::optional<bool> announces(const std::string& module) const override {
    return reader_->quantizes(settings_, module);
  }
  std::string content_hash(const Path& memo_folder = {},
                           const Context& context = {}) const override;

  // As much of a qwb.json as can be told: method, settings, bits, modules, totals.
  Json manifest() const;

 private:
  const PackedModule& module_of(const std::string& name) const;
  void release_rearranged(const PackedModule& module, const Weight& weight) const;
  bool in_files(const TensorView& view) const;

  std::shared_ptr<const Checkpoint> files_;
  std::shared_ptr<const PackedReader> reader_;
  Json settings_;
  Threads threads_;
  std::vector<PackedModule> modules_;
  std::map<std::string, size_t> index_;
  std::set<std::string> hidden_;  // tensors of the modules
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::unique_ptr<LoadedWeight>> loaded_;
};

}  // namespace qwb
