#include "formats/gguf_export.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "formats/gguf.h"
#include "formats/gguf_architecture.h"
#include "formats/gguf_repack.h"
#include "formats/gguf_tokenizer.h"
#include "lib/base/interrupt.h"
#include "lib/base/parallel.h"
#include "lib/kernels/dequantize.h"
#include "lib/kernels/simd.h"
#include "lib/model/config.h"

namespace qwb {
namespace {

constexpr int64_t kPieceValues = int64_t{1} << 16;  // encoded at a time
constexpr std::string_view kWeightSuffix = ".weight";

// A tensor on its way.
struct Item {
  GgufTensorReport report;
  GgufLayout layout = GgufLayout::plain;
  Shape shape;  // in GGUF
  int64_t head_rows = 0;
  std::vector<float> values;     // of a vector, ready
  std::optional<Weight> weight;  // of a matrix
};

// The row of the weight that lies in stored row `row` (the reverse of GgmlBlocks::stored_row).
int64_t weight_row(int64_t row, int64_t head_rows) {
  if (head_rows == 0) return row;
  const int64_t within = row % head_rows;
  return row - within + within % 2 * (head_rows / 2) + within / 2;
}

GgmlType fallback_type(GgmlType type) {
  switch (type) {
    case GgmlType::q2_k:
    case GgmlType::q3_k:
      return GgmlType::q4_0;
    case GgmlType::q4_k:
      return GgmlType::q5_0;
    case GgmlType::q5_k:
      return GgmlType::q5_1;
    case GgmlType::q6_k:
      return GgmlType::q8_0;
    default:
      return GgmlType::f16;
  }
}

GgmlType fitting_type(GgmlType type, int64_t columns, std::string& note) {
  const GgmlType wanted = type;
  while (columns % ggml_info(type).block != 0) type = fallback_type(type);
  if (type != wanted)
    note = "rows of " + std::to_string(columns) + " are not whole blocks of " +
           std::string(ggml_info(wanted).name) + ": " + std::string(ggml_info(type).name);
  return type;
}

// general.file_type (llama.cpp's enum llama_ftype).
int64_t file_type(GgmlType type) {
  static const std::map<GgmlType, int64_t> numbers = {
      {GgmlType::f32, 0},   {GgmlType::f16, 1},   {GgmlType::bf16, 32}, {GgmlType::q4_0, 2},
      {GgmlType::q4_1, 3},  {GgmlType::q5_0, 8},  {GgmlType::q5_1, 9},  {GgmlType::q8_0, 7},
      {GgmlType::q2_k, 10}, {GgmlType::q3_k, 12}, {GgmlType::q4_k, 15}, {GgmlType::q5_k, 17},
      {GgmlType::q6_k, 18}};
  return numbers.at(type);
}

class Exporter {
 public:
  Exporter(const OpenModel& open, const GgufOptions& options, Progress& progress)
      : open_(open),
        options_(options),
        progress_(progress),
        where_(open.config_name()),
        architecture_(gguf_architecture(open.config, where_)),
        config_(parse_config(open.config, where_)) {}

  GgufReport write(const Path& target);

 private:
  void collect();
  void add_vector(const std::string& name, const GgufName& place);
  void add_matrix(const std::string& module, const GgufName& place);
  void choose_type(Item& item);
  GgufMetadata metadata();
  GgmlType main_type() const;
  void write_item(GgufWriter& writer, size_t index) const;
  void write_rows(GgufWriter& writer, size_t index,
                  const std::function<void(int64_t, std::byte*)>& row) const;
  void write_values(GgufWriter& writer, size_t index) const;
  int64_t heads_of(GgufLayout layout) const {
    return layout == GgufLayout::heads || layout == GgufLayout::kv_heads ? config_.head_dim : 0;
  }

  const OpenModel& open_;
  const GgufOptions& options_;
  Progress& progress_;
  std::string where_, architecture_;
  ModelConfig config_;
  std::vector<Item> items_;
};

// Tensors of the source that are no part of the model.
bool is_leftover(const std::string& name) {
  return name.ends_with("rotary_emb.inv_freq") || name.ends_with(".attn.bias") ||
         name.ends_with(".attn.masked_bias");
}

// Embeddings first, then the layers, then what comes after them.
std::pair<int64_t, std::string> order_of(const std::string& name) {
  if (name.starts_with("blk.")) return {1 + std::stoll(name.substr(4)), name};
  return {name.starts_with("output") ? INT64_MAX : 0, name};
}

void Exporter::collect() {
  const auto place_of = [&](const std::string& name) {
    const auto place = gguf_tensor_name(architecture_, name);
    if (!place)
      throw Error(ErrorKind::unsupported, "tensor '" + name + "' has no place in GGUF", open_.folder.string(),
                  "llama.cpp would compute something else without it");
    return *place;
  };
  for (const std::string& name : open_.source->names()) {
    if (is_leftover(name) || (config_.tied_embeddings && name.starts_with("lm_head."))) continue;
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
    item.report = {"rope_freqs.weight", "", GgmlType::f32, true, ""};
    item.shape = {static_cast<int64_t>(divisors.size())};
    item.values = divisors;
    items_.push_back(std::move(item));
  }
  std::sort(items_.begin(), items_.end(),
            [](const Item& a, const Item& b) { return order_of(a.report.name) < order_of(b.report.name); });
}

void Exporter::add_vector(const std::string& name, const GgufName& place) {
  const TensorView view = *open_.source->find(name);
  if (view.shape.size() != 1)
    throw Error(ErrorKind::unsupported, "tensor '" + name + "' is " + shape_text(view.shape),
                open_.folder.string());
  Item item;
  item.report = {place.name, name, GgmlType::f32, true, ""};
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
  item.report = {place.name, module, GgmlType::f32, false, ""};
  item.layout = place.layout;
  item.head_rows = heads_of(place.layout);
  item.weight = open_.source->quantized(module);
  if (!item.weight) {
    const TensorView view = open_.source->find(module + std::string(kWeightSuffix)).value();
    const bool turned = place.layout == GgufLayout::transposed;
    item.weight = Weight{view.shape[turned ? 1 : 0], view.shape[turned ? 0 : 1],
                         turned ? Orientation::in_out : Orientation::out_in, DenseWeight{view}};
  }
  check_weight(*item.weight, module);
  item.shape = {item.weight->out, item.weight->in};
  if (item.head_rows > 0 && (item.head_rows % 2 != 0 || item.weight->out % item.head_rows != 0))
    throw Error(ErrorKind::failed, "its rows are not whole heads", module);
  choose_type(item);
  items_.push_back(std::move(item));
}

void Exporter::choose_type(Item& item) {
  GgufTensorReport& report = item.report;
  std::optional<GgmlType> wanted = options_.type;
  if (options_.embedding && report.name == "token_embd.weight") wanted = options_.embedding;
  if (options_.output && report.name == "output.weight") wanted = options_.output;
  if (options_.choose) {
    if (const auto chosen = options_.choose(report.name)) wanted = chosen;
  }
  std::string reason;
  const auto exact = exact_ggml_type(*item.weight, reason);
  if (report.name == "position_embd.weight") {
    wanted = GgmlType::f32;
  } else if (!wanted) {
    if (!exact)
      throw Error(ErrorKind::unsupported, "cannot be stored exactly: " + reason, report.source,
                  "name a type, such as Q8_0, to quantize it again");
    report.type = *exact;
    report.exact = true;
    return;
  }
  report.type = fitting_type(*wanted, item.weight->in, report.note);
  // f32 holds every value of a narrower float.
  const bool wider = report.type == GgmlType::f32 && item.weight->is_dense() && exact.has_value();
  report.exact = exact == report.type || wider;
  if (!report.note.empty()) progress_.note(report.name + ": " + report.note);
}

// The type of most weights.
GgmlType Exporter::main_type() const {
  std::map<GgmlType, int64_t> counts;
  for (const Item& item : items_) {
    if (item.weight) counts[item.report.type] += item.weight->out * item.weight->in;
  }
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

GgufMetadata Exporter::metadata() {
  GgufMetadata metadata;
  const std::string folder = std::filesystem::weakly_canonical(open_.folder).stem().string();
  metadata.add("general.architecture", GgufValue::of_string(architecture_));
  metadata.add("general.type", GgufValue::of_string("model"));
  metadata.add("general.name", GgufValue::of_string(options_.name.empty() ? folder : options_.name));
  metadata.add("general.file_type", GgufValue::of_u32(file_type(main_type())));
  metadata.add("general.quantization_version", GgufValue::of_u32(2));
  add_gguf_settings(open_.config, where_, metadata, progress_);
  add_gguf_tokenizer(open_, config_.vocab, metadata, progress_);
  return metadata;
}

// Rows in pieces, on all threads; `row` fills the bytes of one stored row.
void Exporter::write_rows(GgufWriter& writer, size_t index,
                          const std::function<void(int64_t, std::byte*)>& row) const {
  const GgufTensor& tensor = writer.tensors()[index];
  const int64_t rows = tensor.shape[0], row_bytes = tensor.bytes / rows;
  const int64_t grain = std::max<int64_t>(1, kPieceValues / tensor.shape[1]);
  parallel_ranges(rows, grain, [&](int64_t begin, int64_t end) {
    check_interrupt();
    const AlignedBuffer piece((end - begin) * row_bytes);
    for (int64_t r = begin; r < end; ++r) row(r, piece.data() + (r - begin) * row_bytes);
    writer.put(index, begin * row_bytes, {piece.data(), static_cast<size_t>(piece.size())});
  });
}

// Through f32.
void Exporter::write_values(GgufWriter& writer, size_t index) const {
  const Item& item = items_[index];
  const Weight& weight = *item.weight;
  const bool turned = weight.orientation == Orientation::in_out;
  FloatBuffer whole(turned ? weight.out * weight.in : 0);
  if (turned) dequantize(weight, whole.data());
  write_rows(writer, index, [&](int64_t stored, std::byte* out) {
    static thread_local FloatBuffer values;
    if (values.size() < weight.in) values = FloatBuffer(weight.in);
    const int64_t row = weight_row(stored, item.head_rows);
    if (turned) {
      for (int64_t i = 0; i < weight.in; ++i) values[i] = whole[i * weight.out + row];
    } else {
      dequantize_rows(weight, row, row + 1, values.data());
    }
    if (!simd::all_finite(values.data(), weight.in))
      throw Error(ErrorKind::failed, "holds NaN or Inf", item.report.source, "the checkpoint is damaged");
    try {
      options_.encode(item.report.type, values.data(), weight.in, out);
    } catch (const Error& error) {
      throw Error(error.kind(), error.what(), item.report.source);
    }
  });
}

void Exporter::write_item(GgufWriter& writer, size_t index) const {
  const Item& item = items_[index];
  if (!item.weight) {
    writer.put(index, 0, std::as_bytes(std::span(item.values)));
    return;
  }
  const Weight& weight = *item.weight;
  const auto* grid = std::get_if<IntegerGrid>(&weight.storage);
  const auto* ggml = std::get_if<GgmlBlocks>(&weight.storage);
  const auto* dense = std::get_if<DenseWeight>(&weight.storage);
  const GgufTensorReport& report = item.report;
  if (report.exact && grid != nullptr) {
    return write_rows(writer, index, [&](int64_t row, std::byte* out) {
      repack_ggml_row(*grid, report.type, weight.in, weight_row(row, item.head_rows), out);
    });
  }
  const auto row_bytes = static_cast<size_t>(ggml_row_bytes(ggml_info(report.type), weight.in));
  if (report.exact && ggml != nullptr) {
    return write_rows(writer, index, [&](int64_t row, std::byte* out) {
      std::memcpy(out, ggml->row_data(weight_row(row, item.head_rows)), row_bytes);
    });
  }
  const bool same_bytes = dense != nullptr && weight.orientation == Orientation::out_in &&
                          ggml_info(report.type).bytes == dtype_size(dense->values.dtype) &&
                          dtype_name(dense->values.dtype) == ggml_info(report.type).name;
  if (!same_bytes) return write_values(writer, index);
  write_rows(writer, index, [&](int64_t row, std::byte* out) {
    const auto from = static_cast<size_t>(weight_row(row, item.head_rows)) * row_bytes;
    std::memcpy(out, dense->values.bytes.data() + from, row_bytes);
  });
}

GgufReport Exporter::write(const Path& target) {
  collect();
  std::vector<GgufTensor> tensors;
  GgufReport report;
  int64_t values = 0;
  for (const Item& item : items_) {
    tensors.push_back({item.report.name, item.shape, item.report.type, 0, 0});
    report.tensors.push_back(item.report);
    values += element_count(item.shape);
  }
  const Path temporary = temporary_sibling(target);
  try {
    GgufWriter writer(temporary, metadata(), std::move(tensors));
    progress_.begin("writing " + target.filename().string(), values);
    for (size_t i = 0; i < items_.size(); ++i) {
      write_item(writer, i);
      const auto view = open_.source->find(items_[i].report.source + std::string(kWeightSuffix));
      if (view) open_.source->release(*view);
      progress_.advance(element_count(items_[i].shape), items_[i].report.name);
    }
    writer.finish();
    report.bytes = writer.file_size();
    progress_.end();
    std::filesystem::rename(temporary, target);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw;
  }
  sync_folder(target.has_parent_path() ? target.parent_path() : Path("."));
  return report;
}

}  // namespace

GgufReport write_gguf(const OpenModel& open, const Path& target, const GgufOptions& options,
                      Progress& progress) {
  return Exporter(open, options, progress).write(target);
}

}  // namespace qwb
