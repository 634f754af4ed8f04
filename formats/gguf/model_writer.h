// Any open model as one GGUF file with metadata, tokenizer and chat template.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/gguf/architecture.h"
#include "formats/gguf/file.h"
#include "formats/model_writer.h"
#include "lib/base/pending_file.h"
#include "lib/model/config.h"

namespace qwb {

// As llama-quantize --pure: vectors, norms and positions are F32; rows that are not whole blocks
// get the type that llama.cpp falls back to (Q2_K and Q3_K Q4_0, Q4_K Q5_0, Q5_K Q5_1, Q6_K Q8_0,
// all else F16), which the plan and `context` tell. Streams: memory is one tensor of GPT-2, which
// is transposed, else some rows. Throws unsupported (what GGUF cannot hold), `failed` (NaN, Inf or
// a scale beyond f16, naming the tensor).
class GgufModelWriter : public ModelWriter {
 public:
  GgufModelWriter(OpenModel source, WriterOptions options, Context context);

  Matrices matrices() const override { return Matrices::typed; }
  bool takes(const std::string& tensor) const override;
  // The exact type of a weight whose scales f16 may not hold is known only after reading them.
  Fit fit(const TargetModule& module, const WeightReader& read) const override;
  std::optional<DType> scale_dtype() const override { return DType::f16; }
  int64_t lay_out(const std::vector<ConvertedModule>& modules,
                  const std::vector<TargetModule>& kept,
                  const std::vector<std::string>& tensors) override;
  // The file appears complete or not at all.
  void begin(const Path& place) override;
  Stored put(const ConvertedModule& module, const Weight& weight, bool words) override;
  void put_tensor(const std::string& name) override;
  bool finish(const Provenance& provenance) override;

 private:
  struct Item {
    std::string name = {};    // in GGUF
    std::string source = {};  // the Hugging Face name; empty: the values are made_
    GgmlType type = GgmlType::f32;
    Shape shape = {};  // in GGUF
    int64_t head_rows = 0;
    bool exact = true;  // of the weight that is put
    int64_t bytes() const;
  };
  GgufName place_of(const std::string& name) const;
  int64_t head_rows_of(const GgufName& place) const;
  std::optional<GgmlType> wanted_type(const std::string& tensor, bool dense) const;
  void add_matrix(const ConvertedModule& module);
  void add_vector(const std::string& name);
  GgmlType main_type() const;
  GgufMetadata metadata() const;

  // store.cpp
  using RowMaker = std::function<void(int64_t stored_row, std::byte* bytes)>;
  void write_rows(size_t index, const RowMaker& row) const;
  double write_values(size_t index, const Weight& weight) const;

  OpenModel source_;
  WriterOptions options_;
  Context context_;
  std::string where_;
  const GgufSpec& spec_;
  ModelConfig config_;
  std::vector<float> made_;  // the divisors of rotary frequencies, where the model has such
  std::vector<Item> items_;  // in the order of the file
  std::map<std::string, size_t> index_;  // by `source`
  std::optional<PendingFile> file_;      // outlives its writer
  std::unique_ptr<GgufWriter> writer_;
};

}  // namespace qwb
