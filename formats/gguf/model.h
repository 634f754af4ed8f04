// A GGUF file as a Hugging Face model: names, shapes, settings and tokenizer as a checkpoint folder
// would have them, the weights as they lie in the file.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "formats/gguf/architecture.h"
#include "formats/gguf/file.h"
#include "formats/hf/checkpoint.h"
#include "lib/base/json.h"

namespace qwb {

// Quantized tensors are modules (quantized()) that look into the mapped file. So do plain ones
// (find()), but for those whose Hugging Face form has another order: Llama's q and k and GPT-2's
// transposed matrices are copied when they are first asked for, and kept.
class GgufModel : public ModelSource {
 public:
  // `path`: a file, one of its splits, or a folder that holds them. Throws not_found, unsupported
  // (an architecture, an element type or a tensor without a counterpart) or `failed`.
  // The threads: what tensors are rearranged on.
  static std::shared_ptr<const GgufModel> open(const Path& path, Threads threads = {});

  std::optional<TensorView> find(const std::string& name) const override;
  std::optional<PartSpec> describe(const std::string& name) const override;
  std::vector<std::string> names() const override;
  std::optional<Weight> quantized(const std::string& module) const override;
  std::vector<std::string> quantized_modules() const override;
  void release(const TensorView& view) const override;
  void prefetch(const TensorView& view) const override;
  int64_t weight_bytes() const override { return file_.file_bytes(); }
  std::vector<StoredTensor> stored_tensors() const override;
  std::string content_hash(const Path& memo_folder = {},
                           const Context& context = {}) const override;
  // tokenizer.json, tokenizer_config.json and generation_config.json, made when first asked for.
  const std::map<std::string, std::string>* companions() const override;

  const Json& config() const { return config_; }

 private:
  struct Entry {
    const GgufTensor* tensor = nullptr;
    GgufLayout layout = GgufLayout::plain;
  };
  void add(const GgufSpec& spec, const GgufTensor& tensor, const std::string& where);
  int64_t head_rows(const Entry& entry) const;
  TensorView plain_view(const Entry& entry) const;
  const Tensor& rearranged(const std::string& name, const Entry& entry) const;
  bool mapped(const TensorView& view) const;

  GgufFile file_;
  Threads threads_;
  Json config_;
  int64_t head_dim_ = 0;
  std::vector<SourceFile> source_files_;
  std::map<std::string, Entry> plain_;    // by tensor name
  std::map<std::string, Entry> modules_;  // quantized, by module name
  mutable std::mutex mutex_;
  mutable std::map<std::string, Tensor> copies_;
  mutable std::optional<std::map<std::string, std::string>> companions_;
};

}  // namespace qwb
