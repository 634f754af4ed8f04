#include "formats/gguf/repack.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/codec/dense.h"
#include "lib/codec/fp4_groups.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/integer_grid.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {
namespace {

constexpr int64_t kGroup = 32;

int zero_bits(const IntegerGrid& grid) {
  return grid.symmetric() ? 0 : grid.bits;
}

std::optional<GgmlType> grid_type(int bits, bool symmetric) {
  if (!symmetric)
    return bits <= 4   ? std::optional(GgmlType::q4_1)
           : bits == 5 ? std::optional(GgmlType::q5_1)
                       : std::nullopt;
  return bits <= 4 ? GgmlType::q4_0 : bits == 5 ? GgmlType::q5_0 : GgmlType::q8_0;
}

bool fits_half(float value) {
  return std::isfinite(value) && f16_to_f32(f32_to_f16(value)) == value;
}

// Scales and zeros of one row.
struct GroupRow {
  std::vector<float> scales;
  std::vector<uint8_t> zeros;

  GroupRow(const IntegerGrid& grid, int64_t row) {
    const int64_t groups = grid.scales.shape[1];
    scales.resize(static_cast<size_t>(groups));
    zeros.assign(static_cast<size_t>(groups), static_cast<uint8_t>(1 << (grid.bits - 1)));
    read_floats(grid.scales, row * groups, groups, scales.data(), "scales");
    if (zero_bits(grid) > 0)
      unpack_codes(grid.zeros.bytes.data() + row * grid.zeros.shape[1], groups, grid.bits,
                   zeros.data());
  }
};

// The first group of a row that f16 cannot hold, or -1.
int64_t misfit(const IntegerGrid& grid, int64_t row) {
  const GroupRow groups(grid, row);
  for (size_t g = 0; g < groups.scales.size(); ++g) {
    const float low = -static_cast<float>(groups.zeros[g]) * groups.scales[g];
    if (!fits_half(groups.scales[g]) || (zero_bits(grid) > 0 && !fits_half(low)))
      return static_cast<int64_t>(g);
  }
  return -1;
}

std::string misfit_text(const IntegerGrid& grid, int64_t row, int64_t group) {
  const GroupRow groups(grid, row);
  const float scale = groups.scales[group];
  const std::string place =
      " (row " + std::to_string(row) + ", group " + std::to_string(group) + ")";
  if (std::fabs(scale) >= 65520.0f)
    return "the scale " + std::to_string(scale) + " overflows f16" + place;
  if (!fits_half(scale))
    return "the scale " + std::to_string(scale) + " has more digits than f16" + place;
  return "the minimum -" + std::to_string(groups.zeros[group]) + " * " + std::to_string(scale) +
         " has more digits than f16" + place;
}

std::optional<GgmlType> exact_grid_type(const IntegerGrid& grid, int64_t in, std::string& reason) {
  const int bits = grid.bits;
  const int64_t group = grid.group_size;
  const auto type = grid_type(bits, grid.symmetric());
  if (!type) {
    reason = "GGUF has no " + std::to_string(bits) + "-bit blocks with zero points";
  } else if (!grid.in_order()) {
    reason = "its groups are not runs of columns (act-order)";
  } else if (in % kGroup != 0 || (group % kGroup != 0 && group < in)) {
    reason = "groups of " + std::to_string(group) + " in rows of " + std::to_string(in) +
             " are not blocks of 32";
  } else {
    return type;
  }
  return std::nullopt;
}

// The first row with a scale or minimum that f16 cannot hold, or the number of rows.
int64_t first_misfit(const IntegerGrid& grid, int64_t rows, const Context& context) {
  std::atomic<int64_t> bad{rows};
  parallel_ranges(context, rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end && row < bad; ++row) {
      if (misfit(grid, row) < 0) continue;
      for (int64_t known = bad; row < known && !bad.compare_exchange_weak(known, row);) {
      }
    }
  });
  return bad;
}

// Codes 0..31 of a block as Q4 or Q5 stores them: high bits (of Q5) at `at`, then nibbles.
void put_codes(const uint8_t* codes, bool five, std::byte* at) {
  if (five) {
    uint32_t high = 0;
    for (int i = 0; i < 32; ++i) high |= static_cast<uint32_t>(codes[i] >> 4) << i;
    store(at, high);
    at += 4;
  }
  for (int i = 0; i < 16; ++i)
    at[i] = static_cast<std::byte>((codes[i] & 15) | (codes[i + 16] & 15) << 4);
}

// The 32 codes of a 5-bit block.
void take_five_bits(const std::byte* at, uint8_t* codes) {
  const auto high = load<uint32_t>(at);
  at += 4;
  for (int i = 0; i < 32; ++i) {
    const int byte = static_cast<int>(at[i % 16]);
    codes[i] = static_cast<uint8_t>((i < 16 ? byte & 15 : byte >> 4) |
                                    static_cast<int>(high >> i & 1u) << 4);
  }
}

// Eight low halves of bytes as four bytes, the first of each pair in the low half.
uint32_t joined(uint64_t nibbles) {
  nibbles = (nibbles | nibbles >> 4) & 0x00ff00ff00ff00ffu;
  nibbles = (nibbles | nibbles >> 8) & 0x0000ffff0000ffffu;
  return static_cast<uint32_t>(nibbles | nibbles >> 16);
}

// The 32 codes of a 4-bit block as a grid's row stores them.
void take_nibbles(const std::byte* at, std::byte* packed) {
  constexpr uint64_t kLow = 0x0f0f0f0f0f0f0f0fu;
  for (int half = 0; half < 2; ++half) {
    const auto bytes = load<uint64_t>(at + 8 * half);
    store(packed + 4 * half, joined(bytes & kLow));
    store(packed + 8 + 4 * half, joined(bytes >> 4 & kLow));
  }
}

struct GridShape {
  int bits;
  bool symmetric;
};

std::optional<GridShape> grid_shape(GgmlType type) {
  switch (type) {
    case GgmlType::q4_0:
      return GridShape{4, true};
    case GgmlType::q5_0:
      return GridShape{5, true};
    case GgmlType::q8_0:
      return GridShape{8, true};
    case GgmlType::q4_1:
      return GridShape{4, false};
    case GgmlType::q5_1:
      return GridShape{5, false};
    default:
      return std::nullopt;
  }
}

std::optional<GgmlType> exact_float_type(const Fp4Groups& groups, int64_t in, std::string& reason) {
  if (!groups.has_global() && groups.group_size == kGroup && in % kGroup == 0)
    return GgmlType::mxfp4;
  reason = groups.has_global() ? "GGUF models hold no groups of 4-bit floats with a global scale"
                               : "groups of " + std::to_string(groups.group_size) + " in rows of " +
                                     std::to_string(in) + " are not blocks of 32";
  return std::nullopt;
}

// The bytes of 32 codes of MXFP4 as Fp4Groups holds them: neighbours share a byte.
void take_mxfp4(const std::byte* block, std::byte* codes, std::byte* scale) {
  *scale = block[0];
  take_nibbles(block + 1, codes);
}

QuantizedTensor floats_from_mxfp4(const Weight& weight, const Context& context) {
  const auto& ggml = weight.get<GgmlBlocks>();
  QuantizedTensor tensor(fp4_groups_layout(weight.out, weight.in, kMxfp4));
  const int64_t groups = weight.in / kGroup;
  std::byte* const codes = tensor.parts.at("codes").bytes().data();
  std::byte* const scales = tensor.parts.at("scales").bytes().data();
  parallel_ranges(context, weight.out, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const std::byte* block = ggml.row_data(row);
      for (int64_t g = row * groups; g < (row + 1) * groups; ++g, block += kGroup / 2 + 1)
        take_mxfp4(block, codes + g * kGroup / 2, scales + g);
    }
  });
  return tensor;
}

WeightLayout grid_layout_of(const WeightShape& weight, const GridShape& shape) {
  return integer_grid_layout(
      weight.out, weight.in,
      {.bits = shape.bits, .group_size = kGroup, .symmetric = shape.symmetric});
}

// The zero point z for which m = -z * d, if there is one; a block without a scale has only its
// minimum, which must be 0.
std::optional<uint8_t> zero_of(float d, float m, int bits) {
  if (m == 0) return 0;
  const float zero = d != 0 ? -m / d : -1.0f;
  if (!(zero >= 0 && zero < static_cast<float>(1 << bits)) || zero != std::floor(zero) ||
      -zero * d != m)
    return std::nullopt;
  return static_cast<uint8_t>(zero);
}

std::optional<uint8_t> block_zero(const std::byte* block, int bits) {
  return zero_of(f16_to_f32(load<uint16_t>(block)), f16_to_f32(load<uint16_t>(block + 2)), bits);
}

bool has_whole_zeros(const GgmlBlocks& ggml, int64_t rows, int64_t groups, int bits,
                     const Context& context) {
  std::atomic<bool> whole{true};
  parallel_ranges(context, rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end && whole; ++row) {
      const std::byte* block = ggml.row_data(row);
      for (int64_t g = 0; g < groups && whole; ++g, block += ggml_info(ggml.type).bytes) {
        if (!block_zero(block, bits)) whole = false;
      }
    }
  });
  return whole;
}

}  // namespace

std::optional<GgmlType> exact_ggml_type(const WeightLayout& layout, std::string& reason) {
  if (const auto* dense = layout.as<DenseWeight>()) {
    const DType type = dense->values.dtype;
    if (type == DType::f16) return GgmlType::f16;
    if (type == DType::bf16) return GgmlType::bf16;
    if (type == DType::f32) return GgmlType::f32;
    reason = "GGUF models hold no " + std::string(dtype_name(type));
    return std::nullopt;
  }
  if (const auto* ggml = layout.as<GgmlBlocks>()) return ggml->type;
  if (const auto* grid = layout.as<IntegerGrid>()) return exact_grid_type(*grid, layout.in, reason);
  if (const auto* floats = layout.as<Fp4Groups>())
    return exact_float_type(*floats, layout.in, reason);
  reason = "GGUF has no blocks like those of " + layout.codec();
  return std::nullopt;
}

bool ggml_needs_scales(const WeightLayout& layout) {
  const auto* grid = layout.as<IntegerGrid>();
  return grid != nullptr && (!grid->symmetric() || grid->scales.dtype != DType::f16);
}

std::optional<GgmlType> exact_ggml_type(const Weight& weight, std::string& reason,
                                        const Context& context) {
  const auto type = exact_ggml_type(static_cast<const WeightLayout&>(weight), reason);
  const auto* grid = weight.as<IntegerGrid>();
  if (!type || grid == nullptr) return type;
  const int64_t bad = first_misfit(*grid, weight.out, context);
  if (bad == weight.out) return type;
  reason = misfit_text(*grid, bad, misfit(*grid, bad));
  return std::nullopt;
}

void repack_ggml_row(const IntegerGrid& grid, GgmlType type, int64_t columns, int64_t row,
                     std::byte* out) {
  const GroupRow groups(grid, row);
  if (!simd::all_finite(groups.scales.data(), static_cast<int64_t>(groups.scales.size())))
    throw Error(ErrorKind::failed, "row " + std::to_string(row) + " has a scale that is no number");
  std::vector<uint8_t> codes(static_cast<size_t>(columns));
  unpack_codes(grid.codes.bytes.data() + row * grid.codes.shape[1], columns, grid.bits,
               codes.data());
  const bool five = type == GgmlType::q5_0 || type == GgmlType::q5_1;
  // A symmetric code stands for code - 2^(bits - 1), and the block has its own such offset.
  const int offset = !grid.symmetric() ? 0 : (five ? 16 : 8) - (1 << (grid.bits - 1));
  for (int64_t first = 0; first < columns; first += kGroup) {
    const auto group = static_cast<size_t>(first / grid.group_size);
    const uint8_t* block = codes.data() + first;
    store(out, f32_to_f16(groups.scales[group]));
    out += 2;
    if (type == GgmlType::q8_0) {
      for (int i = 0; i < 32; ++i)
        *out++ = static_cast<std::byte>(block[i] - (1 << (grid.bits - 1)));
      continue;
    }
    if (!grid.symmetric()) {
      store(out, f32_to_f16(-static_cast<float>(groups.zeros[group]) * groups.scales[group]));
      out += 2;
    }
    uint8_t shifted[32];
    for (int i = 0; i < 32; ++i) shifted[i] = static_cast<uint8_t>(block[i] + offset);
    put_codes(shifted, five, out);
    out += five ? 20 : 16;
  }
}

void repack_mxfp4_row(const Fp4Groups& groups, int64_t columns, int64_t row, std::byte* out) {
  const std::byte* scales = groups.scales.bytes.data() + row * groups.scales.shape[1];
  const std::byte* bytes = groups.codes.bytes.data() + row * groups.codes.shape[1];
  for (int64_t g = 0; g < columns / kGroup; ++g, bytes += kGroup / 2, out += kGroup / 2 + 1) {
    uint8_t codes[kGroup];
    unpack_codes(bytes, kGroup, 4, codes);
    out[0] = scales[g];
    put_codes(codes, false, out + 1);
  }
}

std::optional<WeightLayout> ggml_grid_layout(const Weight& weight, const Context& context) {
  const auto* ggml = weight.as<GgmlBlocks>();
  if (ggml != nullptr && ggml->type == GgmlType::mxfp4)
    return fp4_groups_layout(weight.out, weight.in, kMxfp4);
  const auto shape = ggml != nullptr ? grid_shape(ggml->type) : std::nullopt;
  if (!shape) return std::nullopt;
  if (!shape->symmetric &&
      !has_whole_zeros(*ggml, weight.out, weight.in / kGroup, shape->bits, context))
    return std::nullopt;
  return grid_layout_of(weight, *shape);
}

QuantizedTensor grid_from_ggml(const Weight& weight, const std::string& where,
                               const Context& context) {
  const auto& ggml = weight.get<GgmlBlocks>();
  if (ggml.type == GgmlType::mxfp4) return floats_from_mxfp4(weight, context);
  const auto shape = grid_shape(ggml.type);
  const GgmlTypeInfo& info = ggml_info(ggml.type);
  if (!shape)
    throw Error(ErrorKind::unsupported, std::string(info.name) + " is no grid", where,
                "Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and MXFP4 are");
  QuantizedTensor tensor(grid_layout_of(weight, *shape));
  const int64_t groups = weight.in / kGroup;
  const int64_t code_bytes = packed_bytes(weight.in, shape->bits),
                zero_bytes = packed_bytes(groups, shape->bits);
  std::byte* const all_scales = tensor.parts.at("scales").bytes().data();
  std::byte* const all_codes = tensor.parts.at("codes").bytes().data();
  std::byte* const all_zeros = shape->symmetric ? nullptr : tensor.parts.at("zeros").bytes().data();
  parallel_ranges(context, weight.out, 64, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> codes(static_cast<size_t>(weight.in)), zeros(static_cast<size_t>(groups));
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t g = 0; g < groups; ++g) {
        const std::byte* block = ggml.row_data(row) + g * info.bytes;
        uint8_t* target = codes.data() + g * kGroup;
        std::memcpy(all_scales + 2 * (row * groups + g), block, 2);
        if (ggml.type == GgmlType::q8_0) {
          for (int i = 0; i < 32; ++i)
            target[i] = static_cast<uint8_t>(load<int8_t>(block + 2 + i) + 128);
          continue;
        }
        const std::byte* at = block + (shape->symmetric ? 2 : 4);
        if (shape->bits == 4) {
          take_nibbles(at, all_codes + row * code_bytes + g * kGroup / 2);
        } else {
          take_five_bits(at, target);
        }
        if (shape->symmetric) continue;
        const auto zero = block_zero(block, shape->bits);
        if (!zero)
          throw Error(ErrorKind::unsupported, "a minimum is no whole multiple of its scale", where,
                      "only a requantization can bring this tensor onto an integer grid");
        zeros[g] = *zero;
      }
      if (shape->bits != 4)
        pack_codes(codes.data(), weight.in, shape->bits, all_codes + row * code_bytes);
      if (!shape->symmetric)
        pack_codes(zeros.data(), groups, shape->bits, all_zeros + row * zero_bytes);
    }
  });
  return tensor;
}

}  // namespace qwb
