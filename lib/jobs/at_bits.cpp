#include "lib/jobs/at_bits.h"

#include <algorithm>

#include "cache/store.h"
#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/codec/dense.h"
#include "lib/jobs/quantize_job.h"
#include "lib/model/linear.h"

namespace qwb {
namespace {

constexpr const char* kStartFromOriginal =
    "--bits starts from the original checkpoint; leave it out to take the model as it is";

// Throws unless all weights of the blocks are floats.
void require_floats(const Model& model, const Path& folder) {
  for (size_t i = 0; i < model.spec().blocks.size(); ++i) {
    for (const LinearSpec& linear : block_linears(model.spec().blocks[i])) {
      const Weight weight =
          find_weight(model.source(), linear.module, linear.out, linear.in, linear.orientation);
      if (weight.as<DenseWeight>() == nullptr)
        throw Error(ErrorKind::usage, "this model is quantized already", folder.string(),
                    kStartFromOriginal);
    }
  }
}

const char* method_of_bits(int bits) {
  switch (bits) {
    case 4:
      return "nf4";
    case 8:
      return "int8";
    case 16:
    case 32:
      return "none";
    default:
      throw Error(ErrorKind::usage, "--bits must be 4, 8, 16 or 32, not " + std::to_string(bits));
  }
}

bool has_wide_weights(const QuantizeJob& job) {
  return std::ranges::any_of(job.plan().modules, [](const PlannedModule& module) {
    return module.info.dtype == DType::f32;
  });
}

}  // namespace

ChosenArtifact model_at_bits(const std::string& name, int bits, const Context& context) {
  QuantizeRequest request;
  request.plan.method = &find_method(method_of_bits(bits));
  request.model = choose_model(name, context);
  if (!open_model(request.model, context).manifest.is_null())
    throw Error(ErrorKind::usage, "this is an artifact already", request.model.string(),
                kStartFromOriginal);
  if (bits == 16) request.plan.given["dtype"] = "bf16";
  const QuantizeJob job(request, context);
  require_floats(job.model(), request.model);
  if (bits == 32 || (bits == 16 && !has_wide_weights(job))) return {request.model, nullptr};
  const Store store(Store::Options{.context = context});
  const CachedArtifact made = job.build(store, {}, context);
  context.progress->note(std::to_string(bits) + " bits: " + request.plan.method->name() + ", " +
                         human_bytes(job.artifact_bytes()) +
                         (made.cached ? ", from the cache" : ", made now and kept in the cache"));
  return {made.folder, made.lease};
}

}  // namespace qwb
