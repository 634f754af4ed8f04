#include "lib/jobs/requantize.h"

#include "lib/base/error.h"
#include "lib/quantize/encode/kept_values.h"

namespace qwb {
namespace {

ModuleInfo f32_module(const std::string& name, int64_t out, int64_t in) {
  return {name, out, in, Orientation::out_in, DType::f32, false};
}

}  // namespace

void require_no_calibration(const Method& method) {
  if (!method.needs_calibration()) return;
  throw Error(ErrorKind::usage, "method " + method.name() + " needs calibration", "quantizing anew",
              "quantize the original model by it, straight into the format");
}

Requantizer make_requantizer(const Method& method, Settings settings, std::optional<DType> scales) {
  require_no_calibration(method);
  if (scales == DType::f16 && settings.contains("scale_dtype") &&
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

void check_plan_fits(const Plan& plan, const OpenModel& model, const ModelFormat& format) {
  const std::unique_ptr<ModelWriter> writer = format.writer(model, {}, Context());
  for (const PlannedModule& planned : plan.modules) {
    TargetModule module{.name = planned.info.name, .layout = planned.layout};
    if (planned.role == PlannedModule::Role::lookup) module.role = TargetModule::Role::embedding;
    if (planned.role == PlannedModule::Role::output)
      module.role = TargetModule::Role::output_embedding;
    module.plain = planned.info.orientation;
    const Fit fit = writer->fit(module, {});
    if (fit.possible && fit.how != How::rounded) continue;
    throw Error(ErrorKind::unsupported,
                format.name + " cannot hold this: " + module.name + " " + fit.reason, {},
                fit.possible ? "choose the setting scale_dtype f16, or another format"
                             : "choose another method, other settings or another format");
  }
}

}  // namespace qwb
