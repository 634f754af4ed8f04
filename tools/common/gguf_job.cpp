#include "tools/common/gguf_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>

#include "formats/gguf_repack.h"
#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/quantize/ggml_quants.h"
#include "tools/common/convert_job.h"
#include "tools/common/requantize.h"

namespace qwb {
namespace {

const char* how_of(const GgufTensorReport& tensor) {
  if (tensor.exact) return "exact";
  return ggml_is_quantized(tensor.type) ? "requantized" : "dequantized";
}

// Vectors are F32 always: nothing to tell of them.
std::vector<const GgufTensorReport*> matrices(const GgufReport& report) {
  std::vector<const GgufTensorReport*> list;
  for (const GgufTensorReport& tensor : report.tensors) {
    if (tensor.matrix) list.push_back(&tensor);
  }
  return list;
}

}  // namespace

std::string ggml_type_names() {
  std::string names;
  for (const GgmlTypeInfo& info : ggml_types())
    names += (names.empty() ? "" : ", ") + std::string(info.name);
  return names;
}

GgmlType parse_ggml_type(const std::string& text, const std::string& flag) {
  if (const auto type = ggml_type_from_name(text)) return *type;
  throw Error(ErrorKind::usage, "GGUF has no type '" + text + "'", flag,
              "one of " + ggml_type_names());
}

bool begins_as_gguf(const Path& file) {
  std::array<char, 4> magic{};
  std::ifstream in(file, std::ios::binary);
  return in.read(magic.data(), magic.size()) &&
         std::string_view(magic.data(), magic.size()) == "GGUF";
}

GgufReport make_gguf(const OpenModel& open, const Path& target, GgufOptions options, Tool& tool) {
  options.encode = quantize_ggml;
  options.replace = tool.outputs().force();
  GgufReport plan = plan_gguf(open, options, tool.context().silent());
  if (tool.dry_run()) return plan;
  require_disk_space(target.parent_path(), plan.tensor_bytes);
  return write_gguf(open, target, options, tool.context());
}

Json gguf_json(const OpenModel& open, const GgufReport& report) {
  Json json = {
      {"schema", 1},           {"source", open.folder.string()}, {"source_format", open.format},
      {"format", kGgufFormat}, {"bytes", report.tensor_bytes},   {"modules", Json::array()}};
  std::map<std::string, int> counts;
  bool exact = true;
  for (const GgufTensorReport* tensor : matrices(report)) {
    ++counts[how_of(*tensor)];
    exact = exact && tensor->exact;
    json["modules"].push_back(
        {{"name", tensor->source},
         {"tensor", tensor->name},
         {"type", ggml_info(tensor->type).name},
         {"how", how_of(*tensor)},
         {"reason", tensor->note.empty() ? Json(nullptr) : Json(tensor->note)},
         {"error", tensor->error}});
  }
  json["exact"] = exact;
  json["counts"] = counts;
  return json;
}

void tell_gguf(const GgufReport& report, bool done, Tool& tool) {
  auto tensors = matrices(report);
  const size_t all = tensors.size();
  std::map<std::string_view, int> types;
  for (const GgufTensorReport* tensor : tensors) ++types[ggml_info(tensor->type).name];
  std::string text;
  for (const auto& [name, count] : types)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, name);
  tool.note(fmt::format("matrices: {}; {} of tensors", text, human_bytes(report.tensor_bytes)));
  std::erase_if(tensors, [](const auto* tensor) { return tensor->exact; });
  if (tensors.empty()) {
    tool.note(fmt::format("exact: the values of all {} matrices {} those of the source", all,
                          done ? "are" : "will be"));
    return;
  }
  text = fmt::format("exact: {} of {} matrices", all - tensors.size(), all);
  std::vector<AddedError> errors;
  errors.reserve(tensors.size());
  for (const GgufTensorReport* tensor : tensors) errors.push_back({tensor->error, tensor->source});
  tool.note(done ? text + "; " + worst_errors(std::move(errors)) : text);
}

void check_plan_fits_gguf(const Plan& plan) {
  for (const PlannedModule& planned : plan.modules) {
    const WeightForm form = planned_form(*planned.method, planned.settings, planned.info);
    std::string reason;
    if (exact_ggml_type(form, reason)) continue;
    throw Error(ErrorKind::unsupported,
                "gguf cannot hold this exactly: " + planned.info.name + ": " + reason, "--format",
                "choose another method or other settings, or qwb-convert --to gguf --type TYPE");
  }
}

}  // namespace qwb
