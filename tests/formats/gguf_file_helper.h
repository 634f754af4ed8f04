// GGUF files made byte by byte, so that tests can lie in any field.
#pragma once

#include <cstdint>
#include <string>

namespace qwb {

class RawGguf {
 public:
  template <typename T>
  RawGguf& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  RawGguf& text(const std::string& value) { return put<uint64_t>(value.size()).raw(value); }
  RawGguf& raw(const std::string& value) {
    bytes_ += value;
    return *this;
  }
  RawGguf& head(int64_t tensors, int64_t keys, uint32_t version = 3) {
    return raw("GGUF").put(version).put(tensors).put(keys);
  }
  RawGguf& u32_key(const std::string& key, uint32_t value) {
    return text(key).put<uint32_t>(4).put(value);
  }
  // Of one or two dimensions, the row first.
  RawGguf& tensor(const std::string& name, int64_t row, int64_t rows, uint32_t type,
                  int64_t offset) {
    return text(name).put<uint32_t>(2).put(row).put(rows).put(type).put(offset);
  }
  RawGguf& pad(size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  RawGguf& zeros(size_t count) { return raw(std::string(count, '\0')); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace qwb
