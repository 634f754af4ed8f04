// A folder in a packed format as a model that every tool reads.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/packed_format.h"

namespace qwb {

class PackedSource : public ModelSource {
 public:
  // Checks that the tensors of all modules fit together; rearranges nothing yet. `settings` is what
  // config.json (or an older file beside it) says. Throws what the format's modules() throws,
  // `failed` if there are none.
  // The threads: what modules are rearranged on.
  PackedSource(std::shared_ptr<const Checkpoint> files, const PackedFormat& format, Json settings,
               const Context& context = {});

  // Tensors that are not part of a module's quantized form.
  std::optional<TensorView> find(const std::string& name) const override;
  std::vector<std::string> names() const override;
  // Rearranged when first asked for, and kept. Thread-safe.
  std::optional<Weight> quantized(const std::string& module) const override;
  std::vector<std::string> quantized_modules() const override;
  LoadedWeight load_quantized(const std::string& module) const override;
  // Its codes as words of eight inputs (PackedFormat::read_words); false if they cannot be had so.
  bool has_words(const std::string& module) const;
  LoadedWeight load_words(const std::string& module) const;
  WeightLayout quantized_layout(const std::string& module) const override;
  // Views into memory of this object are left alone.
  void release(const TensorView& view) const override;
  void prefetch(const TensorView& view) const override;

  int64_t weight_bytes() const override { return files_->weight_bytes(); }
  std::vector<std::string> notes() const override;
  std::string content_hash(const Path& memo_folder = {},
                           const Context& context = {}) const override;

  const PackedFormat& format() const { return format_; }
  const Json& settings() const { return settings_; }
  // As much of a qwb.json as can be told: method, settings, bits, modules, totals.
  Json manifest() const;

 private:
  const PackedModule& module_of(const std::string& name) const;
  void release_rearranged(const PackedModule& module, const Weight& weight) const;
  bool in_files(const TensorView& view) const;

  std::shared_ptr<const Checkpoint> files_;
  const PackedFormat& format_;
  Json settings_;
  Threads threads_;
  std::vector<PackedModule> modules_;
  std::map<std::string, size_t> index_;
  std::set<std::string> hidden_;  // tensors of the modules
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::unique_ptr<LoadedWeight>> loaded_;
};

}  // namespace qwb
