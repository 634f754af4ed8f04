#include "lib/jobs/requantize.h"

#include "lib/base/error.h"
#include "lib/quantize/kept_values.h"

namespace qwb {
namespace {

ModuleInfo f32_module(const std::string& name, int64_t out, int64_t in) {
  return {name, out, in, Orientation::out_in, DType::f32, false};
}

std::map<std::string, double> form_parameters(const Method& method, const Settings& settings,
                                              const Storage& storage, int64_t in) {
  const std::string where = "method " + method.name();
  if (storage.codec == "integer-grid") {
    const int64_t group = json_int(settings, "group_size", where);
    return {{"bits", method.bits(settings)},
            {"group_size", static_cast<double>(group == -1 ? in : group)}};
  }
  if (storage.codec != "float-blocks") return {};
  std::map<std::string, double> parameters = {
      {"table", method.name() == "nf4" ? 0 : 1},
      {"block_size", static_cast<double>(json_int(settings, "block_size", where))}};
  if (json_bool(settings, "double_quantization", where)) parameters["nested_block"] = 256;
  return parameters;
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
  result.form = [&method, settings](const std::string& name, int64_t out, int64_t in,
                                    DType /*dtype*/) {
    return planned_form(method, settings, f32_module(name, out, in));
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

WeightForm planned_form(const Method& method, const Settings& settings, const ModuleInfo& module) {
  const Storage storage = method.storage(module, settings);
  return {module.out,
          module.in,
          storage.orientation,
          storage.codec,
          form_parameters(method, settings, storage, module.in),
          storage.parts};
}

void check_plan_fits(const Plan& plan, const PackedFormat& target) {
  const auto type = target.scale_dtype();
  for (const PlannedModule& planned : plan.modules) {
    TargetModule module;
    module.name = planned.info.name;
    module.form = planned_form(*planned.method, planned.settings, planned.info);
    if (planned.role == PlannedModule::Role::lookup) module.role = TargetModule::Role::embedding;
    if (planned.role == PlannedModule::Role::output)
      module.role = TargetModule::Role::output_embedding;
    auto reason = target.mismatch(module);
    if (!reason && type == DType::f16 && module.form.codec == "integer-grid" &&
        module.form.part("scales").dtype == DType::f32)
      reason = "would get f32 scales; add --scale-dtype f16";
    if (!reason) continue;
    throw Error(ErrorKind::unsupported,
                target.name() + " cannot hold this: " + module.name + " " + *reason, "--format",
                "choose another method, other settings or another format");
  }
}

}  // namespace qwb
