#include "formats/gguf/model_writer.h"

#include <algorithm>
#include <span>

#include "formats/gguf/repack.h"
#include "formats/gguf/rope.h"
#include "formats/gguf/tokenizer.h"
#include "formats/gguf/types.h"

namespace qwb {
namespace {

constexpr char kDivisors[] = "rope_freqs.weight";

// Embeddings first, then the layers, then what comes after them.
std::pair<int64_t, std::string> order_of(const std::string& name) {
  if (name.starts_with("blk.")) return {1 + std::stoll(name.substr(4)), name};
  return {name.starts_with("output") ? INT64_MAX : 0, name};
}

// Looks at the scales where they matter and can be read.
std::optional<GgmlType> exact_type(const WeightLayout& layout, const WeightReader& read,
                                   std::string& reason, const Context& context) {
  const auto type = exact_ggml_type(layout, reason);
  return type && read && ggml_needs_scales(layout) ? exact_ggml_type(read().weight, reason, context)
                                                   : type;
}

}  // namespace

GgufModelWriter::GgufModelWriter(OpenModel source, WriterOptions options, Context context)
    : source_(std::move(source)),
      options_(std::move(options)),
      context_(std::move(context)),
      where_(source_.config_name()),
      spec_(gguf_spec(source_.config, where_)),
      config_(parse_config(source_.config, where_)) {
  if (options_.dtype)
    options_.types.plain = ggml_type_from_name(std::string(dtype_name(*options_.dtype)));
}

bool GgufModelWriter::takes(const std::string& tensor) const {
  return !source_.unused.contains(tensor) &&
         !(config_.tied_embeddings && tensor.starts_with("lm_head."));
}

GgufName GgufModelWriter::place_of(const std::string& name) const {
  const auto place = gguf_tensor_name(spec_, name);
  if (!place)
    throw Error(ErrorKind::unsupported, "tensor '" + name + "' has no place in GGUF",
                source_.folder.string(), "llama.cpp would compute something else without it");
  return *place;
}

int64_t GgufModelWriter::head_rows_of(const GgufName& place) const {
  return place.layout == GgufLayout::heads ? config_.head_dim : 0;
}

// The type that was asked for; nothing: the exact one.
std::optional<GgmlType> GgufModelWriter::wanted_type(const std::string& tensor, bool dense) const {
  const TensorTypes& types = options_.types;
  if (tensor == "position_embd.weight") return GgmlType::f32;
  if (types.output && tensor == "output.weight") return types.output;
  if (types.embedding && tensor == "token_embd.weight") return types.embedding;
  if (types.plain && dense) return types.plain;
  return types.all;
}

Fit GgufModelWriter::fit(const TargetModule& module, const WeightReader& read) const {
  const WeightLayout& layout = module.layout;
  const GgufName place = place_of(module.name + std::string(kWeightSuffix));
  const int64_t head = head_rows_of(place);
  if (head > 0 && (head % 2 != 0 || layout.out % head != 0))
    throw Error(ErrorKind::failed, "its rows are not whole heads", module.name);
  std::string missing, note;
  const auto exact = exact_type(layout, read, missing, context_);
  auto wanted = wanted_type(place.name, layout.is_dense());
  if (!wanted && !exact) {
    note = "has no exact type: " + missing;
    if (!options_.types.otherwise) return Fit::no(note);
    wanted = options_.types.otherwise;
  }
  const GgmlType type = wanted ? fitting_ggml_type(*wanted, layout.in, note) : *exact;
  // f32 holds every value of a narrower float.
  const bool wider = type == GgmlType::f32 && layout.is_dense() && exact.has_value();
  const How changed = ggml_is_quantized(type) ? How::requantized : How::plain;
  return {.how = exact == type || wider ? How::exact : changed,
          .reason = note,
          .tensor = place.name,
          .type = std::string(ggml_info(type).name)};
}

int64_t GgufModelWriter::Item::bytes() const {
  const GgmlTypeInfo& info = ggml_info(type);
  return element_count(shape) / info.block * info.bytes;
}

void GgufModelWriter::add_matrix(const ConvertedModule& module) {
  const TargetModule& target = module.target;
  const GgufName place = place_of(target.name + std::string(kWeightSuffix));
  items_.push_back({.name = place.name,
                    .source = target.name,
                    .type = ggml_type_from_name(module.type).value(),
                    .shape = {target.layout.out, target.layout.in},
                    .head_rows = head_rows_of(place),
                    .exact = module.how == How::exact || module.anew});
  // One by one: what a type becomes where rows are too short for it.
  std::string note;
  const auto asked = wanted_type(place.name, target.layout.is_dense());
  if (asked || options_.types.otherwise)
    fitting_ggml_type(asked ? *asked : *options_.types.otherwise, target.layout.in, note);
  if (!note.empty() && !module.reason.empty()) context_.progress->note(place.name + ": " + note);
}

void GgufModelWriter::add_vector(const std::string& name) {
  const GgufName place = place_of(name);
  const Shape shape = source_.source->describe(name).value().shape;
  if (shape.size() != 1)
    throw Error(ErrorKind::unsupported, "tensor '" + name + "' is " + shape_text(shape),
                source_.folder.string());
  items_.push_back(
      {.name = place.name, .source = name, .shape = shape, .head_rows = head_rows_of(place)});
}

int64_t GgufModelWriter::lay_out(const std::vector<ConvertedModule>& modules,
                                 const std::vector<TargetModule>& /*kept*/,
                                 const std::vector<std::string>& tensors) {
  for (const ConvertedModule& module : modules) add_matrix(module);
  for (const std::string& name : tensors) add_vector(name);
  made_ = gguf_rope_divisors(config_, where_);
  if (!made_.empty())
    items_.push_back({.name = kDivisors, .shape = {static_cast<int64_t>(made_.size())}});
  std::sort(items_.begin(), items_.end(),
            [](const Item& a, const Item& b) { return order_of(a.name) < order_of(b.name); });
  int64_t bytes = 0;
  for (size_t i = 0; i < items_.size(); ++i) {
    index_.emplace(items_[i].source, i);
    bytes += items_[i].bytes();
  }
  return bytes;
}

// The type of most weights of matrices.
GgmlType GgufModelWriter::main_type() const {
  std::map<GgmlType, int64_t> counts;
  for (const Item& item : items_) {
    if (item.shape.size() == 2) counts[item.type] += element_count(item.shape);
  }
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

GgufMetadata GgufModelWriter::metadata() const {
  GgufMetadata metadata;
  // An artifact lies in a folder of the cache, whose name says nothing.
  const Json& manifest = source_.manifest;
  const Json source = json_has(manifest, "source") ? manifest.at("source") : Json::object();
  const std::string folder = json_string(
      source, "name", where_, std::filesystem::weakly_canonical(source_.folder).stem().string());
  metadata.add("general.architecture", GgufValue::of_string(spec_.name));
  metadata.add("general.type", GgufValue::of_string("model"));
  metadata.add("general.name",
               GgufValue::of_string(options_.name.empty() ? folder : options_.name));
  metadata.add("general.file_type", GgufValue::of_u32(gguf_file_type(main_type())));
  metadata.add("general.quantization_version", GgufValue::of_u32(2));
  add_gguf_settings(spec_, config_, where_, metadata, context_);
  add_gguf_tokenizer(source_, config_.vocab, metadata, context_);
  return metadata;
}

void GgufModelWriter::begin(const Path& place) {
  std::vector<GgufTensor> tensors;
  for (const Item& item : items_) tensors.push_back({item.name, item.shape, item.type, 0, 0});
  file_.emplace(place);
  writer_ = std::make_unique<GgufWriter>(file_->path(), metadata(), std::move(tensors));
}

bool GgufModelWriter::finish(const Provenance& /*provenance*/) {
  if (!made_.empty()) writer_->put(index_.at({}), 0, std::as_bytes(std::span(made_)));
  writer_->finish();
  file_->commit(options_.replace);
  return true;
}

}  // namespace qwb
