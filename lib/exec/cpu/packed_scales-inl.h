// The scales and zero points of integer grids and tables, a row at a time, as the kernels of
// packed_dot.h take them. Compiled once per instruction set: included after
// hwy/foreach_target.h and hwy/highway.h.
#if defined(QWB_PACKED_SCALES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QWB_PACKED_SCALES_INL_H_
#undef QWB_PACKED_SCALES_INL_H_
#else
#define QWB_PACKED_SCALES_INL_H_
#endif

#include "lib/exec/cpu/packed_dot-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {
#if HWY_TARGET != HWY_SCALAR

// Floats behind the last scale stay as they are, or become zeros up to a whole vector.
HWY_INLINE void LoadNested(const PackedScales& from, int64_t begin, int64_t count, float* out) {
  const DF d;
  const hn::Rebind<uint8_t, DF> d8;
  const auto* codes = reinterpret_cast<const uint8_t*>(from.values.data()) + begin;
  const auto scale = [&](int64_t i) {
    return from.map[codes[i]] * from.outer[(begin + i) / from.outer_block] + from.offset;
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const int64_t outer = (begin + i) / from.outer_block;
    if ((begin + i + kLanes - 1) / from.outer_block != outer) {
      for (int64_t j = i; j < i + kLanes; ++j) out[j] = scale(j);
      continue;
    }
    const VF inner = hn::GatherIndex(d, from.map, hn::PromoteTo(DI(), hn::LoadU(d8, codes + i)));
    const VF product = hn::Mul(inner, hn::Set(d, from.outer[outer]));
    hn::StoreU(hn::Add(product, hn::Set(d, from.offset)), d, out + i);
  }
  for (; i < count; ++i) out[i] = scale(i);
}

// The `count` scales of a row that begin with number `begin`.
HWY_INLINE void LoadScales(const PackedScales& from, int64_t begin, int64_t count, float* out) {
  const std::byte *at = from.values.data(), *end = at + from.values.size();
  const DF d;
  const auto halves = [&](const auto& convert) HWY_ATTR {
    at += 2 * begin;
    for (int64_t i = 0; i < count; i += kLanes) {
      HWY_ALIGN uint16_t some[kLanes] = {};
      const int64_t now = std::min(count - i, kLanes);
      const bool whole = end - (at + 2 * i) >= 2 * kLanes;
      if (!whole) std::memcpy(some, at + 2 * i, static_cast<size_t>(2 * now));
      const VF values = convert(whole ? reinterpret_cast<const uint16_t*>(at + 2 * i) : some);
      hn::StoreU(hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(now)), values), d, out + i);
    }
  };
  const hn::Rebind<uint16_t, DF> du16;
  switch (from.form) {
    case PackedScales::Form::none:
      return;
    case PackedScales::Form::f16:
      return halves([&](const uint16_t* bits) HWY_ATTR {
        const hn::Rebind<hwy::float16_t, DF> d16;
        return hn::PromoteTo(d, hn::BitCast(d16, hn::LoadU(du16, bits)));
      });
    case PackedScales::Form::bf16:
      return halves([&](const uint16_t* bits) HWY_ATTR {
        return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(DU(), hn::LoadU(du16, bits))));
      });
    case PackedScales::Form::f32:
      std::memcpy(out, at + 4 * begin, static_cast<size_t>(4 * count));
      return;
    case PackedScales::Form::nested:
      return LoadNested(from, begin, count, out);
  }
}

// shifts = -scale * (zero - centre): eight zero points are kBits bytes.
template <int kBits>
HWY_INLINE void LoadShifts(const PackedScales& from, int64_t row, int64_t count,
                           const float* scales, float* shifts) {
  constexpr uint64_t kMask = (1u << kBits) - 1;
  const hn::CappedTag<float, 4> d;
  const hn::RebindToSigned<decltype(d)> di;
  const std::byte* stream = from.zeros + row * from.zeros_stride;
  for (int64_t g = 0, left = from.zeros_stride; g < count; g += 8, left -= kBits, stream += kBits) {
    uint64_t eight = 0;
    if (left >= kBits) {
      std::memcpy(&eight, stream, kBits);
    } else {
      for (int64_t i = 0; i < left; ++i) eight |= static_cast<uint64_t>(stream[i]) << (8 * i);
    }
    HWY_ALIGN int32_t zeros[8];
    for (int i = 0; i < 8; ++i) zeros[i] = static_cast<int32_t>(eight >> (kBits * i) & kMask);
    for (int64_t i = 0; i < 8; i += 4) {
      const auto zero = hn::Sub(hn::Load(di, zeros + i), hn::Set(di, 1 << (kBits - 1)));
      const auto scale = hn::LoadU(d, scales + g + i);
      hn::StoreU(hn::Neg(hn::Mul(scale, hn::ConvertTo(d, zero))), d, shifts + g + i);
    }
  }
}

#endif
}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#endif
