// Bytes, spans of them, and arithmetic on sizes that come from files: checked before they are used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "lib/base/error.h"

namespace qwb {

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

inline Bytes as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads a little-endian value at any alignment. The caller has checked the range. (The project
// targets little-endian machines only.)
template <typename T>
T load(const void* at) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}
template <typename T>
void store(void* at, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(at, &value, sizeof(T));
}

// Products and sums of non-negative sizes read from files; throw `failed` with `where` on overflow
// or negative input.
inline int64_t checked_mul(int64_t a, int64_t b, const std::string& where) {
  int64_t result = 0;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &result)) {
    throw Error(ErrorKind::failed, "size overflows 63 bits", where,
                "the file is damaged or hostile");
  }
  return result;
}
inline int64_t checked_add(int64_t a, int64_t b, const std::string& where) {
  int64_t result = 0;
  if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &result)) {
    throw Error(ErrorKind::failed, "size overflows 63 bits", where,
                "the file is damaged or hostile");
  }
  return result;
}

inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace qwb
