#include "formats/packed_source.h"

#include <algorithm>

#include "lib/base/hash.h"

namespace qwb {
namespace {

int64_t form_bits(const WeightForm& form) {
  if (form.codec == "integer-grid") return static_cast<int64_t>(form.parameters.at("bits"));
  return form.codec == "int8-rows" ? 8 : 4;
}

double per_weight(double bytes, double weights) {
  return weights > 0 ? 8 * bytes / weights : 0;
}

Json module_entry(const PackedModule& module) {
  const WeightForm& form = module.form;
  Json parts = Json::array();
  for (const PartSpec& part : form.parts) parts.push_back(part.name);
  const auto weights = static_cast<double>(form.out) * static_cast<double>(form.in);
  return {{"name", module.name},
          {"codec", form.codec},
          {"out", form.out},
          {"in", form.in},
          {"orientation", form.orientation == Orientation::out_in ? "out_in" : "in_out"},
          {"parameters", form.parameters},
          {"parts", parts},
          {"bits", form_bits(form)},
          {"bytes", form.bytes()},
          {"bpw", per_weight(static_cast<double>(form.bytes()), weights)}};
}

}  // namespace

PackedSource::PackedSource(std::shared_ptr<const Checkpoint> files, const PackedFormat& format, Json settings)
    : files_(std::move(files)), format_(format), settings_(std::move(settings)) {
  modules_ = format_.modules(*files_, settings_);
  if (modules_.empty()) {
    throw Error(ErrorKind::failed,
                "config.json says the weights are quantized by '" + format.name() +
                    "', but no module has the tensors of that format",
                files_->folder().string(), "the folder is incomplete; fetch it again");
  }
  for (size_t i = 0; i < modules_.size(); ++i) {
    index_.emplace(modules_[i].name, i);
    hidden_.insert(modules_[i].tensors.begin(), modules_[i].tensors.end());
  }
  for (const PackedModule& module : modules_) {
    const std::string plain = module.name + ".weight";
    if (!hidden_.contains(plain) && files_->find(plain))
      throw Error(ErrorKind::failed, "is stored twice, quantized and plain", module.name);
  }
}

std::optional<TensorView> PackedSource::find(const std::string& name) const {
  return hidden_.contains(name) ? std::nullopt : files_->find(name);
}

std::vector<std::string> PackedSource::names() const {
  auto result = files_->names();
  std::erase_if(result, [&](const std::string& name) { return hidden_.contains(name); });
  return result;
}

std::vector<std::string> PackedSource::quantized_modules() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : index_) names.push_back(name);
  return names;
}

PackedWeight PackedSource::load(const std::string& module) const {
  const auto it = index_.find(module);
  if (it == index_.end())
    throw Error(ErrorKind::not_found, "no quantized module '" + module + "'", files_->folder().string());
  PackedWeight weight = format_.read(*files_, settings_, modules_[it->second]);
  check_weight(weight.weight, module);
  return weight;
}

std::optional<Weight> PackedSource::quantized(const std::string& module) const {
  if (!index_.contains(module)) return std::nullopt;
  const std::lock_guard lock(mutex_);
  auto& loaded = loaded_[module];
  if (!loaded) loaded = std::make_unique<PackedWeight>(load(module));
  return loaded->weight;
}

bool PackedSource::in_files(const TensorView& view) const {
  const std::less_equal<const std::byte*> ordered;
  return std::any_of(files_->files().begin(), files_->files().end(), [&](const SafetensorsFile& file) {
    const Bytes all = file.mapped().bytes();
    return ordered(all.data(), view.bytes.data()) &&
           ordered(view.bytes.data() + view.bytes.size(), all.data() + all.size());
  });
}

void PackedSource::release(const TensorView& view) const {
  if (in_files(view)) files_->release(view);
}

void PackedSource::prefetch(const TensorView& view) const {
  if (in_files(view)) files_->prefetch(view);
}

std::string PackedSource::content_hash(const Path& memo_folder) const {
  Hasher hasher;
  hasher.field("qwb-packed-1").field(format_.name()).field(json_canonical(settings_));
  return hasher.field(files_->content_hash(memo_folder)).hex();
}

Json PackedSource::manifest() const {
  Json modules = Json::array();
  double module_weights = 0, code_bits = 0, weights = 0, bytes = 0;
  for (const PackedModule& module : modules_) {
    const auto size = static_cast<double>(module.form.out) * static_cast<double>(module.form.in);
    modules.push_back(module_entry(module));
    module_weights += size;
    code_bits += size * static_cast<double>(form_bits(module.form));
    bytes += static_cast<double>(module.form.bytes());
  }
  weights = module_weights;
  for (const std::string& name : names()) {
    const TensorView view = *find(name);
    weights += static_cast<double>(view.count());
    bytes += static_cast<double>(view.bytes.size());
  }
  return {{"method", format_.name()},
          {"bits", module_weights > 0 ? Json(code_bits / module_weights) : Json(nullptr)},
          {"settings", settings_},
          {"modules", modules},
          {"totals",
           {{"weights", static_cast<int64_t>(weights)},
            {"bytes", static_cast<int64_t>(bytes)},
            {"bpw", per_weight(bytes, weights)}}}};
}

}  // namespace qwb
