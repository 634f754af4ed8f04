#include "formats/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "formats/convert_weights.h"
#include "formats/gguf/repack.h"
#include "formats/model_modules.h"
#include "lib/codec/dense.h"
#include "lib/codec/fp4_groups.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/integer_grid.h"

namespace qwb {
namespace {

using Role = TargetModule::Role;
using Matrices = ModelWriter::Matrices;

constexpr size_t kNamedRefusals = 3;

std::string weight_name(const std::string& module) {
  return module + std::string(kWeightSuffix);
}

std::unique_ptr<ModelWriter> make_writer(const ModelFormat& target, const OpenModel& source,
                                         const WriterOptions& options, const Context& context) {
  if (!target.writer) throw Error(ErrorKind::usage, target.name + " is read, not written");
  return target.writer(source, options, context);
}

}  // namespace

Conversion::Conversion(OpenModel source, const ModelFormat& target, ConvertOptions options,
                       Context context)
    : source_(std::move(source)),
      target_(target.name),
      options_(std::move(options)),
      context_(std::move(context)),
      model_dtype_(options_.dtype.value_or(model_dtype(source_))),
      writer_(make_writer(target, source_, options_, context_)),
      known_(model_modules(source_)) {
  if (options_.requantizer) requantizer_ = options_.requantizer(writer_->scale_dtype());
  find_modules();
  decide();
}

void Conversion::add_module(const std::string& name, WeightLayout layout) {
  const auto it = known_.find(name);
  const ModelModule place = it != known_.end() ? it->second : ModelModule{};
  ConvertedModule module{.target = {.name = name,
                                    .layout = std::move(layout),
                                    .role = place.role,
                                    .plain = place.plain,
                                    .dtype = model_dtype_}};
  module.source_bytes = module.target.layout.bytes();
  modules_.push_back(std::move(module));
}

// Every module that is quantized; with a type of their own the other matrices too; of an
// unquantized source the linear ones of the blocks, if they are to be quantized.
void Conversion::find_modules() {
  const TensorSource& tensors = *source_.source;
  std::map<std::string, WeightLayout> layouts;
  for (const std::string& name : tensors.quantized_modules()) {
    if (writer_->takes(weight_name(name))) layouts[name] = tensors.quantized_layout(name);
  }
  const Matrices matrices = writer_->matrices();
  const auto add_plain = [&](const std::string& name) {
    const auto it = known_.find(name);
    TargetModule module{.name = name};
    if (it != known_.end()) module.plain = it->second.plain;
    layouts[name] = layout_of(load(module).weight);
  };
  if (layouts.empty() && matrices == Matrices::beside) {
    if (!requantizer_) {
      throw Error(ErrorKind::usage, "nothing is quantized here", source_.folder.string(),
                  "choose a method by --requantize, or use qwb-quantize --format");
    }
    for (const auto& [name, place] : known_) {
      if (place.role == Role::linear) add_plain(name);
    }
    if (layouts.empty())
      throw Error(ErrorKind::unsupported, "the modules of this architecture are not known",
                  source_.folder.string());
  }
  for (const std::string& name : tensors.names()) {
    if (!writer_->takes(name)) continue;
    const bool is_weight = name.ends_with(kWeightSuffix);
    const std::string module = name.substr(0, name.size() - (is_weight ? kWeightSuffix.size() : 0));
    if (is_weight && layouts.contains(module)) continue;
    const bool typed = matrices == Matrices::typed && is_weight &&
                       tensors.describe(name).value().shape.size() == 2;
    if (typed) {
      add_plain(module);
    } else {
      copied_.push_back(name);
    }
  }
  for (auto& [name, layout] : layouts) add_module(name, std::move(layout));
}

void Conversion::decide() {
  std::vector<std::string> refusals;
  for (ConvertedModule& module : modules_) {
    context_.stop.check();
    decide(module, refusals);
  }
  if (!refusals.empty()) {
    std::string text;
    for (size_t i = 0; i < std::min(refusals.size(), kNamedRefusals); ++i)
      text += (i == 0 ? "" : "; ") + refusals[i];
    if (refusals.size() > kNamedRefusals)
      text += fmt::format("; and {} more modules", refusals.size() - kNamedRefusals);
    throw Error(ErrorKind::unsupported, target_ + " cannot hold this model exactly: " + text,
                source_.folder.string(),
                requantizer_ ? "choose other settings for --requantize"
                             : "--requantize quantizes such modules anew and tells the error it "
                               "adds");
  }
  bytes_ = writer_->lay_out(modules_, kept(), copied_);
}

// The linear modules and output embeddings that stay unquantized.
std::vector<TargetModule> Conversion::kept() const {
  std::set<std::string> taken;
  for (const ConvertedModule& module : modules_) taken.insert(module.target.name);
  std::vector<TargetModule> kept;
  const auto add = [&](const std::string& name, Role role, Orientation plain) {
    kept.push_back({.name = name, .role = role, .plain = plain, .dtype = model_dtype_});
  };
  bool tied = !known_.empty();
  for (const auto& [name, place] : known_) {
    if (place.role == Role::output_embedding) tied = false;
    if (place.role == Role::embedding || taken.contains(name)) continue;
    if (source_.source->describe(weight_name(name))) add(name, place.role, place.plain);
  }
  // Tied, the output embedding has no tensor, but loaders find a linear layer of this name all the
  // same.
  if (tied) add("lm_head", Role::output_embedding, Orientation::out_in);
  return kept;
}

// ggml's blocks that are integers or small floats with a scale count as a grid wherever blocks
// cannot go.
Fit Conversion::fit(TargetModule& module) const {
  const auto read = [&] { return load(module); };
  const Fit fit = writer_->fit(module, read);
  if (fit.possible || module.layout.as<GgmlBlocks>() == nullptr) return fit;
  const auto grid = ggml_grid_layout(load(module).weight, context_);
  if (!grid) return fit;
  module.layout = *grid;
  return writer_->fit(module, read);
}

void Conversion::decide(ConvertedModule& module, std::vector<std::string>& refusals) {
  TargetModule& target = module.target;
  const bool unquantized = target.layout.is_dense() && writer_->matrices() == Matrices::beside;
  Fit found = unquantized ? Fit::no("is not quantized") : fit(target);
  if (found.possible && found.how == How::rounded && !options_.round_scales) {
    if (!requantizer_) found.reason += "; --round-scales allows that";
    found.possible = false;
  }
  module.reason = found.reason;
  if (found.possible) {
    module.how = found.how;
    module.tensor = found.tensor;
    module.type = found.type;
    if (found.layout) target.layout = *found.layout;
    return;
  }
  if (!requantizer_) {
    refusals.push_back(target.name + " " + found.reason);
    return;
  }
  TargetModule other = target;
  other.layout =
      requantizer_->layout(target.name, target.layout.out, target.layout.in, model_dtype_);
  const Fit still = writer_->fit(other, {});
  const bool must_fit = target.role == Role::linear || writer_->matrices() == Matrices::typed;
  if (!still.possible && must_fit) {
    refusals.push_back(target.name + ", requantized, " + still.reason);
    return;
  }
  module.how = still.possible ? How::requantized : How::plain;
  if (!still.possible) return;
  module.anew = true;
  module.tensor = still.tensor;
  module.type = still.type;
  other.provisional = true;
  if (still.layout) other.layout = *still.layout;
  target = std::move(other);
}

bool Conversion::exact() const {
  return std::all_of(modules_.begin(), modules_.end(),
                     [](const ConvertedModule& module) { return module.how == How::exact; });
}

// In the form that the plan has of it so far: blocks, or the grid that they are.
LoadedWeight Conversion::load(const TargetModule& module) const {
  const TensorSource& tensors = *source_.source;
  if (const auto view = tensors.find(weight_name(module.name))) {
    if (view->shape.size() != 2) throw Error(ErrorKind::failed, "is no matrix", module.name);
    const bool straight = module.plain == Orientation::out_in;
    const Weight weight{view->shape[straight ? 0 : 1], view->shape[straight ? 1 : 0], module.plain,
                        DenseWeight{*view}};
    check_weight(weight, module.name);
    return {weight, {}};
  }
  LoadedWeight loaded = tensors.load_quantized(module.name);
  const bool as_grid = !module.provisional && (module.layout.as<IntegerGrid>() != nullptr ||
                                               module.layout.as<Fp4Groups>() != nullptr);
  const bool blocks_go = as_grid && loaded.weight.as<GgmlBlocks>() != nullptr;
  if (!blocks_go) return loaded;
  QuantizedTensor grid = grid_from_ggml(loaded.weight, module.name, context_);
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
  ModelWriter::Stored stored;
};

void Conversion::requantize(ConvertedModule& module, Outgoing& outgoing) const {
  const Weight& original = outgoing.original;
  const FloatBuffer values = read_out_in_f32(original, context_);
  outgoing.anew = requantizer_->quantize(module.target.name, original.out, original.in,
                                         values.data(), context_);
  outgoing.loaded.weight = outgoing.anew.view();
  narrow(module, outgoing);
  const Bytes bytes{reinterpret_cast<const std::byte*>(values.data()),
                    static_cast<size_t>(values.size()) * sizeof(float)};
  const Weight exact{original.out, original.in, Orientation::out_in,
                     DenseWeight{{DType::f32, {original.out, original.in}, bytes}}};
  module.error = weight_distance(exact, &outgoing.loaded.weight, DType::f32, context_);
}

// Scales become those of the plan.
void Conversion::narrow(ConvertedModule& module, Outgoing& outgoing) const {
  LoadedWeight& loaded = outgoing.loaded;
  const auto* grid = loaded.weight.as<IntegerGrid>();
  const auto* planned = module.target.layout.as<IntegerGrid>();
  if (grid == nullptr || planned == nullptr || grid->scales.dtype == planned->scales.dtype) return;
  Tensor scales(planned->scales.dtype, grid->scales.shape);
  narrow_scales(grid->scales, scales.dtype(), scales.bytes().data());
  loaded.owned.push_back(std::move(scales));
  IntegerGrid narrowed = *grid;
  narrowed.scales = loaded.owned.back().view();
  loaded.weight.set(std::move(narrowed));
  if (module.how == How::rounded)
    module.error = weight_distance(outgoing.original, &loaded.weight, DType::f32, context_);
}

// Rearranges a module and hands it to a thread that writes it, while the next one is rearranged:
// the system lets only one thread at a time write into a file.
std::future<void> Conversion::put_module(ConvertedModule& module, ModelWriter& writer) const {
  const std::string& name = module.target.name;
  auto outgoing = std::make_shared<Outgoing>();
  std::optional<LoadedWeight> words;
  if (module.how == How::exact && writer.takes_words()) words = source_.source->load_words(name);
  outgoing->loaded = words ? std::move(*words) : load(module.target);
  outgoing->original = outgoing->loaded.weight;
  require_finite(outgoing->original, name, context_);
  if (module.anew) {
    requantize(module, *outgoing);
  } else {
    narrow(module, *outgoing);
  }
  outgoing->stored = writer.put(module, outgoing->loaded.weight, words.has_value());
  module.error += outgoing->stored.error;
  const auto release = [this, outgoing] {
    for (const auto& [part, view] : outgoing->original.parts()) source_.source->release(view);
  };
  if (!outgoing->stored.write) {
    release();
    return {};
  }
  return std::async(std::launch::async, [outgoing, release] {
    outgoing->stored.write();
    release();
  });
}

Provenance Conversion::provenance() const {
  const Json& manifest = source_.manifest;
  Provenance told;
  told.source = {{"name", std::filesystem::weakly_canonical(source_.folder).filename().string()},
                 {"path", std::filesystem::absolute(source_.folder).lexically_normal().string()},
                 {"revision", options_.revision.empty() ? Json(nullptr) : Json(options_.revision)},
                 {"hash", nullptr}};
  if (json_has(manifest, "source") && manifest.at("source").is_object())
    told.source = manifest.at("source");
  if (requantizer_) {
    told.method = requantizer_->method;
    told.settings = requantizer_->settings;
  } else {
    told.method = json_string(manifest, "method", "qwb.json", "none");
    if (json_has(manifest, "settings")) told.settings = manifest.at("settings");
  }
  for (const ConvertedModule& module : modules_) {
    if (module.error > 0) told.results[module.target.name] = {{"weight_error", module.error}};
  }
  return told;
}

void Conversion::write(const Path& place, const std::function<void()>& before_placing) {
  const std::unique_ptr<ModelWriter> writer = std::move(writer_);
  const auto bytes_of = [&](const std::string& name) {
    return part_bytes(source_.source->describe(name).value());
  };
  int64_t total = 0;
  for (const ConvertedModule& module : modules_) total += module.source_bytes;
  for (const std::string& name : copied_) total += bytes_of(name);
  writer->begin(place);
  context_.progress->begin("converting to " + target_, total);
  std::future<void> writing;
  for (ConvertedModule& module : modules_) {
    context_.stop.check();
    std::future<void> next = put_module(module, *writer);
    if (writing.valid()) writing.get();
    writing = std::move(next);
    context_.progress->advance(module.source_bytes, module.target.name);
  }
  if (writing.valid()) writing.get();
  for (const std::string& name : copied_) {
    context_.stop.check();
    writer->put_tensor(name);
    context_.progress->advance(bytes_of(name), name);
  }
  context_.progress->end();
  if (before_placing) before_placing();
  if (!writer->finish(provenance()))
    throw Error(ErrorKind::usage, "something is there already", place.string(),
                "choose another place, or let it be replaced");
}

}  // namespace qwb
