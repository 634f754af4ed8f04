#include "lib/tensor/dtype.h"

#include <array>

namespace qwb {
namespace {

struct Row {
  DType type;
  std::string_view name;
  int64_t size;
};

constexpr std::array<Row, 15> kTypes = {{
    {DType::f64, "F64", 8},
    {DType::f32, "F32", 4},
    {DType::f16, "F16", 2},
    {DType::bf16, "BF16", 2},
    {DType::i64, "I64", 8},
    {DType::i32, "I32", 4},
    {DType::i16, "I16", 2},
    {DType::i8, "I8", 1},
    {DType::u64, "U64", 8},
    {DType::u32, "U32", 4},
    {DType::u16, "U16", 2},
    {DType::u8, "U8", 1},
    {DType::boolean, "BOOL", 1},
    {DType::f8_e4m3, "F8_E4M3", 1},
    {DType::f8_e8m0, "F8_E8M0", 1},
}};

}  // namespace

int64_t dtype_size(DType type) {
  return kTypes[static_cast<size_t>(type)].size;
}
std::string_view dtype_name(DType type) {
  return kTypes[static_cast<size_t>(type)].name;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const Row& row : kTypes) {
    if (row.name == name) return row.type;
  }
  return std::nullopt;
}

bool dtype_is_float(DType type) {
  return type <= DType::bf16;
}

}  // namespace qwb
