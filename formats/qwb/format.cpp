#include "formats/qwb/format.h"

#include "formats/qwb/artifact.h"
#include "formats/safetensors/sharded_writer.h"
#include "lib/base/written_files.h"

namespace qwb {
namespace {

constexpr char kQwbFormat[] = "qwb";

Json value_or_null(const Json& object, const char* key) {
  return json_has(object, key) ? object.at(key) : Json(nullptr);
}

// A module's entry: what it is, and what was measured of it.
Json told_entry(const TargetModule& module, const Provenance& provenance) {
  const auto it = provenance.results.find(module.name);
  const Json result = it == provenance.results.end() ? Json::object() : it->second;
  Json entry = module_entry(module.name, module.layout);
  for (const char* key : {"weight_error", "output_error", "seconds"})
    entry[key] = value_or_null(result, key);
  entry["details"] = json_has(result, "details") ? result.at("details") : Json::object();
  for (const char* key : {"method", "method_version", "settings"}) {
    if (json_has(result, key)) entry[key] = result.at(key);
  }
  return entry;
}

template <typename T>
Json json_or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// qwb.json, for whoever writes an artifact.
Json artifact_json(const PackedWriter::Written& written, const Provenance& provenance) {
  Json modules = Json::array();
  int64_t weights = 0, bytes = 0;
  double bits = 0;
  for (const TargetModule& module : written.modules) {
    modules.push_back(told_entry(module, provenance));
    weights += module.layout.count();
    bytes += module.layout.bytes();
    bits +=
        static_cast<double>(module.layout.code_bits()) * static_cast<double>(module.layout.count());
  }
  const Json mean = weights > 0 ? tidy_number(bits / static_cast<double>(weights)) : Json(nullptr);
  Json json = {{"format_version", kArtifactVersion},
               {"qwb_version", QWB_VERSION},
               {"isa", json_or_null(provenance.isa)},
               {"source", provenance.source},
               {"method", provenance.method},
               {"method_version", provenance.method_version},
               {"bits", provenance.bits ? Json(*provenance.bits) : mean},
               {"settings", provenance.settings},
               {"calibration", provenance.calibration}};
  if (provenance.products) json["products"] = *provenance.products;
  if (!provenance.kept.empty()) json["kept"] = provenance.kept;
  json["modules"] = std::move(modules);
  json["totals"] = size_json(written.weights, written.bytes);
  json["totals"]["modules"] = size_json(weights, bytes);
  json["totals"]["modules"]["count"] = written.modules.size();
  json["totals"]["seconds"] = json_or_null(provenance.seconds);
  json["totals"]["peak_memory"] = json_or_null(provenance.peak_memory);
  return json;
}

class QwbPacking : public PackedWriter {
 public:
  Fit fit(const TargetModule& /*module*/, const WeightReader& /*read*/) const override {
    return {};
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
    return {{"quant_method", kQwbFormat}, {"format_version", kArtifactVersion}};
  }
  void tell(const Provenance& provenance, Json& settings) const override {
    if (!provenance.made_here) return;
    settings["method"] = provenance.method;
    for (const auto& [key, value] : provenance.settings.items()) settings[key] = value;
  }
  std::string list_of_files() const override { return kArtifactSums; }
  void finish(const Written& written, const Provenance& provenance) const override {
    const std::string text = json_text(artifact_json(written, provenance));
    parse_artifact_manifest(text, "qwb.json");  // what a reader would refuse is never written
    write_file(written.folder / "qwb.json", text);
  }
};

OpenModel open_qwb(const Path& folder, const Context& /*context*/) {
  const auto artifact = Artifact::open(folder);
  return {artifact,   artifact->config(),        folder,
          kQwbFormat, artifact->manifest().json, artifact->weight_bytes()};
}

}  // namespace

std::shared_ptr<const PackedWriter> qwb_packing() {
  return std::make_shared<QwbPacking>();
}

std::vector<ModelFormat> qwb_formats() {
  ModelFormat format =
      packed_format(kQwbFormat, "an artifact of this project", nullptr, qwb_packing());
  format.detect = [](const Place& place) { return place.has("qwb.json"); };
  format.open = open_qwb;
  return {format};
}

}  // namespace qwb
