// Products of plain values and of int8 rows, column by column. Compiled once per instruction set:
// included after hwy/foreach_target.h and hwy/highway.h.
#if defined(QWB_PACKED_STREAMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QWB_PACKED_STREAMS_INL_H_
#undef QWB_PACKED_STREAMS_INL_H_
#else
#define QWB_PACKED_STREAMS_INL_H_
#endif

#include <cstring>

#include "lib/exec/cpu/packed_dot-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// Columns one after the other: values.At(codes) are the lanes from there on, values.kBytes each.
template <class Values>
HWY_INLINE VF DotStream(const Values& values, const std::byte* at, int64_t columns,
                        const float* x) {
  constexpr int64_t kStep = kLanes * Values::kBytes;
  const DF d;
  VF a = hn::Zero(d), b = a, c = a, e = a;
  int64_t i = 0;
  for (; i + 4 * kLanes <= columns; i += 4 * kLanes, at += 4 * kStep) {
    for (int64_t line = 0; line < 4 * kStep; line += 64) Ahead(at + line);
    a = hn::MulAdd(values.At(at), hn::LoadU(d, x + i), a);
    b = hn::MulAdd(values.At(at + kStep), hn::LoadU(d, x + i + kLanes), b);
    c = hn::MulAdd(values.At(at + 2 * kStep), hn::LoadU(d, x + i + 2 * kLanes), c);
    e = hn::MulAdd(values.At(at + 3 * kStep), hn::LoadU(d, x + i + 3 * kLanes), e);
  }
  for (; i + kLanes <= columns; i += kLanes, at += kStep)
    a = hn::MulAdd(values.At(at), hn::LoadU(d, x + i), a);
  if (i < columns) {
    HWY_ALIGN std::byte rest[kStep] = {};
    std::memcpy(rest, at, static_cast<size_t>((columns - i) * Values::kBytes));
    a = hn::MulAdd(values.At(rest), hn::LoadU(d, x + i), a);
  }
  return hn::Add(hn::Add(a, b), hn::Add(c, e));
}

struct F32Values {
  static constexpr int64_t kBytes = 4;
  HWY_INLINE VF At(const std::byte* at) const {
    return hn::LoadU(DF(), reinterpret_cast<const float*>(at));
  }
};

struct F16Values {
  static constexpr int64_t kBytes = 2;
  HWY_INLINE VF At(const std::byte* at) const {
    const hn::Rebind<hwy::float16_t, DF> d16;
    const hn::Rebind<uint16_t, DF> du16;
    return hn::PromoteTo(DF(),
                         hn::BitCast(d16, hn::LoadU(du16, reinterpret_cast<const uint16_t*>(at))));
  }
};

struct Int8Values {
  static constexpr int64_t kBytes = 1;
  HWY_INLINE VF At(const std::byte* at) const {
    const hn::Rebind<int8_t, DF> d8;
    return hn::ConvertTo(DF(),
                         hn::PromoteTo(DI(), hn::LoadU(d8, reinterpret_cast<const int8_t*>(at))));
  }
};

template <class Values>
struct StreamKernel {
  const PackedRows& rows;
  Values values = {};
  HWY_INLINE void Scales(int64_t, float*, float*) const {}
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    tile.AddEach([&](int r, int t) HWY_ATTR {
      return DotStream(values, tile.At(r), rows.columns, tile.Input(t).x);
    });
  }
};

struct Int8Kernel {
  const PackedRows& rows;
  HWY_INLINE void Scales(int64_t row, float* scales, float*) const {
    std::memcpy(scales, rows.scales.values.data() + 4 * row, sizeof(float));
    *scales *= rows.scales.factor;
  }
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    tile.AddEach([&](int r, int t) HWY_ATTR {
      return hn::Mul(DotStream(Int8Values(), tile.At(r), rows.columns, tile.Input(t).x),
                     hn::Set(DF(), *tile.Scales(r)));
    });
  }
};

// A word is two values: no conversion, a shift and a mask.
struct Bf16Pairs {
  template <int kStep>
  HWY_INLINE VF At(VU words) const {
    if constexpr (kStep == 0) return hn::BitCast(DF(), hn::ShiftLeft<16>(words));
    return hn::BitCast(DF(), hn::And(words, hn::Set(DU(), 0xffff0000u)));
  }
};

struct Bf16Kernel {
  const PackedRows& rows;
  HWY_INLINE void Scales(int64_t, float*, float*) const {}
  HWY_INLINE VF Row(const std::byte* at, const float* x) const {
    const DF d;
    VF a = hn::Zero(d), b = a, c = a, e = a;
    int64_t left = 2 * rows.columns;
    for (; left >= 8 * kLanes; left -= 8 * kLanes, at += 8 * kLanes, x += 4 * kLanes) {
      for (int64_t line = 0; line < 8 * kLanes; line += 64) Ahead(at + line);
      AddWord(LoadWords(at), x, a, b);
      AddWord(LoadWords(at + 4 * kLanes), x + 2 * kLanes, c, e);
    }
    if (left >= 4 * kLanes) {
      AddWord(LoadWords(at), x, a, b);
      left -= 4 * kLanes, at += 4 * kLanes, x += 2 * kLanes;
    }
    if (left > 0) AddWord(LoadWords(at, left), x, c, e);
    return hn::Add(hn::Add(a, b), hn::Add(c, e));
  }
  HWY_INLINE static void AddWord(VU words, const float* x, VF& even, VF& odd) {
    const Bf16Pairs pairs;
    even = hn::MulAdd(pairs.At<0>(words), hn::LoadU(DF(), x), even);
    odd = hn::MulAdd(pairs.At<1>(words), hn::LoadU(DF(), x + kLanes), odd);
  }
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    tile.AddEach([&](int r, int t) HWY_ATTR { return Row(tile.At(r), tile.Input(t).x); });
  }
};

#endif

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#endif
