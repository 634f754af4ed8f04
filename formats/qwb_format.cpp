#include "formats/qwb_format.h"

#include "formats/qwb.h"
#include "lib/base/written_files.h"

namespace qwb {
namespace {

Json record_entry(const TargetModule& module, double error) {
  Json entry = module_entry(module.name, module.layout);
  entry.update({{"weight_error", error > 0 ? Json(error) : Json(nullptr)},
                {"output_error", nullptr},
                {"seconds", nullptr},
                {"details", Json::object()}});
  return entry;
}

class QwbFormat : public PackedFormat {
 public:
  std::string name() const override { return "qwb"; }
  std::string summary() const override { return "an artifact of this project"; }
  // Artifacts are known by their qwb.json and read by Artifact.
  bool matches(const Json& /*settings*/) const override { return false; }
  std::vector<PackedModule> modules(const Checkpoint& /*files*/, const Json& /*settings*/,
                                    const Context& /*context*/) const override {
    return {};
  }
  LoadedWeight read(const Checkpoint& files, const Json& /*settings*/, const PackedModule& module,
                    const Context& /*context*/) const override {
    throw Error(ErrorKind::usage, "an artifact is opened as one",
                files.folder().string() + ": " + module.name);
  }
  std::optional<std::string> mismatch(const TargetModule& /*module*/) const override {
    return std::nullopt;
  }
  std::vector<PartSpec> layout(const TargetModule& module) const override {
    std::vector<PartSpec> parts = module.layout.specs();
    for (PartSpec& part : parts) part.name = module.name + "." + part.name;
    return parts;
  }
  PackedTensors write(const TargetModule& module, const Weight& weight, const Json& /*settings*/,
                      const Context& /*context*/) const override {
    PackedTensors tensors;
    for (const auto& [name, view] : weight.parts()) tensors.views[module.name + "." + name] = view;
    return tensors;
  }
  Json quantization_config(const std::vector<TargetModule>& /*modules*/,
                           const std::vector<TargetModule>& /*plain*/) const override {
    return {{"quant_method", "qwb"}, {"format_version", kArtifactVersion}};
  }
  void finish(const Path& folder, const Json& /*settings*/, const ConversionRecord& record,
              const Context& context) const override;
};

void QwbFormat::finish(const Path& folder, const Json& /*settings*/, const ConversionRecord& record,
                       const Context& context) const {
  Json json = {{"format_version", kArtifactVersion},
               {"qwb_version", QWB_VERSION},
               {"isa", nullptr},
               {"source", record.source},
               {"method", record.method},
               {"method_version", 1},
               {"bits", nullptr},
               {"settings", record.settings},
               {"calibration", nullptr},
               {"modules", Json::array()}};
  int64_t weights = 0, bytes = 0;
  double bits = 0;
  for (size_t i = 0; i < record.modules.size(); ++i) {
    const WeightLayout& layout = record.modules[i].layout;
    json["modules"].push_back(record_entry(record.modules[i], record.errors[i]));
    weights += layout.count();
    bytes += layout.bytes();
    bits += static_cast<double>(layout.code_bits()) * static_cast<double>(layout.count());
  }
  if (weights > 0) json["bits"] = tidy_number(bits / static_cast<double>(weights));
  json["totals"] = size_json(record.weights, record.bytes);
  json["totals"]["modules"] = size_json(weights, bytes);
  json["totals"]["modules"]["count"] = record.modules.size();
  json["totals"]["seconds"] = nullptr;
  json["totals"]["peak_memory"] = nullptr;
  const std::string text = json_text(json);
  parse_artifact_manifest(text, "qwb.json");  // what a reader would refuse is never written
  write_file(folder / "qwb.json", text);
  write_file(folder / kArtifactSums, written_files_text(folder, context));
}

}  // namespace

std::unique_ptr<PackedFormat> make_qwb_format() {
  return std::make_unique<QwbFormat>();
}

}  // namespace qwb
