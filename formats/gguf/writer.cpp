#include <unordered_set>

#include "formats/gguf/file.h"

namespace qwb {
namespace {

[[noreturn]] void misuse(const std::string& what, const Path& path) {
  throw Error(ErrorKind::usage, what, path.string());
}

class HeaderBytes {
 public:
  template <typename T>
  void number(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void string(const std::string& value) {
    number(static_cast<uint64_t>(value.size()));
    text_ += value;
  }
  void value(const GgufValue& v) {
    if (v.is_array) {
      number(static_cast<uint32_t>(GgufKind::array));
      number(static_cast<uint32_t>(v.kind));
      number(static_cast<uint64_t>(v.count()));
      for (const std::string& text : v.strings) string(text);
      text_ += v.data;
      return;
    }
    number(static_cast<uint32_t>(v.kind));
    v.kind == GgufKind::string ? string(v.data) : raw(v.data);
  }
  void raw(const std::string& bytes) { text_ += bytes; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

int64_t padded(int64_t size, int64_t alignment, const std::string& where) {
  return checked_add(size, alignment - 1, where) / alignment * alignment;
}

// Sets begin and bytes; returns the size of the data.
int64_t lay_out(std::vector<GgufTensor>& tensors, int64_t alignment, const Path& path) {
  int64_t at = 0;
  std::unordered_set<std::string> names;
  for (GgufTensor& tensor : tensors) {
    if (tensor.name.empty() || tensor.name.size() > 63 || !names.insert(tensor.name).second)
      misuse("'" + tensor.name + "' cannot be a tensor's name, or is used twice", path);
    if (tensor.shape.empty() || tensor.shape.size() > 4)
      misuse(
          "tensor '" + tensor.name + "' has " + std::to_string(tensor.shape.size()) + " dimensions",
          path);
    const GgmlTypeInfo& info = ggml_info(tensor.type);
    if (tensor.shape.back() % info.block != 0)
      misuse(
          "rows of tensor '" + tensor.name + "' are not whole blocks of " + std::string(info.name),
          path);
    tensor.begin = at;
    tensor.bytes =
        checked_mul(element_count(tensor.shape, tensor.name) / info.block, info.bytes, tensor.name);
    at = padded(checked_add(at, tensor.bytes, tensor.name), alignment, tensor.name);
  }
  return at;
}

}  // namespace

GgufWriter::GgufWriter(const Path& path, const GgufMetadata& metadata,
                       std::vector<GgufTensor> tensors, int64_t alignment)
    : path_(path), tensors_(std::move(tensors)) {
  const int64_t data = lay_out(tensors_, alignment, path);
  HeaderBytes header;
  header.raw("GGUF");
  header.number(uint32_t{3});
  header.number(static_cast<int64_t>(tensors_.size()));
  header.number(static_cast<int64_t>(metadata.entries().size()));
  for (const auto& [key, value] : metadata.entries()) {
    if (key.empty() || key.size() > 65535) misuse("'" + key + "' cannot be a key", path);
    header.string(key);
    header.value(value);
  }
  for (const GgufTensor& tensor : tensors_) {
    header.string(tensor.name);
    header.number(static_cast<uint32_t>(tensor.shape.size()));
    for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it) header.number(*it);
    header.number(static_cast<uint32_t>(tensor.type));
    header.number(tensor.begin);
  }
  data_begin_ = padded(static_cast<int64_t>(header.text().size()), alignment, path.string());
  file_size_ = checked_add(data_begin_, data, path.string());
  written_ = std::make_unique<std::atomic<int64_t>[]>(tensors_.size());
  file_ = OutputFile::create(path, file_size_);
  try {
    file_.write(0, as_bytes(header.text()));
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
    throw;
  }
}

GgufWriter::~GgufWriter() {
  if (finished_) return;
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

void GgufWriter::put(size_t index, int64_t offset, Bytes content) {
  const GgufTensor& tensor = tensors_.at(index);
  const auto size = static_cast<int64_t>(content.size());
  if (offset < 0 || offset > tensor.bytes || size > tensor.bytes - offset)
    misuse("bytes beyond tensor '" + tensor.name + "'", path_);
  file_.write(data_begin_ + tensor.begin + offset, content);
  written_[index] += size;
}

void GgufWriter::finish() {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (written_[i] != tensors_[i].bytes)
      misuse("not every byte of tensor '" + tensors_[i].name + "' was written once", path_);
  }
  file_.finish();
  finished_ = true;
}

}  // namespace qwb
