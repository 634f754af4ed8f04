#include "formats/model_modules.h"

#include "lib/model/architecture.h"

namespace qwb {
namespace {

void add_linear(const LinearSpec& linear, std::map<std::string, ModelModule>& modules) {
  modules[linear.module] = {TargetModule::Role::linear, linear.orientation};
}

}  // namespace

std::map<std::string, ModelModule> model_modules(const OpenModel& model) {
  const std::string where = (model.folder / "config.json").string();
  std::map<std::string, ModelModule> modules;
  try {
    const Architecture& architecture =
        find_architecture(json_string(model.config, "model_type", where), where);
    const ModelSpec spec =
        architecture.spec(architecture.parse(model.config, where), *model.source);
    for (const BlockSpec& block : spec.blocks) {
      for (const LinearSpec& linear : block_linears(block)) add_linear(linear, modules);
    }
    modules[spec.output_embedding] = {TargetModule::Role::output_embedding, Orientation::out_in};
    modules[spec.embedding] = {TargetModule::Role::embedding, Orientation::out_in};
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unsupported) throw;
  }
  return modules;
}

DType model_dtype(const OpenModel& model) {
  static const std::map<std::string, DType> names = {
      {"float32", DType::f32}, {"float16", DType::f16}, {"bfloat16", DType::bf16}};
  const std::string where = (model.folder / "config.json").string();
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto it = names.find(json_has(model.config, key) && model.config.at(key).is_string()
                                   ? json_string(model.config, key, where)
                                   : "");
    if (it != names.end()) return it->second;
  }
  std::map<DType, int64_t> counts;
  for (const std::string& name : model.source->names()) {
    const TensorView view = *model.source->find(name);
    if (dtype_is_float(view.dtype) && view.dtype != DType::f64) counts[view.dtype] += view.count();
  }
  DType most = DType::f32;
  for (const auto& [type, count] : counts) {
    if (count > counts[most]) most = type;
  }
  return most;
}

}  // namespace qwb
