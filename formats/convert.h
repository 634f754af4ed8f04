// From any model that can be opened to any format, module by module: where source and target share
// a grid, codes and scales move as they are; where they do not, nothing is written unless the
// caller allows it.
#pragma once

#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/model_format.h"
#include "formats/model_modules.h"
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

struct ConvertOptions : WriterOptions {
  bool round_scales = false;  // scales may lose bits when the target has a narrower type
  // Given the target's only type of scales, if there is one; empty: what does not fit is refused.
  std::function<Requantizer(std::optional<DType> scales)> requantizer;
  std::string revision;  // the commit of the source, for qwb.json; empty: not known
};

class Conversion {
 public:
  // Plans. Reads scales and zero points, no codes. Throws unsupported, listing the first modules
  // with their reasons, if something cannot be held exactly and the options do not allow what it
  // takes; usage if the request makes no sense.
  Conversion(OpenModel source, const ModelFormat& target, ConvertOptions options,
             Context context = {});

  const OpenModel& source() const { return source_; }
  const std::string& target() const { return target_; }  // the format's name
  const std::vector<ConvertedModule>& modules() const { return modules_; }
  bool exact() const;  // every module is
  int64_t tensor_bytes() const { return bytes_; }

  // Writes what appears complete or not at all. Once. Peak memory: the tensors of one module in
  // both forms, and in the new form those of the one before, which are being written. Throws usage
  // if something is there (unless options.replace).
  // `before_placing` may still throw, and nothing appears.
  void write(const Path& place, const std::function<void()>& before_placing = {});

 private:
  void find_modules();
  void add_module(const std::string& name, WeightLayout layout);
  void decide();
  void decide(ConvertedModule& module, std::vector<std::string>& refusals);
  std::vector<TargetModule> kept() const;
  Fit fit(TargetModule& module) const;
  LoadedWeight load(const TargetModule& module) const;
  struct Outgoing;
  void requantize(ConvertedModule& module, Outgoing& outgoing) const;
  void narrow(ConvertedModule& module, Outgoing& outgoing) const;
  std::future<void> put_module(ConvertedModule& module, ModelWriter& writer) const;
  Provenance provenance() const;

  OpenModel source_;
  std::string target_;
  ConvertOptions options_;
  Context context_;
  DType model_dtype_ = DType::bf16;
  std::unique_ptr<ModelWriter> writer_;
  std::optional<Requantizer> requantizer_;
  std::map<std::string, ModelModule> known_;  // of the architecture
  std::vector<ConvertedModule> modules_;
  std::vector<std::string> copied_;  // tensors that belong to no module
  int64_t bytes_ = 0;
};

}  // namespace qwb
