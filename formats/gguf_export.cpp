#include "formats/gguf_export.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "formats/convert_weights.h"
#include "formats/gguf.h"
#include "formats/gguf_architecture.h"
#include "formats/gguf_repack.h"
#include "formats/gguf_tokenizer.h"
#include "formats/gguf_types.h"
#include "lib/base/parallel.h"
#include "lib/codec/dense.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/integer_grid.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/ggml_blocks.h"
#include "lib/exec/cpu/simd.h"
#include "lib/model/config.h"
#include "lib/tensor/error_sum.h"
#include "lib/tensor/small_numbers.h"

namespace qwb {
namespace {

constexpr int64_t kPieceValues = int64_t{1} << 19;  // encoded and written at a time

// A tensor on its way.
struct Item {
  GgufTensorReport report;
  GgufLayout layout = GgufLayout::plain;
  Shape shape;  // in GGUF
  int64_t head_rows = 0;
  std::vector<float> values;           // of a vector, ready
  std::optional<WeightLayout> stored;  // of a matrix
};

// The row of the weight that lies in stored row `row` (the reverse of GgmlBlocks::stored_row).
int64_t weight_row(int64_t row, int64_t head_rows) {
  if (head_rows == 0) return row;
  const int64_t within = row % head_rows;
  return row - within + within % 2 * (head_rows / 2) + within / 2;
}

class Exporter {
 public:
  Exporter(const OpenModel& open, const GgufOptions& options, const Context& context)
      : open_(open),
        options_(options),
        context_(context),
        where_(open.config_name()),
        architecture_(gguf_architecture(open.config, where_)),
        config_(parse_config(open.config, where_)) {
    collect();
  }

  GgufReport report() const;
  GgufReport write(const Path& target);

 private:
  void collect();
  void add_vector(const std::string& name, const GgufName& place);
  void add_matrix(const std::string& module, const GgufName& place);
  LoadedWeight load(const Item& item) const;
  std::optional<GgmlType> exact_type(const Item& item, std::string& reason) const;
  std::optional<GgmlType> wanted_type(const Item& item) const;
  void choose_type(Item& item);
  GgufMetadata metadata();
  GgmlType main_type() const;
  void write_item(GgufWriter& writer, size_t index);
  void write_rows(GgufWriter& writer, size_t index,
                  const std::function<void(int64_t, std::byte*)>& row) const;
  void write_values(GgufWriter& writer, size_t index, const Weight& weight);
  int64_t heads_of(GgufLayout layout) const {
    return layout == GgufLayout::heads || layout == GgufLayout::kv_heads ? config_.head_dim : 0;
  }

  const OpenModel& open_;
  const GgufOptions& options_;
  Context context_;
  std::string where_, architecture_;
  ModelConfig config_;
  std::vector<Item> items_;
};

// Embeddings first, then the layers, then what comes after them.
std::pair<int64_t, std::string> order_of(const std::string& name) {
  if (name.starts_with("blk.")) return {1 + std::stoll(name.substr(4)), name};
  return {name.starts_with("output") ? INT64_MAX : 0, name};
}

void Exporter::collect() {
  const auto place_of = [&](const std::string& name) {
    const auto place = gguf_tensor_name(architecture_, name);
    if (!place)
      throw Error(ErrorKind::unsupported, "tensor '" + name + "' has no place in GGUF",
                  open_.folder.string(), "llama.cpp would compute something else without it");
    return *place;
  };
  for (const std::string& name : open_.source->names()) {
    if (open_.unused.contains(name) || (config_.tied_embeddings && name.starts_with("lm_head.")))
      continue;
    const GgufName place = place_of(name);
    const TensorView view = *open_.source->find(name);
    view.shape.size() == 2 ? add_matrix(name.substr(0, name.size() - kWeightSuffix.size()), place)
                           : add_vector(name, place);
  }
  for (const std::string& module : open_.source->quantized_modules()) {
    if (config_.tied_embeddings && module == "lm_head") continue;
    add_matrix(module, place_of(module + std::string(kWeightSuffix)));
  }
  const std::vector<float> divisors = gguf_rope_divisors(open_.config, where_);
  if (!divisors.empty()) {
    Item item;
    item.report = {"rope_freqs.weight", "", GgmlType::f32, false, true, "", 0};
    item.shape = {static_cast<int64_t>(divisors.size())};
    item.values = divisors;
    items_.push_back(std::move(item));
  }
  std::sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) {
    return order_of(a.report.name) < order_of(b.report.name);
  });
}

void Exporter::add_vector(const std::string& name, const GgufName& place) {
  const TensorView view = *open_.source->find(name);
  if (view.shape.size() != 1)
    throw Error(ErrorKind::unsupported, "tensor '" + name + "' is " + shape_text(view.shape),
                open_.folder.string());
  Item item;
  item.report = {place.name, name, GgmlType::f32, false, true, "", 0};
  item.shape = view.shape;
  const std::vector<float> values = read_floats(view, name);
  const int64_t head = heads_of(place.layout);
  for (int64_t i = 0; i < view.shape[0]; ++i)
    item.values.push_back(values[static_cast<size_t>(weight_row(i, head))]);
  if (!simd::all_finite(item.values.data(), view.shape[0]))
    throw Error(ErrorKind::failed, "holds NaN or Inf", name, "the checkpoint is damaged");
  items_.push_back(std::move(item));
}

void Exporter::add_matrix(const std::string& module, const GgufName& place) {
  Item item;
  item.report = {place.name, module, GgmlType::f32, true, false, "", 0};
  item.layout = place.layout;
  item.head_rows = heads_of(place.layout);
  const bool dense = open_.source->find(module + std::string(kWeightSuffix)).has_value();
  item.stored = dense ? layout_of(load(item).weight) : open_.source->quantized_layout(module);
  item.shape = {item.stored->out, item.stored->in};
  if (item.head_rows > 0 && (item.head_rows % 2 != 0 || item.stored->out % item.head_rows != 0))
    throw Error(ErrorKind::failed, "its rows are not whole heads", module);
  choose_type(item);
  items_.push_back(std::move(item));
}

LoadedWeight Exporter::load(const Item& item) const {
  const std::string& module = item.report.source;
  const auto view = open_.source->find(module + std::string(kWeightSuffix));
  if (!view) return open_.source->load_quantized(module);
  const bool turned = item.layout == GgufLayout::transposed;
  const Weight weight{view->shape.at(turned ? 1 : 0), view->shape.at(turned ? 0 : 1),
                      turned ? Orientation::in_out : Orientation::out_in, DenseWeight{*view}};
  check_weight(weight, module);
  return {weight, {}};
}

std::optional<GgmlType> Exporter::exact_type(const Item& item, std::string& reason) const {
  const auto type = exact_ggml_type(*item.stored, reason);
  return type && ggml_needs_scales(*item.stored)
             ? exact_ggml_type(load(item).weight, reason, context_)
             : type;
}

// The type that was asked for; nothing: the exact one.
std::optional<GgmlType> Exporter::wanted_type(const Item& item) const {
  const std::string& name = item.report.name;
  if (name == "position_embd.weight") return GgmlType::f32;
  if (options_.choose) {
    if (const auto chosen = options_.choose(name)) return chosen;
  }
  if (options_.output && name == "output.weight") return options_.output;
  if (options_.embedding && name == "token_embd.weight") return options_.embedding;
  if (options_.plain && item.stored->is_dense()) return options_.plain;
  return options_.type;
}

void Exporter::choose_type(Item& item) {
  GgufTensorReport& report = item.report;
  std::string reason;
  const auto exact = exact_type(item, reason);
  auto wanted = wanted_type(item);
  if (!wanted && !exact) {
    if (!options_.otherwise)
      throw Error(ErrorKind::unsupported, "cannot be stored exactly: " + reason, report.source,
                  "name a type, such as Q8_0, to quantize it again");
    wanted = options_.otherwise;
    report.note = reason;
  }
  report.type = wanted ? fitting_ggml_type(*wanted, item.stored->in, report.note) : *exact;
  // f32 holds every value of a narrower float.
  const bool wider = report.type == GgmlType::f32 && item.stored->is_dense() && exact.has_value();
  report.exact = exact == report.type || wider;
  if (!report.note.empty()) context_.progress->note(report.name + ": " + report.note);
}

// The type of most weights.
GgmlType Exporter::main_type() const {
  std::map<GgmlType, int64_t> counts;
  for (const Item& item : items_) {
    if (item.stored) counts[item.report.type] += item.stored->out * item.stored->in;
  }
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

GgufMetadata Exporter::metadata() {
  GgufMetadata metadata;
  // An artifact lies in a folder of the cache, whose name says nothing.
  const Json& manifest = open_.manifest;
  const Json source = json_has(manifest, "source") ? manifest.at("source") : Json::object();
  const std::string folder = json_string(
      source, "name", where_, std::filesystem::weakly_canonical(open_.folder).stem().string());
  metadata.add("general.architecture", GgufValue::of_string(architecture_));
  metadata.add("general.type", GgufValue::of_string("model"));
  metadata.add("general.name",
               GgufValue::of_string(options_.name.empty() ? folder : options_.name));
  metadata.add("general.file_type", GgufValue::of_u32(gguf_file_type(main_type())));
  metadata.add("general.quantization_version", GgufValue::of_u32(2));
  add_gguf_settings(open_.config, where_, metadata, context_);
  add_gguf_tokenizer(open_, config_.vocab, metadata, context_);
  return metadata;
}

// Rows in pieces, on all threads; `row` fills the bytes of one stored row.
void Exporter::write_rows(GgufWriter& writer, size_t index,
                          const std::function<void(int64_t, std::byte*)>& row) const {
  const GgufTensor& tensor = writer.tensors()[index];
  const int64_t rows = tensor.shape[0], row_bytes = tensor.bytes / rows;
  const int64_t grain = std::max<int64_t>(1, kPieceValues / tensor.shape[1]);
  parallel_ranges(context_, rows, grain, [&](int64_t begin, int64_t end) {
    const AlignedBuffer piece((end - begin) * row_bytes);
    for (int64_t r = begin; r < end; ++r) row(r, piece.data() + (r - begin) * row_bytes);
    writer.put(index, begin * row_bytes, {piece.data(), static_cast<size_t>(piece.size())});
  });
}

// Through f32. The error is summed row by row in f64, so that threads do not change it.
void Exporter::write_values(GgufWriter& writer, size_t index, const Weight& weight) {
  Item& item = items_[index];
  const GgmlType type = item.report.type;
  const bool turned = weight.orientation == Orientation::in_out;
  FloatBuffer whole(turned ? weight.out * weight.in : 0);
  if (turned) dequantize(weight, whole.data(), context_.threads);
  std::vector<ErrorSum> errors(static_cast<size_t>(item.report.exact ? 0 : weight.out)),
      lost(errors.size());
  write_rows(writer, index, [&](int64_t stored, std::byte* out) {
    static thread_local FloatBuffer values, decoded;
    if (values.size() < weight.in)
      values = FloatBuffer(weight.in), decoded = FloatBuffer(weight.in);
    const int64_t row = weight_row(stored, item.head_rows);
    if (turned) {
      for (int64_t i = 0; i < weight.in; ++i) values[i] = whole[i * weight.out + row];
    } else {
      dequantize_rows(weight, row, row + 1, values.data());
    }
    if (!simd::all_finite(values.data(), weight.in))
      throw Error(ErrorKind::failed, "holds NaN or Inf", item.report.source,
                  "the checkpoint is damaged");
    try {
      options_.encode(type, values.data(), weight.in, out);
    } catch (const Error& error) {
      throw Error(error.kind(), error.what(), item.report.source);
    }
    if (errors.empty()) return;
    decode_ggml(type, out, weight.in, decoded.data());
    errors[static_cast<size_t>(row)] = error_sum(values.data(), decoded.data(), weight.in);
    if (ggml_is_quantized(type))
      lost[static_cast<size_t>(row)] =
          lost_to_scales(type, out, values.data(), decoded.data(), weight.in);
  });
  item.report.error = relative_error(errors);
  if (errors.empty()) return;
  if (ggml_is_quantized(type)) {
    require_codes_kept(relative_error(lost), ggml_code_bits(type),
                       std::string(ggml_info(type).name), item.report.source,
                       "keep this tensor in BF16 or F32 (--type bf16)");
  } else {
    require_floats_kept(item.report.error, dtype_from_name(ggml_info(type).name).value(),
                        item.report.source, "choose --type bf16 or f32");
  }
}

void Exporter::write_item(GgufWriter& writer, size_t index) {
  const Item& item = items_[index];
  if (!item.stored) {
    writer.put(index, 0, std::as_bytes(std::span(item.values)));
    return;
  }
  const LoadedWeight loaded = load(item);
  const Weight& weight = loaded.weight;
  require_finite(weight, item.report.source, context_);
  const auto* grid = weight.as<IntegerGrid>();
  const auto* ggml = weight.as<GgmlBlocks>();
  const auto* dense = weight.as<DenseWeight>();
  const GgufTensorReport& report = item.report;
  const auto row_bytes = static_cast<size_t>(ggml_row_bytes(ggml_info(report.type), weight.in));
  const bool same_bytes = dense != nullptr && weight.orientation == Orientation::out_in &&
                          ggml_info(report.type).bytes == dtype_size(dense->values.dtype) &&
                          dtype_name(dense->values.dtype) == ggml_info(report.type).name;
  if (report.exact && grid != nullptr) {
    write_rows(writer, index, [&](int64_t row, std::byte* out) {
      repack_ggml_row(*grid, report.type, weight.in, weight_row(row, item.head_rows), out);
    });
  } else if (report.exact && ggml != nullptr) {
    write_rows(writer, index, [&](int64_t row, std::byte* out) {
      std::memcpy(out, ggml->row_data(weight_row(row, item.head_rows)), row_bytes);
    });
  } else if (same_bytes) {
    write_rows(writer, index, [&](int64_t row, std::byte* out) {
      const auto from = static_cast<size_t>(weight_row(row, item.head_rows)) * row_bytes;
      std::memcpy(out, dense->values.bytes.data() + from, row_bytes);
    });
  } else {
    write_values(writer, index, weight);
  }
  for (const auto& [name, view] : weight.parts()) open_.source->release(view);
}

GgufReport Exporter::report() const {
  GgufReport report;
  for (const Item& item : items_) {
    report.tensors.push_back(item.report);
    report.tensor_bytes += element_count(item.shape) / ggml_info(item.report.type).block *
                           ggml_info(item.report.type).bytes;
  }
  return report;
}

GgufReport Exporter::write(const Path& target) {
  std::vector<GgufTensor> tensors;
  int64_t values = 0;
  for (const Item& item : items_) {
    tensors.push_back({item.report.name, item.shape, item.report.type, 0, 0});
    values += element_count(item.shape);
  }
  const Path temporary = temporary_sibling(target);
  try {
    GgufWriter writer(temporary, metadata(), std::move(tensors));
    context_.progress->begin("writing " + target.filename().string(), values);
    for (size_t i = 0; i < items_.size(); ++i) {
      write_item(writer, i);
      context_.progress->advance(element_count(items_[i].shape), items_[i].report.name);
    }
    writer.finish();
    context_.progress->end();
    place_file(temporary, target, options_.replace);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw;
  }
  return report();
}

}  // namespace

GgufReport plan_gguf(const OpenModel& open, const GgufOptions& options, const Context& context) {
  return Exporter(open, options, context).report();
}

GgufReport write_gguf(const OpenModel& open, const Path& target, const GgufOptions& options,
                      const Context& context) {
  return Exporter(open, options, context).write(target);
}

}  // namespace qwb
