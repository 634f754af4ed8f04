#include "lib/jobs/describe.h"

#include <algorithm>
#include <vector>

#include "formats/qwb/artifact.h"
#include "lib/base/error.h"
#include "lib/codec/dense.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/jobs/work_report.h"
#include "lib/model/config.h"
#include "lib/model/model.h"
#include "lib/quantize/pipeline.h"

namespace qwb {
namespace {

// Weights and bytes of everything stored, whatever its form.
struct Totals {
  int64_t parameters = 0;
  int64_t bytes = 0;
};

Totals count_totals(const OpenModel& open) {
  Totals totals;
  for (const std::string& name : open.source->names()) {
    const PartSpec tensor = *open.source->describe(name);
    totals.parameters += element_count(tensor.shape, name);
    totals.bytes += part_bytes(tensor);
  }
  for (const std::string& name : open.source->quantized_modules()) {
    const auto weight = open.source->quantized(name);
    totals.parameters += weight->out * weight->in;
    totals.bytes += weight->bytes();
  }
  return totals;
}

Json sizes_of(const ModelConfig& c) {
  return {{"layers", c.layers},
          {"hidden", c.hidden},
          {"intermediate", c.intermediate},
          {"heads", c.heads},
          {"kv_heads", c.kv_heads},
          {"head_dim", c.head_dim},
          {"context", c.max_positions},
          {"vocab", c.vocab},
          {"tied_embeddings", c.tied_embeddings}};
}

// An architecture that cannot be run can still be looked at.
Json sizes_or_null(const OpenModel& open) {
  try {
    return sizes_of(parse_config(open.config, open.config_name()));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unsupported) throw;
    return nullptr;
  }
}

double bits_per_weight(int64_t bytes, int64_t weights) {
  return weights > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(weights) : 0;
}

Json plain_module(const std::string& name, int64_t out, int64_t in, const TensorView& view) {
  return {{"name", name},
          {"codec", "dense"},
          {"dtype", dtype_name(view.dtype)},
          {"out", out},
          {"in", in},
          {"bits", 8 * dtype_size(view.dtype)},
          {"bytes", view.bytes.size()},
          {"bpw", bits_per_weight(static_cast<int64_t>(view.bytes.size()), view.count())},
          {"weight_error", nullptr},
          {"output_error", nullptr}};
}

// The modules that a method would quantize; of an unknown architecture every matrix named
// "*.weight".
Json checkpoint_modules(const OpenModel& open) {
  Json modules = Json::array();
  try {
    const auto model = Model::load(open.source, open.config, open.config_name());
    const Method& none = find_method("none");
    for (const PlannedModule& planned :
         plan_modules(*model, none, resolve_settings(none, Json::object())).modules) {
      const auto view = open.source->find(planned.info.name + ".weight");
      if (view)
        modules.push_back(
            plain_module(planned.info.name, planned.info.out, planned.info.in, *view));
    }
    return modules;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unsupported) throw;
  }
  const std::string suffix = ".weight";
  for (const std::string& name : open.source->names()) {
    const TensorView view = *open.source->find(name);
    if (view.shape.size() != 2 || !name.ends_with(suffix)) continue;
    modules.push_back(plain_module(name.substr(0, name.size() - suffix.size()), view.shape[0],
                                   view.shape[1], view));
  }
  return modules;
}

// Modules quantized by others, and plain matrices beside them.
Json stored_modules(const OpenModel& open) {
  Json modules = Json::array();
  for (const std::string& name : open.source->quantized_modules()) {
    const Weight weight = open.source->quantized(name).value();
    const auto* ggml = weight.as<GgmlBlocks>();
    modules.push_back(
        {{"name", name},
         {"codec", weight.codec()},
         {"dtype", ggml != nullptr ? Json(ggml_info(ggml->type).name) : Json(nullptr)},
         {"out", weight.out},
         {"in", weight.in},
         {"bits", weight.code_bits()},
         {"bytes", weight.bytes()},
         {"bpw", bits_per_weight(weight.bytes(), weight.out * weight.in)},
         {"weight_error", nullptr},
         {"output_error", nullptr}});
  }
  for (const std::string& name : open.source->names()) {
    const TensorView view = *open.source->find(name);
    if (view.shape.size() == 2 && name.ends_with(".weight"))
      modules.push_back(
          plain_module(name.substr(0, name.size() - 7), view.shape[0], view.shape[1], view));
  }
  return modules;
}

Json artifact_modules(const OpenModel& open) {
  Json modules = Json::array();
  for (Json module : module_reports(open.manifest)) {
    const auto view = open.source->find(json_string(module, "name", "qwb.json") + ".weight");
    module["dtype"] = view ? Json(dtype_name(view->dtype)) : Json(nullptr);
    modules.push_back(std::move(module));
  }
  return modules;
}

Json modules_of(const OpenModel& open) {
  if (!open.manifest.is_null()) return artifact_modules(open);
  return open.source->quantized_modules().empty() ? checkpoint_modules(open) : stored_modules(open);
}

Json stored_tensors(const OpenModel& open) {
  Json tensors = Json::array();
  for (const StoredTensor& tensor : open.source->stored_tensors()) {
    tensors.push_back({{"name", tensor.name},
                       {"dtype", tensor.type},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes},
                       {"file", tensor.file}});
  }
  return tensors;
}

// Up to four names that contain the last word of `name`, for the error.
std::string alike(const OpenModel& open, const std::string& name) {
  std::vector<std::string> names = open.source->names();
  for (const std::string& module : open.source->quantized_modules()) names.push_back(module);
  const std::string word = name.substr(name.rfind('.') + 1);
  std::string text;
  int found = 0;
  for (const std::string& candidate : names) {
    if (candidate.find(word) == std::string::npos || ++found > 4) continue;
    text += (text.empty() ? "" : ", ") + candidate;
  }
  return text.empty() ? "--modules and --tensors list the names" : "did you mean " + text;
}

}  // namespace

Json describe_model(const OpenModel& open, const DescribeOptions& options, const Context& context) {
  const Totals totals = count_totals(open);
  Json record = {{"schema", 1}, {"path", open.folder.string()}, {"format", open.format}};
  record["architecture"] = json_string(open.config, "model_type", open.config_name(), "unknown");
  record["sizes"] = sizes_or_null(open);
  record["parameters"] = totals.parameters;
  record["bytes"] = totals.bytes;
  record["file_bytes"] = open.weight_bytes;
  record["bpw"] = bits_per_weight(totals.bytes, totals.parameters);
  record["hash"] =
      options.hash ? Json(open.content_hash(options.memo_folder, context)) : Json(nullptr);
  for (const char* name :
       {"method", "bits", "settings", "source", "calibration", "isa", "qwb_version", "totals"}) {
    if (open.manifest.is_object() && open.manifest.contains(name))
      record[name] = open.manifest.at(name);
  }
  if (open.manifest.is_object()) {
    record["method"] = artifact_method(open.manifest);
    record["kept"] = json_has(open.manifest, "kept") ? open.manifest.at("kept") : Json::array();
    record["methods"] = Json::object();
    for (const Json& module : module_reports(open.manifest)) {
      Json& count = record["methods"][json_string(module, "method", "qwb.json: modules")];
      count = count.is_null() ? 1 : count.get<int>() + 1;
    }
    // What other libraries made, or a conversion, tells neither times nor errors.
    const Json& modules = open.manifest.at("modules");
    const bool told = std::any_of(modules.begin(), modules.end(), [](const Json& module) {
      return json_has(module, "seconds") || json_has(module, "weight_error");
    });
    record["report"] = told ? Json(work_summary(open.manifest)) : Json::array();
  }
  if (options.modules) record["modules"] = modules_of(open);
  if (options.tensors) record["tensors"] = stored_tensors(open);
  return record;
}

Json describe_module(const OpenModel& open, const std::string& name, const Context& context) {
  Json record = {{"name", name}};
  for (const Json& module : modules_of(open)) {
    if (json_string(module, "name", "module") == name) record = module;
  }
  if (const auto weight = open.source->quantized(name)) {
    record["values"] = value_statistics(*weight, context);
    return record;
  }
  auto view = open.source->find(name + ".weight");
  if (!view) view = open.source->find(name);
  if (!view)
    throw Error(ErrorKind::not_found, "no module or tensor '" + name + "'", open.folder.string(),
                alike(open, name));
  if (!dtype_is_float(view->dtype)) {
    throw Error(ErrorKind::unsupported,
                "the tensor holds no floats but " + std::string(dtype_name(view->dtype)), name);
  }
  record["dtype"] = dtype_name(view->dtype);
  record["shape"] = view->shape;
  record["bytes"] = view->bytes.size();
  // Any tensor is a matrix for this: its last dimension gives the rows' length.
  const int64_t columns = view->shape.empty() ? 1 : view->shape.back();
  const int64_t rows = columns > 0 ? view->count() / columns : 0;
  record["values"] = value_statistics({rows, columns, Orientation::out_in,
                                       DenseWeight{{view->dtype, {rows, columns}, view->bytes}}},
                                      context);
  return record;
}

}  // namespace qwb
