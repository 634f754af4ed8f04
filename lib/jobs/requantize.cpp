#include "lib/jobs/requantize.h"

#include "lib/base/error.h"
#include "lib/codec/integer_grid.h"
#include "lib/quantize/kept_values.h"

namespace qwb {
namespace {

ModuleInfo f32_module(const std::string& name, int64_t out, int64_t in) {
  return {name, out, in, Orientation::out_in, DType::f32, false};
}

}  // namespace

Requantizer make_requantizer(const Method& method, Settings settings, const PackedFormat& target) {
  if (method.needs_calibration()) {
    throw Error(ErrorKind::usage, "method " + method.name() + " needs calibration", "--requantize",
                "start from the original model: qwb-quantize --method " + method.name() +
                    " --format " + target.name());
  }
  const auto type = target.scale_dtype();
  if (type == DType::f16 && settings.contains("scale_dtype") &&
      settings.at("scale_dtype") == "auto")
    settings["scale_dtype"] = "f16";
  Requantizer result;
  result.method = method.name();
  result.settings = settings;
  result.layout = [&method, settings](const std::string& name, int64_t out, int64_t in,
                                      DType /*dtype*/) {
    return method.layout(f32_module(name, out, in), settings);
  };
  result.quantize = [&method, settings](const std::string& name, int64_t out, int64_t in,
                                        const float* values, const Context& context) {
    ModuleTask task;
    task.context = context;
    task.info = f32_module(name, out, in);
    const auto size = static_cast<size_t>(out) * static_cast<size_t>(in) * sizeof(float);
    task.weight = {DType::f32, {out, in}, {reinterpret_cast<const std::byte*>(values), size}};
    return quantize_module(method, task, settings).tensor;
  };
  return result;
}

void check_plan_fits(const Plan& plan, const PackedFormat& target) {
  const auto type = target.scale_dtype();
  for (const PlannedModule& planned : plan.modules) {
    TargetModule module;
    module.name = planned.info.name;
    module.layout = planned.layout;
    if (planned.role == PlannedModule::Role::lookup) module.role = TargetModule::Role::embedding;
    if (planned.role == PlannedModule::Role::output)
      module.role = TargetModule::Role::output_embedding;
    auto reason = target.mismatch(module);
    const auto* grid = module.layout.as<IntegerGrid>();
    if (!reason && type == DType::f16 && grid != nullptr && grid->scales.dtype == DType::f32)
      reason = "would get f32 scales; add --scale-dtype f16";
    if (!reason) continue;
    throw Error(ErrorKind::unsupported,
                target.name() + " cannot hold this: " + module.name + " " + *reason, "--format",
                "choose another method, other settings or another format");
  }
}

}  // namespace qwb
