// From a base and its adapters to a merged model, or to one new adapter: what is merged into what,
// what that keeps, the work, and how far the result is from the base with the adapters beside it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/open_model.h"
#include "lib/adapt/combine.h"
#include "lib/adapt/merge_report.h"
#include "lib/adapt/use.h"
#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/evaluate/divergence.h"
#include "lib/tensor/dtype.h"

namespace qwb {

struct QuantizeRequest;

struct MergeRequest {
  Path model = {};  // that the adapters were trained beside
  std::vector<AdapterUse> adapters = {};
  // What they are merged into: "source", the unquantized model that `model` was made from (or it
  // itself); "dequantized", its own values; or another model's folder.
  std::string onto = "source";
  std::optional<DType> dtype = {};  // of what is written; nothing: as it is
  int64_t max_shard_bytes = 0;      // 0: 5 GB
  bool replace = false;
};

class MergeJob {
 public:
  // Opens everything and reads the adapters. Throws what open_model and read_adapter throw;
  // not_found where the source of a quantized model is not known, verification where it has changed
  // since.
  MergeJob(MergeRequest request, const Context& context);

  const OpenModel& base() const { return base_; }  // request.model
  const OpenModel& onto() const { return onto_; }
  const std::vector<WeightedAdapter>& adapters() const { return adapters_; }
  // All modules of the base that adapters can be of.
  std::vector<AdaptableModule> base_modules() const;

  // Of values as they are stored, or for then() as they are handed on (f32).
  std::vector<ModuleMerge> measure(bool handed_on, const Context& context) const;
  int64_t tensor_bytes(const Context& context) const;
  // Writes the merged model, a folder of Hugging Face layout, which appears complete or not at all.
  void write(const Path& place, const Context& context) const;
  // The merged model for a quantizer (QuantizeJob), which reads it module by module in f32.
  OpenModel handed_on() const;
  Json made_of() const;  // QuantizeRequest::made_of

  // From the base with the adapters beside it, to the model in this folder: over the first
  // `windows` windows of the demo text.
  DivergenceMeasurement divergence(const Path& made, int64_t windows, const Context& context) const;

 private:
  OpenModel merged(MergedSource::Form form) const;
  DType stored_type() const;

  MergeRequest request_;
  OpenModel base_, onto_;
  bool same_ = false;  // merged into the base's own values
  std::vector<WeightedAdapter> adapters_;
};

Json merge_json(const std::vector<ModuleMerge>& modules);

}  // namespace qwb
