#include "formats/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <memory>

#include "formats/companions.h"
#include "formats/convert_weights.h"
#include "formats/gguf_repack.h"
#include "formats/model_modules.h"
#include "formats/packed_source.h"
#include "formats/plain.h"
#include "formats/qwb.h"
#include "formats/sharded_writer.h"
#include "lib/base/written_files.h"
#include "lib/codec/dense.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/integer_grid.h"
#include "lib/tensor/error_sum.h"
#include "lib/tensor/small_numbers.h"

namespace qwb {
namespace {

using How = ConvertedModule::How;
using Role = TargetModule::Role;

constexpr size_t kNamedRefusals = 3;
constexpr char kWiderFloats[] = "choose --dtype bf16 or f32";

std::string dtype_config_name(DType type) {
  if (type == DType::f32) return "float32";
  return type == DType::f16 ? "float16" : "bfloat16";
}

}  // namespace

std::string how_name(How how) {
  switch (how) {
    case How::exact:
      return "exact";
    case How::rounded:
      return "scales rounded";
    case How::requantized:
      return "requantized";
    case How::plain:
      return "dequantized";
  }
  return {};
}

Conversion::Conversion(OpenModel source, const PackedFormat& target, ConvertOptions options,
                       Context context)
    : source_(std::move(source)),
      target_(target),
      options_(std::move(options)),
      context_(std::move(context)) {
  model_dtype_ = options_.dtype.value_or(model_dtype(source_));
  find_modules();
  decide();
  lay_out();
}

// Every module that is quantized; of an unquantized source those of the blocks, if they are to be.
void Conversion::find_modules() {
  const TensorSource& tensors = *source_.source;
  const auto known = model_modules(source_);
  const auto target = [&](const std::string& name, WeightLayout layout) {
    ConvertedModule module;
    const auto it = known.find(name);
    const ModelModule place = it != known.end() ? it->second : ModelModule{};
    module.target = {name, std::move(layout), place.role, place.plain, model_dtype_};
    return module;
  };
  std::map<std::string, WeightLayout> layouts;
  for (const std::string& name : tensors.quantized_modules())
    layouts[name] = layout_of_module(name);
  const bool plain_target = target_.name() == "huggingface";
  if (layouts.empty() && !plain_target) {
    if (!options_.requantizer) {
      throw Error(ErrorKind::usage, "nothing is quantized here", source_.folder.string(),
                  "choose a method by --requantize, or use qwb-quantize --format");
    }
    for (const auto& [name, place] : known) {
      if (place.role != Role::linear) continue;
      const TensorView view = *tensors.find(name + ".weight");
      if (view.shape.size() != 2) throw Error(ErrorKind::failed, "is no matrix", name);
      const bool straight = place.plain == Orientation::out_in;
      layouts[name] = layout_of({view.shape[straight ? 0 : 1], view.shape[straight ? 1 : 0],
                                 place.plain, DenseWeight{view}});
    }
    if (layouts.empty())
      throw Error(ErrorKind::unsupported, "the modules of this architecture are not known",
                  source_.folder.string());
  }
  for (auto& [name, layout] : layouts) modules_.push_back(target(name, layout));
  for (const auto& [name, place] : known) {
    if (layouts.contains(name) || !tensors.find(name + ".weight")) continue;
    TargetModule kept{name, {}, place.role, place.plain, model_dtype_};
    if (place.role != Role::embedding) kept_.push_back(std::move(kept));
  }
  // Tied, the output embedding has no tensor, but loaders find a linear layer of this name all the
  // same.
  const bool tied =
      !known.empty() && std::none_of(known.begin(), known.end(), [](const auto& entry) {
        return entry.second.role == Role::output_embedding;
      });
  if (tied)
    kept_.push_back({"lm_head", {}, Role::output_embedding, Orientation::out_in, model_dtype_});
  for (const std::string& name : tensors.names()) {
    const bool is_weight = name.ends_with(kWeightSuffix);
    if (!is_weight || !layouts.contains(name.substr(0, name.size() - kWeightSuffix.size())))
      copied_.push_back(name);
  }
}

void Conversion::decide() {
  std::vector<std::string> refusals;
  for (ConvertedModule& module : modules_) {
    context_.stop.check();
    module.source_bytes = module.target.layout.bytes();
    decide(module, refusals);
  }
  if (refusals.empty()) return;
  std::string text;
  for (size_t i = 0; i < std::min(refusals.size(), kNamedRefusals); ++i)
    text += (i == 0 ? "" : "; ") + refusals[i];
  if (refusals.size() > kNamedRefusals)
    text += fmt::format("; and {} more modules", refusals.size() - kNamedRefusals);
  throw Error(ErrorKind::unsupported, target_.name() + " cannot hold this model exactly: " + text,
              source_.folder.string(),
              options_.requantizer
                  ? "choose other settings for --requantize"
                  : "--requantize METHOD quantizes such modules anew and tells the error it adds");
}

void Conversion::decide(ConvertedModule& module, std::vector<std::string>& refusals) {
  TargetModule& target = module.target;
  const bool dense = target.layout.is_dense();
  if (target_.name() == "huggingface") {
    module.how = How::plain;
    return;
  }
  std::optional<std::string> reason =
      dense ? std::optional<std::string>("is not quantized") : target_.mismatch(target);
  std::string scales;
  if (!reason && !decide_scales(module, scales)) reason = scales;
  if (!reason) return;
  module.reason = *reason;
  if (!options_.requantizer) {
    refusals.push_back(target.name + " " + *reason);
    return;
  }
  TargetModule other = target;
  other.layout =
      options_.requantizer->layout(target.name, target.layout.out, target.layout.in, model_dtype_);
  const auto still = target_.mismatch(other);
  if (still && target.role == Role::linear) {
    refusals.push_back(target.name + ", requantized, " + *still);
    return;
  }
  module.how = still ? How::plain : How::requantized;
  other.provisional = true;
  if (!still) target = std::move(other);
}

// True if the target's scales can hold the module's, as they are or (How::rounded) rounded.
bool Conversion::decide_scales(ConvertedModule& module, std::string& reason) {
  TargetModule& target = module.target;
  const auto type = target_.scale_dtype();
  const auto* grid = target.layout.as<IntegerGrid>();
  if (!type || grid == nullptr || grid->scales.dtype == *type) return true;
  const LoadedWeight loaded = load(module);
  const TensorView& scales = loaded.weight.get<IntegerGrid>().scales;
  const NarrowScales narrowed = narrow_scales(scales, *type, nullptr);
  if (narrowed.overflow) {
    reason =
        fmt::format("has the scale {}, which overflows {}", *narrowed.overflow, dtype_name(*type));
    return false;
  }
  const double bits = target.layout.code_bits();
  if (narrowed.lost > tolerated_code_loss(bits)) {
    reason = fmt::format("has scales that underflow {} ({}, say)", dtype_name(*type),
                         narrowed.first_lossy);
    return false;
  }
  if (narrowed.lossy > 0) {
    reason = fmt::format("has {} of {} scales that {} does not hold exactly ({}, say)",
                         narrowed.lossy, scales.count(), dtype_name(*type), narrowed.first_lossy);
    if (!options_.round_scales) {
      if (!options_.requantizer) reason += "; --round-scales allows that";
      return false;
    }
    module.how = How::rounded;
    module.reason = reason;
  }
  IntegerGrid changed = *grid;
  changed.scales.dtype = *type;
  target.layout.set(std::move(changed));
  return true;
}

DType Conversion::stored_type(const TensorView& view) const {
  return options_.dtype && dtype_is_float(view.dtype) ? *options_.dtype : view.dtype;
}

void Conversion::lay_out() {
  std::vector<TargetModule> targets;
  for (const ConvertedModule& module : modules_) {
    if (module.how == How::plain) {
      const std::vector<PartSpec> parts = find_packed_format("huggingface").layout(module.target);
      layout_.insert(layout_.end(), parts.begin(), parts.end());
    } else {
      const std::vector<PartSpec> parts = target_.layout(module.target);
      layout_.insert(layout_.end(), parts.begin(), parts.end());
      targets.push_back(module.target);
    }
    if (module.how == How::plain && target_.name() != "huggingface") kept_.push_back(module.target);
  }
  for (const std::string& name : copied_) {
    const TensorView view = *source_.source->find(name);
    layout_.push_back({name, stored_type(view), view.shape});
  }
  std::sort(layout_.begin(), layout_.end(),
            [](const PartSpec& a, const PartSpec& b) { return a.name < b.name; });
  settings_ = target_.quantization_config(targets, kept_);
}

bool Conversion::exact() const {
  return std::all_of(modules_.begin(), modules_.end(),
                     [](const ConvertedModule& module) { return module.how == How::exact; });
}

int64_t Conversion::tensor_bytes() const {
  int64_t total = 0;
  for (const PartSpec& spec : layout_) total = checked_add(total, part_bytes(spec), "model");
  return total;
}

// ggml's blocks that are integers with a scale count as an integer grid wherever blocks cannot go.
bool Conversion::blocks_stay() const {
  return target_.name() == "qwb" || target_.name() == "huggingface";
}

WeightLayout Conversion::layout_of_module(const std::string& module) const {
  WeightLayout layout = source_.source->quantized_layout(module);
  if (blocks_stay() || layout.as<GgmlBlocks>() == nullptr) return layout;
  return ggml_grid_layout(source_.source->load_quantized(module).weight, context_).value_or(layout);
}

LoadedWeight Conversion::load(const ConvertedModule& module) const {
  const std::string& name = module.target.name;
  const TensorSource& tensors = *source_.source;
  if (const auto view = tensors.find(name + std::string(kWeightSuffix))) {
    const bool straight = module.target.plain == Orientation::out_in;
    Weight weight{view->shape.at(straight ? 0 : 1), view->shape.at(straight ? 1 : 0),
                  module.target.plain, DenseWeight{*view}};
    check_weight(weight, name);
    return {weight, {}};
  }
  LoadedWeight loaded = tensors.load_quantized(name);
  if (blocks_stay() || !ggml_grid_layout(loaded.weight, context_)) return loaded;
  QuantizedTensor grid = grid_from_ggml(loaded.weight, name, context_);
  for (const auto& [part, view] : loaded.weight.parts()) tensors.release(view);
  LoadedWeight result{grid.view(), {}};
  for (auto& [part, tensor] : grid.parts) result.owned.push_back(std::move(tensor));
  return result;
}

// A module on its way to the disk, with everything that its views look at.
struct Conversion::Outgoing {
  LoadedWeight loaded;
  Weight original;
  QuantizedTensor anew;
  PackedTensors tensors;
};

// Rearranges a module and hands it to a thread that writes it, while the next one is rearranged:
// the system lets only one thread at a time write into a file.
std::future<void> Conversion::write_module(ConvertedModule& module, ShardedWriter& writer) {
  const TargetModule& target = module.target;
  auto outgoing = std::make_shared<Outgoing>();
  LoadedWeight& loaded = outgoing->loaded;
  QuantizedTensor& anew = outgoing->anew;
  const auto* packed = dynamic_cast<const PackedSource*>(source_.source.get());
  const bool words = module.how == How::exact && target_.moves_words() && packed != nullptr &&
                     packed->has_words(target.name);
  loaded = words ? packed->load_words(target.name) : load(module);
  const Weight& original = outgoing->original = loaded.weight;
  require_finite(original, target.name, context_);
  if (module.how == How::requantized) {
    const FloatBuffer values = read_out_in_f32(original, context_);
    anew = options_.requantizer->quantize(target.name, original.out, original.in, values.data(),
                                          context_);
    loaded.weight = anew.view();
    const Bytes bytes{reinterpret_cast<const std::byte*>(values.data()),
                      static_cast<size_t>(values.size()) * sizeof(float)};
    const Weight exact{original.out, original.in, Orientation::out_in,
                       DenseWeight{{DType::f32, {original.out, original.in}, bytes}}};
    module.error = weight_distance(exact, &loaded.weight, DType::f32, context_);
  } else if (const auto* grid = loaded.weight.as<IntegerGrid>();
             grid != nullptr && module.how != How::plain &&
             grid->scales.dtype != target.layout.spec("scales").dtype) {
    Tensor scales(target.layout.spec("scales").dtype, grid->scales.shape);
    narrow_scales(grid->scales, scales.dtype(), scales.bytes().data());
    loaded.owned.push_back(std::move(scales));
    IntegerGrid narrowed = *grid;
    narrowed.scales = loaded.owned.back().view();
    loaded.weight.set(std::move(narrowed));
    if (module.how == How::rounded)
      module.error = weight_distance(original, &loaded.weight, DType::f32, context_);
  }
  const PackedFormat& format =
      module.how == How::plain ? find_packed_format("huggingface") : target_;
  module.target.layout = layout_of(loaded.weight);
  outgoing->tensors = words ? format.write_words(target, loaded.weight, settings_, context_)
                            : format.write(target, loaded.weight, settings_, context_);
  if (module.how == How::plain) {
    module.error = weight_distance(original, nullptr, target.dtype, context_);
    require_floats_kept(module.error, target.dtype, target.name, kWiderFloats);
  }
  return std::async(std::launch::async, [this, outgoing, &writer] {
    for (const auto& [name, view] : outgoing->tensors.views) writer.put_part(name, 0, view.bytes);
    for (const auto& [name, view] : outgoing->original.parts()) source_.source->release(view);
  });
}

void Conversion::write_plain(const std::string& name, ShardedWriter& writer) const {
  const TensorView view = *source_.source->find(name);
  const DType type = stored_type(view);
  require_finite(view, name, context_);
  if (type == view.dtype) return writer.copy(name, *source_.source, context_);
  constexpr int64_t kValues = int64_t{1} << 20;
  std::vector<ErrorSum> errors;
  for (int64_t at = 0; at < view.count(); at += kValues) {
    context_.stop.check();
    const int64_t count = std::min(kValues, view.count() - at);
    FloatBuffer values(count);
    read_floats(view, at, count, values.data(), name);
    std::vector<std::byte> bytes(static_cast<size_t>(count * dtype_size(type)));
    narrow_floats(values.data(), count, type, bytes.data(), name);
    FloatBuffer stored(count);
    read_floats({type, {count}, bytes}, 0, count, stored.data(), name);
    errors.push_back(error_sum(values.data(), stored.data(), count));
    writer.put_part(name, at * dtype_size(type), bytes);
  }
  require_floats_kept(relative_error(errors), type, name, kWiderFloats);
}

Json Conversion::config() const {
  Json config = source_.config;
  config.erase("quantization_config");
  config.erase("compression_config");
  if (options_.dtype || target_.name() == "huggingface") {
    const char* key = json_has(config, "dtype") ? "dtype" : "torch_dtype";
    config[key] = dtype_config_name(model_dtype_);
  }
  if (!settings_.is_null()) config["quantization_config"] = settings_;
  return config;
}

ConversionRecord Conversion::record() const {
  ConversionRecord record;
  record.source = {
      {"name", std::filesystem::weakly_canonical(source_.folder).filename().string()},
      {"path", std::filesystem::absolute(source_.folder).lexically_normal().string()},
      {"revision", options_.revision.empty() ? Json(nullptr) : Json(options_.revision)},
      {"hash", nullptr}};
  const Json& manifest = source_.manifest;
  if (json_has(manifest, "source") && manifest.at("source").is_object())
    record.source = manifest.at("source");
  record.method = options_.requantizer ? options_.requantizer->method
                                       : json_string(manifest, "method", "qwb.json", "none");
  if (options_.requantizer) {
    record.settings = options_.requantizer->settings;
  } else if (json_has(manifest, "settings")) {
    record.settings = manifest.at("settings");
  }
  for (const ConvertedModule& module : modules_) {
    record.weights += module.target.layout.count();
    if (module.how == How::plain) continue;
    record.modules.push_back(module.target);
    record.errors.push_back(module.error);
  }
  for (const std::string& name : copied_) record.weights += source_.source->find(name)->count();
  record.bytes = tensor_bytes();
  return record;
}

void Conversion::write(const Path& folder) {
  PendingFolder pending(folder, context_.stop);
  ShardedWriter writer(pending.path(), layout_, options_.max_shard_bytes);
  int64_t total = 0;
  for (const ConvertedModule& module : modules_) total += module.source_bytes;
  for (const std::string& name : copied_)
    total += static_cast<int64_t>(source_.source->find(name)->bytes.size());
  context_.progress->begin("converting to " + target_.name(), total);
  std::future<void> writing;
  for (ConvertedModule& module : modules_) {
    context_.stop.check();
    std::future<void> next = write_module(module, writer);
    if (writing.valid()) writing.get();
    writing = std::move(next);
    context_.progress->advance(module.source_bytes, module.target.name);
  }
  if (writing.valid()) writing.get();
  for (const std::string& name : copied_) {
    write_plain(name, writer);
    context_.progress->advance(static_cast<int64_t>(source_.source->find(name)->bytes.size()),
                               name);
  }
  writer.finish();
  context_.progress->end();
  write_file(pending.path() / "config.json", json_text(config()));
  write_companions(source_, pending.path());
  if (const auto tokenizer = companion_text(source_, "tokenizer.json");
      tokenizer && tokenizer->find("\"tied_pieces\":") != std::string::npos) {
    context_.progress->note(
        "pieces of equal score, of which the leftmost is joined first: other programs, which know "
        "only an "
        "order of merges, will cut some texts differently with this tokenizer.json");
  }
  target_.finish(pending.path(), settings_, record(), context_);
  std::error_code error;
  if (!std::filesystem::exists(pending.path() / kArtifactSums, error))
    write_file(pending.path() / kWrittenFiles, written_files_text(pending.path(), context_));
  if (!pending.commit(options_.replace))
    throw Error(ErrorKind::usage, "the folder exists", folder.string(),
                "choose another one or add --force");
}

}  // namespace qwb
