#include "lib/exec/cpu/packed_dot.h"

#include <algorithm>

#include "lib/base/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/exec/cpu/packed_dot.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set

#include <hwy/highway.h>

#include "lib/exec/cpu/nibble_table-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// values(i): lanes of the row from column i on; one(i): a single value.
template <class Values, class Single>
HWY_INLINE float DotRow(const float* x, int64_t count, Values&& values, Single&& one) {
  const hn::ScalableTag<float> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  auto a = hn::Zero(d), b = hn::Zero(d), c = hn::Zero(d), e = hn::Zero(d);
  int64_t i = 0;
  for (; i + 4 * n <= count; i += 4 * n) {
    a = hn::MulAdd(values(i), hn::LoadU(d, x + i), a);
    b = hn::MulAdd(values(i + n), hn::LoadU(d, x + i + n), b);
    c = hn::MulAdd(values(i + 2 * n), hn::LoadU(d, x + i + 2 * n), c);
    e = hn::MulAdd(values(i + 3 * n), hn::LoadU(d, x + i + 3 * n), e);
  }
  for (; i + n <= count; i += n) a = hn::MulAdd(values(i), hn::LoadU(d, x + i), a);
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
  for (; i < count; ++i) sum += one(i) * x[i];
  return sum;
}

float DotF16(const std::byte* row, const float* x, int64_t count) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> d16;
  const hn::Rebind<uint16_t, decltype(d)> du16;
  return DotRow(
      x, count,
      [&](int64_t i) HWY_ATTR {
        const auto bits = hn::LoadU(du16, reinterpret_cast<const uint16_t*>(row + 2 * i));
        return hn::PromoteTo(d, hn::BitCast(d16, bits));
      },
      [&](int64_t i) { return f16_to_f32(load<uint16_t>(row + 2 * i)); });
}

float DotBf16(const std::byte* row, const float* x, int64_t count) {
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Rebind<uint16_t, decltype(d)> du16;
  return DotRow(
      x, count,
      [&](int64_t i) HWY_ATTR {
        const auto bits = hn::LoadU(du16, reinterpret_cast<const uint16_t*>(row + 2 * i));
        return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
      },
      [&](int64_t i) { return bf16_to_f32(load<uint16_t>(row + 2 * i)); });
}

float DotInt8(const std::byte* row, const float* x, int64_t count) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const auto* codes = reinterpret_cast<const int8_t*>(row);
  return DotRow(
      x, count,
      [&](int64_t i)
          HWY_ATTR { return hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, codes + i))); },
      [&](int64_t i) { return static_cast<float>(codes[i]); });
}

using D8 = hn::CappedTag<float, 8>;

// values(codes, lane): lanes of the eight values at `codes`, of which `step` bytes hold eight.
template <class Values>
HWY_INLINE float DotGroups(const GroupedRow& row, int64_t step, const float* zeros, const float* x,
                           Values&& values) {
  const D8 d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  auto total = hn::Zero(d);
  const std::byte* at = row.codes;
  for (int64_t g = 0, i = 0; i < row.count; ++g) {
    const int64_t end = std::min(row.count, i + row.group);
    const auto zero = hn::Set(d, zeros != nullptr ? zeros[g] : 0.0f);
    auto a = hn::Zero(d), b = hn::Zero(d);
    const auto eight = [&](int64_t offset, auto& sum) HWY_ATTR {
      for (int64_t lane = 0; lane < 8; lane += n) {
        auto value = values(at, lane);
        if (zeros != nullptr) value = hn::Sub(value, zero);
        sum = hn::MulAdd(value, hn::LoadU(d, x + offset + lane), sum);
      }
      at += step;
    };
    for (; i + 16 <= end; i += 16) {
      eight(i, a);
      eight(i + 8, b);
    }
    if (i < end) {
      eight(i, a);
      i += 8;
    }
    total = hn::MulAdd(hn::Add(a, b), hn::Set(d, row.scales[g]), total);
  }
  return hn::GetLane(hn::SumOfLanes(d, total));
}

// Eight codes of at most four bits.
template <int kBits>
HWY_INLINE uint32_t LoadEight(const std::byte* at) {
  static_assert(kBits >= 2 && kBits <= 4);
  if constexpr (kBits == 4) return load<uint32_t>(at);
  uint32_t word = load<uint16_t>(at);
  if constexpr (kBits == 3) word |= static_cast<uint32_t>(at[2]) << 16;
  return word;
}

template <int kBits>
HWY_INLINE float DotSmallCodes(const GroupedRow& row, const float* zeros, const float* x) {
  const D8 d;
  const hn::RebindToUnsigned<D8> du;
  const hn::RebindToSigned<D8> di;
  HWY_ALIGN uint32_t shifts[8];
  for (uint32_t lane = 0; lane < 8; ++lane) shifts[lane] = lane * kBits;
  const auto mask = hn::Set(du, (1u << kBits) - 1);
  return DotGroups(row, kBits, zeros, x, [&](const std::byte* at, int64_t lane) HWY_ATTR {
    const auto words = hn::Set(du, LoadEight<kBits>(at));
    const auto codes = hn::And(hn::Shr(words, hn::Load(du, shifts + lane)), mask);
    return hn::ConvertTo(d, hn::BitCast(di, codes));
  });
}

float DotGrid(const GroupedRow& row, int bits, const float* zeros, const float* x) {
  switch (bits) {
    case 2:
      return DotSmallCodes<2>(row, zeros, x);
    case 3:
      return DotSmallCodes<3>(row, zeros, x);
    case 4:
      return DotSmallCodes<4>(row, zeros, x);
    default:
      break;
  }
  const D8 d;
  const hn::RebindToSigned<D8> di;
  const hn::Rebind<uint8_t, D8> d8;
  return DotGroups(row, 8, zeros, x, [&](const std::byte* at, int64_t lane) HWY_ATTR {
    return hn::ConvertTo(
        d, hn::PromoteTo(di, hn::LoadU(d8, reinterpret_cast<const uint8_t*>(at) + lane)));
  });
}

float DotTable(const GroupedRow& row, const float* table, const float* x) {
  const D8 d;
#if HWY_TARGET != HWY_SCALAR
  if (hn::Lanes(d) == 8) {
    const auto low = hn::LoadU(d, table), high = hn::LoadU(d, table + 8);
    return DotGroups(row, 4, nullptr, x, [&](const std::byte* at, int64_t) HWY_ATTR {
      return LookUpNibbles(d, low, high, load<uint32_t>(at));
    });
  }
#endif
  return DotGroups(row, 4, nullptr, x, [&](const std::byte* at, int64_t lane) HWY_ATTR {
    HWY_ALIGN float values[8];
    const auto word = load<uint32_t>(at);
    for (int64_t k = 0; k < 8; ++k) values[k] = table[word >> kNibbleShifts[k] & 15u];
    return hn::Load(d, values + lane);
  });
}

// Blocks of 32 nibbles: (code - 8) * d, or code * d + m.
template <bool kMinimum>
HWY_INLINE float DotNibbleBlocks(const std::byte* blocks, const float* x, int64_t count) {
  constexpr int64_t kBytes = kMinimum ? 20 : 18;
  const D8 d;
  const hn::RebindToSigned<D8> di;
  const hn::Rebind<uint8_t, D8> d8;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  const auto mask = hn::Set(di, 15);
  const auto middle = hn::Set(d, 8.0f);
  auto total = hn::Zero(d);
  for (int64_t i = 0; i < count; i += 32, blocks += kBytes) {
    const auto* codes = reinterpret_cast<const uint8_t*>(blocks + kBytes - 16);
    auto a = hn::Zero(d), b = hn::Zero(d), inputs = hn::Zero(d);
    for (int64_t lane = 0; lane < 16; lane += n) {
      const auto pair = hn::PromoteTo(di, hn::LoadU(d8, codes + lane));
      const auto first = hn::LoadU(d, x + i + lane), second = hn::LoadU(d, x + i + 16 + lane);
      auto low = hn::ConvertTo(d, hn::And(pair, mask)),
           high = hn::ConvertTo(d, hn::ShiftRight<4>(pair));
      if constexpr (kMinimum) {
        inputs = hn::Add(inputs, hn::Add(first, second));
      } else {
        low = hn::Sub(low, middle);
        high = hn::Sub(high, middle);
      }
      a = hn::MulAdd(low, first, a);
      b = hn::MulAdd(high, second, b);
    }
    total = hn::MulAdd(hn::Add(a, b), hn::Set(d, f16_to_f32(load<uint16_t>(blocks))), total);
    if constexpr (kMinimum)
      total = hn::MulAdd(inputs, hn::Set(d, f16_to_f32(load<uint16_t>(blocks + 2))), total);
  }
  return hn::GetLane(hn::SumOfLanes(d, total));
}

float DotQ40(const std::byte* blocks, const float* x, int64_t count) {
  return DotNibbleBlocks<false>(blocks, x, count);
}

float DotQ41(const std::byte* blocks, const float* x, int64_t count) {
  return DotNibbleBlocks<true>(blocks, x, count);
}

float DotQ80(const std::byte* blocks, const float* x, int64_t count) {
  const D8 d;
  const hn::RebindToSigned<D8> di;
  const hn::Rebind<int8_t, D8> d8;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  auto total = hn::Zero(d);
  for (int64_t i = 0; i < count; i += 32, blocks += 34) {
    const auto* codes = reinterpret_cast<const int8_t*>(blocks + 2);
    const auto values = [&](int64_t at) HWY_ATTR {
      return hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, codes + at)));
    };
    auto a = hn::Zero(d), b = hn::Zero(d);
    for (int64_t lane = 0; lane < 32; lane += 2 * n) {
      a = hn::MulAdd(values(lane), hn::LoadU(d, x + i + lane), a);
      b = hn::MulAdd(values(lane + n), hn::LoadU(d, x + i + lane + n), b);
    }
    total = hn::MulAdd(hn::Add(a, b), hn::Set(d, f16_to_f32(load<uint16_t>(blocks))), total);
  }
  return hn::GetLane(hn::SumOfLanes(d, total));
}

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qwb::simd {

HWY_EXPORT(DotF16);
HWY_EXPORT(DotBf16);
HWY_EXPORT(DotInt8);
HWY_EXPORT(DotGrid);
HWY_EXPORT(DotTable);
HWY_EXPORT(DotQ40);
HWY_EXPORT(DotQ41);
HWY_EXPORT(DotQ80);

float dot_f16(const std::byte* row, const float* x, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotF16)(row, x, count);
}
float dot_bf16(const std::byte* row, const float* x, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotBf16)(row, x, count);
}
float dot_int8(const std::byte* row, const float* x, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotInt8)(row, x, count);
}
bool dots_grid(int bits) {
  return (bits >= 2 && bits <= 4) || bits == 8;
}
float dot_grid(const GroupedRow& row, int bits, const float* zeros, const float* x) {
  return HWY_DYNAMIC_DISPATCH(DotGrid)(row, bits, zeros, x);
}
float dot_table(const GroupedRow& row, const float* table, const float* x) {
  return HWY_DYNAMIC_DISPATCH(DotTable)(row, table, x);
}
float dot_q4_0(const std::byte* blocks, const float* x, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotQ40)(blocks, x, count);
}
float dot_q4_1(const std::byte* blocks, const float* x, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotQ41)(blocks, x, count);
}
float dot_q8_0(const std::byte* blocks, const float* x, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotQ80)(blocks, x, count);
}

}  // namespace qwb::simd
#endif
