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
  const int64_t readable = static_cast<int64_t>(from.values.size()) - begin;
  int64_t outer = begin / from.outer_block, stop = (outer + 1) * from.outer_block - begin;
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t now = std::min(count - i, kLanes);
    if (i == stop) ++outer, stop += from.outer_block;
    if (i + now <= stop && i + kLanes <= readable) {
      const VF inner = hn::GatherIndex(d, from.map, hn::PromoteTo(DI(), hn::LoadU(d8, codes + i)));
      const VF scales =
          hn::Add(hn::Mul(inner, hn::Set(d, from.outer[outer])), hn::Set(d, from.offset));
      hn::StoreU(hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(now)), scales), d, out + i);
      continue;
    }
    for (int64_t j = i; j < i + now; ++j) {
      if (j == stop) ++outer, stop += from.outer_block;
      out[j] = from.map[codes[j]] * from.outer[outer] + from.offset;
    }
  }
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
  const hn::CappedTag<float, 4> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::RebindToUnsigned<decltype(d)> du;
  HWY_ALIGN static constexpr uint32_t kPlaces[4] = {0, kBits, 2 * kBits, 3 * kBits};
  const auto mask = hn::Set(du, (1u << kBits) - 1);
  const auto centre = hn::Set(di, 1 << (kBits - 1));
  const std::byte* stream = from.zeros + row * from.zeros_stride;
  for (int64_t g = 0, left = from.zeros_stride; g < count; g += 8, left -= kBits, stream += kBits) {
    uint64_t eight = 0;
    if (left >= kBits) {
      std::memcpy(&eight, stream, kBits);
    } else {
      for (int64_t i = 0; i < left; ++i) eight |= static_cast<uint64_t>(stream[i]) << (8 * i);
    }
    for (int64_t i = 0; i < 8; i += 4, eight >>= 4 * kBits) {
      const auto four = hn::Shr(hn::Set(du, static_cast<uint32_t>(eight)), hn::Load(du, kPlaces));
      const auto above = hn::Sub(centre, hn::BitCast(di, hn::And(four, mask)));
      hn::StoreU(hn::Mul(hn::LoadU(d, scales + g + i), hn::ConvertTo(d, above)), d, shifts + g + i);
    }
  }
}

#endif
}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#endif
