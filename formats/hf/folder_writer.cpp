#include "formats/hf/folder_writer.h"

#include <algorithm>

#include "formats/companions.h"
#include "formats/convert_weights.h"
#include "formats/hf/plain.h"
#include "formats/model_modules.h"
#include "lib/base/written_files.h"
#include "lib/tensor/error_sum.h"
#include "lib/tensor/small_numbers.h"

namespace qwb {
namespace {

constexpr char kWiderFloats[] = "choose --dtype bf16 or f32";
constexpr int64_t kNarrowedPiece = int64_t{1} << 20;  // values read, narrowed and written at a time

std::string dtype_config_name(DType type) {
  if (type == DType::f32) return "float32";
  return type == DType::f16 ? "float16" : "bfloat16";
}

}  // namespace

FolderWriter::FolderWriter(OpenModel source, std::shared_ptr<const PackedWriter> packing,
                           WriterOptions options, Context context)
    : source_(std::move(source)),
      packing_(std::move(packing)),
      options_(std::move(options)),
      context_(std::move(context)),
      model_dtype_(options_.dtype.value_or(model_dtype(source_))) {}

DType FolderWriter::stored_type(DType type) const {
  return options_.dtype && dtype_is_float(type) ? *options_.dtype : type;
}

int64_t FolderWriter::lay_out(const std::vector<ConvertedModule>& modules,
                              const std::vector<TargetModule>& kept,
                              const std::vector<std::string>& tensors) {
  std::vector<TargetModule> plain = kept;
  for (const ConvertedModule& module : modules) {
    const bool packed = module.how != How::plain;
    const auto parts = packed ? packing_->layout(module.target) : plain_layout(module.target);
    layout_.insert(layout_.end(), parts.begin(), parts.end());
    (packed ? packed_ : plain).push_back(module.target);
    weights_ += module.target.layout.count();
  }
  for (const std::string& name : tensors) {
    const PartSpec spec = source_.source->describe(name).value();
    layout_.push_back({name, stored_type(spec.dtype), spec.shape});
    weights_ += element_count(spec.shape, name);
  }
  std::sort(layout_.begin(), layout_.end(),
            [](const PartSpec& a, const PartSpec& b) { return a.name < b.name; });
  for (size_t i = 0; i < packed_.size(); ++i) index_.emplace(packed_[i].name, i);
  settings_ = packing_->quantization_config(packed_, plain);
  for (const PartSpec& spec : layout_) bytes_ = checked_add(bytes_, part_bytes(spec), "model");
  return bytes_;
}

void FolderWriter::begin(const Path& place) {
  folder_.emplace(place, context_.stop);
  tensors_ = std::make_unique<ShardedWriter>(folder_->path(), layout_, options_.max_shard_bytes);
}

ModelWriter::Stored FolderWriter::put(const ConvertedModule& module, const Weight& weight,
                                      bool words) {
  TargetModule target = module.target;
  target.layout = layout_of(weight);
  const auto tensors = std::make_shared<PackedTensors>();
  Stored stored;
  if (module.how == How::plain) {
    *tensors = plain_tensors(target, weight, context_);
    stored.error = weight_distance(weight, nullptr, target.dtype, context_);
    require_floats_kept(stored.error, target.dtype, target.name, kWiderFloats);
  } else {
    packed_[index_.at(target.name)].layout = target.layout;
    *tensors = words ? packing_->write_words(target, weight, settings_, context_)
                     : packing_->write(target, weight, settings_, context_);
  }
  stored.write = [this, tensors] {
    for (const auto& [name, view] : tensors->views) tensors_->put_part(name, 0, view.bytes);
  };
  return stored;
}

void FolderWriter::put_tensor(const std::string& name) {
  const TensorView view = *source_.source->find(name);
  const DType type = stored_type(view.dtype);
  if (type == view.dtype) {
    const auto check = [&](const TensorView& piece) { require_finite(piece, name); };
    return tensors_->copy(name, *source_.source, check, context_);
  }
  std::vector<ErrorSum> errors;
  for (int64_t at = 0; at < view.count(); at += kNarrowedPiece) {
    context_.stop.check();
    const int64_t count = std::min(kNarrowedPiece, view.count() - at);
    FloatBuffer values(count);
    read_floats(view, at, count, values.data(), name);
    require_finite(values.data(), count, name);
    std::vector<std::byte> bytes(static_cast<size_t>(count * dtype_size(type)));
    narrow_floats(values.data(), count, type, bytes.data(), name);
    FloatBuffer stored(count);
    read_floats({type, {count}, bytes}, 0, count, stored.data(), name);
    errors.push_back(error_sum(values.data(), stored.data(), count));
    tensors_->put_part(name, at * dtype_size(type), bytes);
    const int64_t size = dtype_size(view.dtype);
    source_.source->release({view.dtype, {count}, view.bytes.subspan(at * size, count * size)});
  }
  require_floats_kept(relative_error(errors), type, name, kWiderFloats);
}

void FolderWriter::put_values(const std::string& name, const TensorView& values) {
  tensors_->put(name, values.bytes);
}

Json FolderWriter::config(const Provenance& provenance) const {
  Json config = source_.config;
  config.erase("quantization_config");
  config.erase("compression_config");
  if (options_.dtype || packing_->matrices() == Matrices::alone) {
    const char* key = json_has(config, "dtype") ? "dtype" : "torch_dtype";
    config[key] = dtype_config_name(model_dtype_);
  }
  if (settings_.is_null()) return config;
  Json settings = settings_;
  packing_->tell(provenance, settings);
  config["quantization_config"] = settings;
  return config;
}

bool FolderWriter::finish(const Provenance& provenance) {
  const Path& folder = folder_->path();
  tensors_->finish();
  std::future<FileHashes> hashes = hash_files_beside(folder, context_);
  write_file(folder / "config.json", json_text(config(provenance)));
  write_companions(source_, folder);
  if (const auto tokenizer = companion_text(source_, "tokenizer.json");
      tokenizer && tokenizer->find("\"tied_pieces\":") != std::string::npos) {
    context_.progress->note(
        "pieces of equal score, of which the leftmost is joined first: other programs, which know "
        "only an order of merges, will cut some texts differently with this tokenizer.json");
  }
  packing_->finish({.folder = folder,
                    .settings = settings_,
                    .modules = packed_,
                    .weights = weights_,
                    .bytes = bytes_},
                   provenance);
  write_file(folder / packing_->list_of_files(),
             written_files_text(hash_files(folder, context_, hashes.get())));
  return folder_->commit(options_.replace);
}

}  // namespace qwb
