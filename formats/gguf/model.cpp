#include "formats/gguf/model.h"

#include "formats/gguf/tokenizer.h"
#include "lib/base/hash.h"
#include "lib/base/parallel.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/model/config.h"

namespace qwb {
namespace {

constexpr std::string_view kWeightEnding = ".weight";

DType plain_dtype(GgmlType type) {
  return type == GgmlType::f32 ? DType::f32 : type == GgmlType::f16 ? DType::f16 : DType::bf16;
}

// Rows of every head back in their order (see GgmlBlocks).
void reorder_rows(Bytes from, int64_t rows, int64_t head_rows, MutableBytes to, Threads threads) {
  GgmlBlocks order;
  order.head_rows = head_rows;
  const size_t row_bytes = from.size() / static_cast<size_t>(rows);
  parallel_ranges(threads, rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const std::byte* source =
          from.data() + static_cast<size_t>(order.stored_row(row)) * row_bytes;
      std::memcpy(to.data() + static_cast<size_t>(row) * row_bytes, source, row_bytes);
    }
  });
}

template <typename T>
void transpose(Bytes from, int64_t rows, int64_t columns, MutableBytes to, Threads threads) {
  parallel_ranges(threads, columns, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = begin; column < end; ++column)
        store(to.data() + (column * rows + row) * static_cast<int64_t>(sizeof(T)),
              load<T>(from.data() + (row * columns + column) * static_cast<int64_t>(sizeof(T))));
    }
  });
}

}  // namespace

std::shared_ptr<const GgufModel> GgufModel::open(const Path& path, Threads threads) {
  std::error_code ignored;
  Path file = path;
  if (std::filesystem::is_directory(path, ignored)) {
    const auto found = gguf_in_folder(path);
    if (!found) throw Error(ErrorKind::not_found, "no .gguf file", path.string());
    file = *found;
  }
  auto model = std::make_shared<GgufModel>();
  model->threads_ = threads;
  model->file_ = GgufFile::open(file);
  const std::string where = model->file_.paths().front().string();
  for (const Path& part : model->file_.paths()) model->source_files_.push_back(source_file(part));
  model->config_ = huggingface_config(model->file_, where);
  // Sizes that a model can have.
  model->head_dim_ = parse_config(model->config_, "config.json made from " + where).head_dim;
  const GgufSpec& spec = *architecture_of_gguf(model->file_.metadata(), where).gguf;
  for (const std::string& name : model->file_.tensor_names())
    model->add(spec, *model->file_.find(name), where);
  return model;
}

void GgufModel::add(const GgufSpec& spec, const GgufTensor& tensor, const std::string& where) {
  if (spec.rope && tensor.name == "rope_freqs.weight") return;  // is in the settings
  const auto name = huggingface_tensor_name(spec, tensor.name);
  if (!name)
    throw Error(ErrorKind::unsupported,
                "tensor '" + tensor.name + "' has no counterpart in a " + spec.name, where,
                "without it the model would compute something else");
  if (tensor.name == "output.weight" && json_bool(config_, "tie_word_embeddings", where, true))
    return;
  const Entry entry{&tensor, name->layout};
  const int64_t head = head_rows(entry);
  if (tensor.shape.empty() || tensor.shape.size() > 2 || tensor.bytes == 0 ||
      (head > 0 && (head % 2 != 0 || tensor.shape[0] % head != 0)) ||
      (entry.layout == GgufLayout::transposed && tensor.shape.size() != 2))
    throw Error(ErrorKind::failed, "tensor '" + tensor.name + "' is " + shape_text(tensor.shape),
                where, "the file is damaged");
  if (!ggml_is_quantized(tensor.type)) {
    plain_.emplace(name->name, entry);
    return;
  }
  if (tensor.shape.size() != 2 || !name->name.ends_with(kWeightEnding))
    throw Error(ErrorKind::unsupported, "tensor '" + tensor.name + "' is quantized and no matrix",
                where);
  modules_.emplace(name->name.substr(0, name->name.size() - kWeightEnding.size()), entry);
}

int64_t GgufModel::head_rows(const Entry& entry) const {
  return entry.layout == GgufLayout::heads ? head_dim_ : 0;
}

TensorView GgufModel::plain_view(const Entry& entry) const {
  return {plain_dtype(entry.tensor->type), entry.tensor->shape, file_.bytes(*entry.tensor)};
}

std::optional<TensorView> GgufModel::find(const std::string& name) const {
  const auto it = plain_.find(name);
  if (it == plain_.end()) return std::nullopt;
  if (it->second.layout == GgufLayout::plain) return plain_view(it->second);
  return rearranged(name, it->second).view();
}

std::optional<PartSpec> GgufModel::describe(const std::string& name) const {
  const auto it = plain_.find(name);
  if (it == plain_.end()) return std::nullopt;
  Shape shape = it->second.tensor->shape;
  if (it->second.layout == GgufLayout::transposed) std::swap(shape.front(), shape.back());
  return PartSpec{name, plain_dtype(it->second.tensor->type), shape};
}

const Tensor& GgufModel::rearranged(const std::string& name, const Entry& entry) const {
  const std::lock_guard lock(mutex_);
  const auto known = copies_.find(name);
  if (known != copies_.end()) return known->second;
  const TensorView stored = plain_view(entry);
  if (entry.layout != GgufLayout::transposed) {
    Tensor copy(stored.dtype, stored.shape);
    reorder_rows(stored.bytes, stored.shape[0], head_rows(entry), copy.bytes(), threads_);
    return copies_.emplace(name, std::move(copy)).first->second;
  }
  Tensor copy(stored.dtype, {stored.shape[1], stored.shape[0]});
  if (dtype_size(stored.dtype) == 4) {
    transpose<uint32_t>(stored.bytes, stored.shape[0], stored.shape[1], copy.bytes(), threads_);
  } else {
    transpose<uint16_t>(stored.bytes, stored.shape[0], stored.shape[1], copy.bytes(), threads_);
  }
  return copies_.emplace(name, std::move(copy)).first->second;
}

std::vector<std::string> GgufModel::names() const {
  std::vector<std::string> result;
  for (const auto& [name, entry] : plain_) result.push_back(name);
  return result;
}

std::optional<Weight> GgufModel::quantized(const std::string& module) const {
  const auto it = modules_.find(module);
  if (it == modules_.end()) return std::nullopt;
  const GgufTensor& tensor = *it->second.tensor;
  const Bytes bytes = file_.bytes(tensor);
  const int64_t out = tensor.shape[0];
  GgmlBlocks blocks;
  blocks.type = tensor.type;
  blocks.blocks = {DType::u8, {out, static_cast<int64_t>(bytes.size()) / out}, bytes};
  blocks.head_rows = head_rows(it->second);
  Weight weight{out, tensor.shape[1], Orientation::out_in, std::move(blocks)};
  check_weight(weight, module);
  return weight;
}

std::vector<std::string> GgufModel::quantized_modules() const {
  std::vector<std::string> result;
  for (const auto& [name, entry] : modules_) result.push_back(name);
  return result;
}

bool GgufModel::mapped(const TensorView& view) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [name, copy] : copies_) {
    const Bytes bytes = copy.view().bytes;
    if (view.bytes.data() >= bytes.data() && view.bytes.data() < bytes.data() + bytes.size())
      return false;
  }
  return true;
}

// The hints need only the address, so that any split's mapping can give them.
void GgufModel::release(const TensorView& view) const {
  if (mapped(view)) file_.mapped().drop(view.bytes);
}
void GgufModel::prefetch(const TensorView& view) const {
  if (mapped(view)) file_.mapped().prefetch(view.bytes);
}

std::vector<StoredTensor> GgufModel::stored_tensors() const {
  std::vector<StoredTensor> list;
  for (const std::string& name : file_.tensor_names()) {
    const GgufTensor& tensor = *file_.find(name);
    list.push_back({.name = name,
                    .type = std::string(ggml_info(tensor.type).name),
                    .shape = tensor.shape,
                    .bytes = tensor.bytes,
                    .file = file_.path_of(tensor).filename().string()});
  }
  return list;
}

std::string GgufModel::content_hash(const Path& memo_folder, const Context& context) const {
  return remembered_hash(memo_folder, file_.paths().front(), source_files_, [&] {
    const auto names = file_.tensor_names();
    std::vector<std::string> digests(names.size());
    parallel_for(context, static_cast<int64_t>(names.size()), [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      const Bytes bytes = file_.bytes(*file_.find(names[at]));
      digests[at] = tensor_digest(*this, {DType::u8, {static_cast<int64_t>(bytes.size())}, bytes},
                                  context.stop);
    });
    Hasher hasher;
    hasher.field("qwb-gguf-1").field(json_canonical(config_));
    for (size_t i = 0; i < names.size(); ++i) {
      const GgufTensor& tensor = *file_.find(names[i]);
      hasher.field(names[i])
          .field(ggml_info(tensor.type).name)
          .field(shape_text(tensor.shape))
          .field(digests[i]);
    }
    return hasher.hex();
  });
}

const std::map<std::string, std::string>* GgufModel::companions() const {
  const std::lock_guard lock(mutex_);
  if (!companions_) companions_ = gguf_companions(file_.metadata(), file_.paths().front().string());
  return &*companions_;
}

}  // namespace qwb
