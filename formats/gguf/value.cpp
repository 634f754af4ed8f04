// Values of GGUF metadata.
#include <limits>

#include "formats/gguf/file.h"

namespace qwb {
namespace {

[[noreturn]] void wrong_kind(const char* wanted, const std::string& where) {
  throw Error(ErrorKind::failed, std::string("the value is not ") + wanted, where,
              "the file is damaged");
}

template <typename T>
GgufValue scalar(GgufKind kind, T value) {
  GgufValue result;
  result.kind = kind;
  result.data.assign(reinterpret_cast<const char*>(&value), sizeof(T));
  return result;
}

template <typename T>
GgufValue numbers(GgufKind kind, const std::vector<T>& values) {
  GgufValue result;
  result.kind = kind;
  result.is_array = true;
  result.data.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  return result;
}

template <typename T>
int64_t widened(const char* at, const std::string& where) {
  const T value = load<T>(at);
  if constexpr (sizeof(T) == 8 && std::is_unsigned_v<T>) {
    if (value > static_cast<T>(std::numeric_limits<int64_t>::max()))
      wrong_kind("below 2^63", where);
  }
  return static_cast<int64_t>(value);
}

}  // namespace

int64_t gguf_size(GgufKind kind) {
  switch (kind) {
    case GgufKind::u8:
    case GgufKind::i8:
    case GgufKind::boolean:
      return 1;
    case GgufKind::u16:
    case GgufKind::i16:
      return 2;
    case GgufKind::u32:
    case GgufKind::i32:
    case GgufKind::f32:
      return 4;
    case GgufKind::u64:
    case GgufKind::i64:
    case GgufKind::f64:
      return 8;
    case GgufKind::string:
    case GgufKind::array:
      return 0;
  }
  return 0;
}

int64_t GgufValue::count() const {
  if (!is_array) return 1;
  if (kind == GgufKind::string) return static_cast<int64_t>(strings.size());
  return static_cast<int64_t>(data.size()) / gguf_size(kind);
}

int64_t GgufValue::integer(const std::string& where, int64_t index) const {
  const char* at = data.data() + index * gguf_size(kind);
  switch (kind) {
    case GgufKind::u8:
    case GgufKind::boolean:
      return widened<uint8_t>(at, where);
    case GgufKind::i8:
      return widened<int8_t>(at, where);
    case GgufKind::u16:
      return widened<uint16_t>(at, where);
    case GgufKind::i16:
      return widened<int16_t>(at, where);
    case GgufKind::u32:
      return widened<uint32_t>(at, where);
    case GgufKind::i32:
      return widened<int32_t>(at, where);
    case GgufKind::u64:
      return widened<uint64_t>(at, where);
    case GgufKind::i64:
      return widened<int64_t>(at, where);
    default:
      wrong_kind("an integer", where);
  }
}

double GgufValue::number(const std::string& where, int64_t index) const {
  if (kind == GgufKind::f32) return static_cast<double>(load<float>(data.data() + 4 * index));
  if (kind == GgufKind::f64) return load<double>(data.data() + 8 * index);
  return static_cast<double>(integer(where, index));
}

const std::string& GgufValue::text(const std::string& where) const {
  if (is_array || kind != GgufKind::string) wrong_kind("a string", where);
  return data;
}

GgufValue GgufValue::of_u32(int64_t value) {
  return scalar(GgufKind::u32, static_cast<uint32_t>(value));
}
GgufValue GgufValue::of_f32(double value) {
  return scalar(GgufKind::f32, static_cast<float>(value));
}
GgufValue GgufValue::of_bool(bool value) {
  return scalar(GgufKind::boolean, static_cast<uint8_t>(value ? 1 : 0));
}
GgufValue GgufValue::of_string(std::string value) {
  GgufValue result;
  result.kind = GgufKind::string;
  result.data = std::move(value);
  return result;
}
GgufValue GgufValue::of_strings(std::vector<std::string> values) {
  GgufValue result;
  result.kind = GgufKind::string;
  result.is_array = true;
  result.strings = std::move(values);
  return result;
}
GgufValue GgufValue::of_floats(const std::vector<float>& values) {
  return numbers(GgufKind::f32, values);
}
GgufValue GgufValue::of_i32s(const std::vector<int32_t>& values) {
  return numbers(GgufKind::i32, values);
}

bool GgufMetadata::add(const std::string& key, GgufValue value) {
  if (!index_.emplace(key, entries_.size()).second) return false;
  entries_.emplace_back(key, std::move(value));
  return true;
}

const GgufValue* GgufMetadata::find(const std::string& key) const {
  const auto it = index_.find(key);
  return it == index_.end() ? nullptr : &entries_[it->second].second;
}

namespace {

const GgufValue& required(const GgufMetadata& metadata, const std::string& key,
                          const std::string& where) {
  const GgufValue* value = metadata.find(key);
  if (value == nullptr)
    throw Error(ErrorKind::failed, "the key '" + key + "' is missing", where,
                "the file is incomplete");
  return *value;
}

// Per-layer arrays whose values are all the same stand for that value.
int64_t one_integer(const GgufValue& value, const std::string& place) {
  if (value.is_array && (value.kind == GgufKind::string || value.count() == 0))
    wrong_kind("a number", place);
  const int64_t first = value.integer(place);
  for (int64_t i = 1; i < value.count(); ++i) {
    if (value.integer(place, i) != first)
      throw Error(ErrorKind::unsupported, "the layers differ in this value", place);
  }
  return first;
}

double one_number(const GgufValue& value, const std::string& place) {
  if (value.is_array || value.kind == GgufKind::string) wrong_kind("a number", place);
  return value.number(place);
}

}  // namespace

int64_t GgufMetadata::integer(const std::string& key, const std::string& where) const {
  return one_integer(required(*this, key, where), where + ": key '" + key + "'");
}
int64_t GgufMetadata::integer(const std::string& key, const std::string& where,
                              int64_t fallback) const {
  return find(key) == nullptr ? fallback : integer(key, where);
}
double GgufMetadata::number(const std::string& key, const std::string& where) const {
  return one_number(required(*this, key, where), where + ": key '" + key + "'");
}
double GgufMetadata::number(const std::string& key, const std::string& where,
                            double fallback) const {
  return find(key) == nullptr ? fallback : number(key, where);
}
std::string GgufMetadata::text(const std::string& key, const std::string& where) const {
  return required(*this, key, where).text(where + ": key '" + key + "'");
}
std::string GgufMetadata::text(const std::string& key, const std::string& where,
                               const std::string& fallback) const {
  return find(key) == nullptr ? fallback : text(key, where);
}

}  // namespace qwb
