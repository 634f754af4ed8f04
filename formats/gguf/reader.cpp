#include <unordered_set>

#include "formats/gguf/file.h"
#include "lib/base/file_kind.h"

namespace qwb {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr int64_t kMaxString = int64_t{1} << 30;
constexpr int64_t kMaxKey = 65535;
constexpr int64_t kMaxName = 63;  // ggml's names have room for 63 bytes and a NUL
constexpr int64_t kMaxAlignment = int64_t{1} << 20;
constexpr uint32_t kMaxDimensions = 4;

// Reads front to back; every size is compared with what is left before it is used.
class Cursor {
 public:
  Cursor(Bytes file, const std::string& where) : file_(file), where_(where) {}

  [[noreturn]] void damaged(const std::string& what) const {
    throw Error(ErrorKind::failed, what, where_ + ", byte " + std::to_string(at_),
                "the file is damaged or incomplete; fetch it again");
  }
  int64_t at() const { return at_; }
  int64_t left() const { return static_cast<int64_t>(file_.size()) - at_; }

  Bytes take(int64_t size, const char* what) {
    if (size < 0 || size > left()) damaged(std::string("the file ends inside ") + what);
    const Bytes bytes = file_.subspan(static_cast<size_t>(at_), static_cast<size_t>(size));
    at_ += size;
    return bytes;
  }
  template <typename T>
  T number(const char* what) {
    return load<T>(take(sizeof(T), what).data());
  }
  int64_t count(const char* what, int64_t least_bytes) {
    const auto value = number<int64_t>(what);
    if (value < 0 || value > left() / least_bytes)
      damaged(std::string(what) + " is " + std::to_string(value) + ", more than the file can hold");
    return value;
  }
  std::string string(const char* what, int64_t longest) {
    const int64_t size = count(what, 1);
    if (size > longest) damaged(std::string(what) + " of " + std::to_string(size) + " bytes");
    return std::string(as_text(take(size, what)));
  }

 private:
  Bytes file_;
  const std::string& where_;
  int64_t at_ = 0;
};

GgufKind read_kind(Cursor& cursor, const char* what) {
  const auto number = cursor.number<uint32_t>(what);
  if (number > static_cast<uint32_t>(GgufKind::f64))
    cursor.damaged("value type " + std::to_string(number) + " does not exist");
  return static_cast<GgufKind>(number);
}

void read_numbers(Cursor& cursor, int64_t count, GgufValue& value) {
  const Bytes bytes = cursor.take(count * gguf_size(value.kind), "a value");
  value.data = as_text(bytes);
  if (value.kind != GgufKind::boolean) return;
  for (const std::byte b : bytes) {
    if (static_cast<int>(b) > 1) cursor.damaged("a boolean is neither 0 nor 1");
  }
}

GgufValue read_value(Cursor& cursor) {
  GgufValue value;
  value.kind = read_kind(cursor, "a value type");
  if (value.kind == GgufKind::string) {
    value.data = cursor.string("a string", kMaxString);
    return value;
  }
  if (value.kind != GgufKind::array) {
    read_numbers(cursor, 1, value);
    return value;
  }
  value.is_array = true;
  value.kind = read_kind(cursor, "an array's type");
  if (value.kind == GgufKind::array) cursor.damaged("an array of arrays");
  const bool strings = value.kind == GgufKind::string;
  const int64_t count = cursor.count("an array's length", strings ? 8 : gguf_size(value.kind));
  if (!strings) {
    read_numbers(cursor, count, value);
    return value;
  }
  value.strings.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    value.strings.push_back(cursor.string("a string", kMaxString));
  return value;
}

// Everything of a tensor but its offset, which is compared with the running sum.
GgufTensor read_tensor(Cursor& cursor, const std::string& where) {
  GgufTensor tensor;
  tensor.name = cursor.string("a tensor's name", kMaxName);
  if (tensor.name.empty()) cursor.damaged("a tensor without a name");
  const auto dimensions = cursor.number<uint32_t>("a tensor's dimensions");
  if (dimensions > kMaxDimensions)
    cursor.damaged("tensor '" + tensor.name + "' has " + std::to_string(dimensions) +
                   " dimensions");
  tensor.shape.resize(dimensions);
  for (uint32_t i = 0; i < dimensions; ++i)
    tensor.shape[dimensions - 1 - i] = cursor.number<int64_t>("a tensor's dimensions");
  const auto number = cursor.number<uint32_t>("a tensor's type");
  const std::string place = where + ": tensor '" + tensor.name + "'";
  const auto type = ggml_type_from_number(number);
  if (!type) {
    const std::string name(ggml_foreign_name(number));
    if (name.empty())
      cursor.damaged("tensor '" + tensor.name + "' has type " + std::to_string(number));
    throw Error(ErrorKind::unsupported, "the element type " + name + " cannot be read", place,
                "take the model in F16, BF16, Q8_0 or one of Q2_K to Q6_K");
  }
  tensor.type = *type;
  const GgmlTypeInfo& info = ggml_info(*type);
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  const int64_t count = element_count(tensor.shape, place);
  if (row % info.block != 0)
    cursor.damaged("rows of tensor '" + tensor.name + "' are not whole blocks of " +
                   std::string(info.name));
  tensor.bytes = checked_mul(count / info.block, info.bytes, place);
  return tensor;
}

void read_tensors(Cursor& cursor, int64_t count, GgufHeader& header, const std::string& where) {
  std::unordered_set<std::string> names;
  int64_t next = 0;
  header.tensors.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    GgufTensor tensor = read_tensor(cursor, where);
    tensor.begin = cursor.number<int64_t>("a tensor's offset");
    if (tensor.begin != next)
      cursor.damaged("tensor '" + tensor.name + "' begins at " + std::to_string(tensor.begin) +
                     ", not at " + std::to_string(next));
    const int64_t end = checked_add(next, tensor.bytes, where);
    next = checked_add(end, header.alignment - 1, where) / header.alignment * header.alignment;
    if (!names.insert(tensor.name).second)
      cursor.damaged("tensor '" + tensor.name + "' appears twice");
    header.tensors.push_back(std::move(tensor));
  }
}

void check_version(Cursor& cursor, const std::string& where, GgufHeader& header) {
  if (cursor.number<uint32_t>("the magic") != kMagic)
    throw Error(ErrorKind::failed, "does not begin with GGUF", where,
                "the file is damaged, or of another kind");
  header.version = cursor.number<uint32_t>("the version");
  if (header.version == 2 || header.version == 3) return;
  const bool swapped = (header.version & 0xffff) == 0;
  throw Error(ErrorKind::unsupported,
              swapped ? "a big-endian file" : "GGUF version " + std::to_string(header.version),
              where, "versions 2 and 3 are read; convert it again with a current llama.cpp");
}

}  // namespace

GgufHeader parse_gguf_header(Bytes file, const std::string& where) {
  Cursor cursor(file, where);
  GgufHeader header;
  if (!as_text(file).starts_with("GGUF")) refuse_foreign(file, where);
  check_version(cursor, where, header);
  // Least bytes: a name of length 1 with no dimensions; a key of length 1 with one byte.
  const int64_t tensors = cursor.count("the number of tensors", 25);
  const int64_t keys = cursor.count("the number of keys", 14);
  for (int64_t i = 0; i < keys; ++i) {
    const std::string key = cursor.string("a key", kMaxKey);
    if (key.empty()) cursor.damaged("an empty key");
    if (!header.metadata.add(key, read_value(cursor)))
      cursor.damaged("key '" + key + "' appears twice");
  }
  const GgufValue* alignment = header.metadata.find("general.alignment");
  if (alignment != nullptr) {
    if (alignment->is_array || alignment->kind != GgufKind::u32)
      cursor.damaged("general.alignment is not a u32");
    header.alignment = alignment->integer(where);
    if (header.alignment < 1 || header.alignment > kMaxAlignment ||
        (header.alignment & (header.alignment - 1)) != 0)
      cursor.damaged("general.alignment is " + std::to_string(header.alignment));
  }
  read_tensors(cursor, tensors, header, where);
  header.data_begin = ceil_div(cursor.at(), header.alignment) * header.alignment;
  if (tensors == 0) {
    if (static_cast<int64_t>(file.size()) > header.data_begin)
      cursor.damaged("bytes after the end");
    return header;
  }
  const GgufTensor& last = header.tensors.back();
  const int64_t end =
      checked_add(header.data_begin, checked_add(last.begin, last.bytes, where), where);
  if (static_cast<int64_t>(file.size()) < end)
    cursor.damaged("the tensors need " + std::to_string(end) + " bytes, the file has " +
                   std::to_string(file.size()));
  // Writers pad the last tensor like the others, but not all do.
  if (static_cast<int64_t>(file.size()) - end >= header.alignment)
    cursor.damaged("bytes after the end");
  return header;
}

}  // namespace qwb
