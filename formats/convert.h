// From any model that can be opened to any packed format, module by module: where source and target
// share a grid, codes and scales move as they are; where they do not, nothing is written unless the
// caller allows it.
#pragma once

#include <functional>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "formats/packed_format.h"
#include "formats/registry.h"
#include "lib/base/context.h"

namespace qwb {

// Quantizes anew what the target cannot hold. Given by the caller: formats know no method.
struct Requantizer {
  std::string method;
  Json settings;
  // How the result is stored, before the work.
  std::function<WeightLayout(const std::string& module, int64_t out, int64_t in, DType dtype)>
      layout;
  // values: f32 [out, in].
  std::function<QuantizedTensor(const std::string& module, int64_t out, int64_t in,
                                const float* values, const Context& context)>
      quantize;
};

struct ConvertOptions {
  std::optional<DType>
      dtype;  // of the unquantized tensors; nothing: as they are (dequantized: the model's)
  bool round_scales = false;  // scales may lose bits when the target has a narrower type
  std::optional<Requantizer> requantizer;
  int64_t max_shard_bytes = 5'000'000'000;
  bool replace = false;  // what is at the target folder
  std::string revision;  // the commit of the source, for qwb.json; empty: not known
};

struct ConvertedModule {
  enum class How {
    exact,        // codes and scales are those of the source
    rounded,      // codes are, scales lost bits
    requantized,  // new codes
    plain,        // floats
  };
  TargetModule target;
  How how = How::exact;
  std::string reason;  // why not exact
  int64_t source_bytes = 0;
  double error = 0;  // |W - W'|^2 / |W|^2 against the source; known after the work
};
std::string how_name(ConvertedModule::How how);

class Conversion {
 public:
  // Reads scales and zero points, no codes. Throws unsupported, listing the first modules with
  // their reasons, if something cannot be held exactly and the options do not allow what it takes;
  // usage if the request makes no sense.
  Conversion(OpenModel source, const PackedFormat& target, ConvertOptions options,
             Context context = {});

  const OpenModel& source() const { return source_; }
  const PackedFormat& target() const { return target_; }
  const std::vector<ConvertedModule>& modules() const { return modules_; }
  bool exact() const;  // every module is
  int64_t tensor_bytes() const;

  // Writes the folder, which appears complete or not at all. Peak memory: the tensors of one module
  // in both forms, and in the new form those of the one before, which are being written. Throws
  // usage if it exists (unless options.replace).
  void write(const Path& folder);

 private:
  void find_modules();
  void decide();
  void decide(ConvertedModule& module, std::vector<std::string>& refusals);
  bool decide_scales(ConvertedModule& module, std::string& reason);
  void lay_out();
  DType stored_type(const TensorView& view) const;
  bool blocks_stay() const;
  WeightLayout layout_of_module(const std::string& module) const;
  LoadedWeight load(const ConvertedModule& module) const;
  struct Outgoing;
  std::future<void> write_module(ConvertedModule& module, class ShardedWriter& writer);
  void write_plain(const std::string& name, class ShardedWriter& writer) const;
  Json config() const;
  ConversionRecord record() const;

  OpenModel source_;
  const PackedFormat& target_;
  ConvertOptions options_;
  Context context_;
  DType model_dtype_ = DType::bf16;
  std::vector<ConvertedModule> modules_;
  std::vector<TargetModule> kept_;   // linear modules that stay unquantized
  std::vector<std::string> copied_;  // tensors that belong to no module
  std::vector<PartSpec> layout_;     // in the order of names
  Json settings_;                    // the target's quantization_config
};

}  // namespace qwb
