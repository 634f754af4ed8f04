// How the kernels of packed_dot.h load codes and make floats of them. Compiled once per instruction
// set: included after hwy/foreach_target.h and hwy/highway.h.
#if defined(QWB_PACKED_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QWB_PACKED_DOT_INL_H_
#undef QWB_PACKED_DOT_INL_H_
#else
#define QWB_PACKED_DOT_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "lib/exec/cpu/packed_dot.h"

// Vectors of sixteen lanes with permutes of one or two of them.
#undef QWB_PERMUTES
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
#define QWB_PERMUTES 1
#else
#define QWB_PERMUTES 0
#endif

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, 16>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;
constexpr int64_t kLanes = hn::MaxLanes(DF());

#if HWY_TARGET != HWY_SCALAR  // which unpacks rows into memory instead

// Asks for what is read in some thousand bytes: the processor's own prefetch stops at the end of a
// page.
constexpr int64_t kAhead = 2048;
HWY_INLINE void Ahead(const std::byte* at, int64_t bytes = kAhead) {
  hwy::Prefetch(at + bytes);
}

HWY_INLINE VU LoadWords(const std::byte* at) {
  return hn::LoadU(DU(), reinterpret_cast<const uint32_t*>(at));
}

// So many bytes, then zeros.
HWY_INLINE VU LoadWords(const std::byte* at, int64_t bytes) {
  const DU d;
  if (kLanes >= 8 && bytes % 4 == 0)  // a masked load touches nothing else
    return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(bytes / 4)), d,
                          reinterpret_cast<const uint32_t*>(at));
  HWY_ALIGN uint32_t words[kLanes] = {};
  std::memcpy(words, at, static_cast<size_t>(bytes));
  return hn::Load(d, words);
}

// Lane j of the result is lane of(j) of a vector.
struct Places {
  template <class Of>
  HWY_INLINE explicit Places(const Of& of) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] = static_cast<int32_t>(of(j));
  }
  HWY_INLINE VF Pick(const float* from) const {
    const DF d;
    return hn::TableLookupLanes(hn::LoadU(d, from), hn::SetTableIndices(d, lanes));
  }
  HWY_ALIGN int32_t lanes[kLanes];
};

// The integers of the lowest kBits bits of every lane, less `centre`; the other bits may be
// anything.
template <int kBits>
class Integers {
 public:
  HWY_INLINE explicit Integers(float centre) : centre_(centre) {
    for (int i = 0; i < 32; ++i) values_[i] = static_cast<float>(i & ((1 << kBits) - 1)) - centre;
  }
  HWY_INLINE VF operator()(VU words) const {
    const DF d;
#if QWB_PERMUTES
    if constexpr (kBits <= 4) return VF{_mm512_permutexvar_ps(words.raw, hn::Load(d, values_).raw)};
    if constexpr (kBits == 5)
      return VF{_mm512_permutex2var_ps(hn::Load(d, values_).raw, words.raw,
                                       hn::Load(d, values_ + 16).raw)};
#endif
    const VU codes = hn::And(words, hn::Set(DU(), (1u << kBits) - 1));
    return hn::Sub(hn::ConvertTo(d, hn::BitCast(DI(), codes)), hn::Set(d, centre_));
  }

 private:
  HWY_ALIGN float values_[32];
  float centre_;
};

// The value that a table has for the lowest four bits of every lane.
class TableOf16 {
 public:
  template <class Number>
  HWY_INLINE explicit TableOf16(const Number* table) {
    for (int i = 0; i < 16; ++i) values_[i] = static_cast<float>(table[i]);
  }
  HWY_INLINE VF operator()(VU words) const {
    const DF d;
#if QWB_PERMUTES
    return VF{_mm512_permutexvar_ps(words.raw, hn::Load(d, values_).raw)};
#else
    const auto codes = hn::And(words, hn::Set(DU(), 15u));
    if constexpr (kLanes == 8) {  // two lookups of three bits; the fourth bit chooses
      const auto index = hn::IndicesFromVec(d, hn::And(codes, hn::Set(DU(), 7u)));
      return hn::IfNegativeThenElse(hn::BitCast(d, hn::ShiftLeft<28>(codes)),
                                    hn::TableLookupLanes(hn::Load(d, values_ + 8), index),
                                    hn::TableLookupLanes(hn::Load(d, values_), index));
    }
    return hn::GatherIndex(d, values_, hn::BitCast(DI(), codes));
#endif
  }

 private:
  HWY_ALIGN float values_[16];
};

// Byte kByte of every lane as a signed number times 2^24.
template <int kByte>
HWY_INLINE VF SignedByte(VU words) {
  const DF d;
  VU top = hn::ShiftLeft<24 - 8 * kByte>(words);
  if constexpr (kByte != 0) top = hn::And(top, hn::Set(DU(), 0xff000000u));
  return hn::ConvertTo(d, hn::BitCast(DI(), top));
}
constexpr float kSignedByte = 0x1p-24f;

#endif

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#endif
