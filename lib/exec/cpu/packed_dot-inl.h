// What the kernels of packed_dot.h share. Compiled once per instruction set: included after
// hwy/foreach_target.h and hwy/highway.h.
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
HWY_INLINE void Ahead(const std::byte* at) {
  hwy::Prefetch(at + 2048);
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
  HWY_INLINE explicit TableOf16(const float* table) { std::copy_n(table, 16, values_); }
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

// sum = the values of all steps of a word times x, in two partial sums.
// values.template At<step>(words)
template <int kStep, int kEnd, class Values>
HWY_INLINE void AddSteps(const Values& values, VU words, const float* x, VF& a, VF& b) {
  if constexpr (kStep < kEnd) {
    const VF value = values.template At<kStep>(words), in = hn::LoadU(DF(), x + kStep * kLanes);
    a = hn::MulAdd(value, in, a);
    AddSteps<kStep + 1, kEnd>(values, words, x, b, a);
  }
}
template <int kBegin, int kEnd, class Values>
HWY_INLINE VF SumSteps(const Values& values, VU words, const float* x) {
  const DF d;
  VF a = hn::Mul(values.template At<kBegin>(words), hn::LoadU(d, x + kBegin * kLanes));
  VF b = hn::Mul(values.template At<kBegin + 1>(words), hn::LoadU(d, x + (kBegin + 1) * kLanes));
  AddSteps<kBegin + 2, kEnd>(values, words, x, a, b);
  return hn::Add(a, b);
}

// The lanes' sums of four vectors.
HWY_INLINE void StoreSums(const VF* rows, float* sums) {
  const DF d;
  const hn::Repartition<uint64_t, DF> d64;
  const auto pair = [&](VF a, VF b) HWY_ATTR {
    return hn::BitCast(d64, hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)));
  };
  const auto ab = pair(rows[0], rows[1]), ce = pair(rows[2], rows[3]);
  const VF four = hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, ab, ce)),
                          hn::BitCast(d, hn::InterleaveUpper(d64, ab, ce)));
  HWY_ALIGN float lanes[kLanes];
  hn::Store(four, d, lanes);
  const hn::CappedTag<float, 4> d4;
  auto sum = hn::Load(d4, lanes);
  for (int64_t i = 4; i < kLanes; i += 4) sum = hn::Add(sum, hn::Load(d4, lanes + i));
  hn::StoreU(sum, d4, sums);
}

constexpr int64_t kRowsAtOnce = 4;

// Floats from the scales of one row to the next: their number up to whole vectors and one more.
HWY_INLINE int64_t ScaleStride(int64_t groups) {
  return (groups + 15) / 16 * 16 + kPackedPadding;
}

// All rows of a task, four at a time. The scales of the next four are prepared before the present
// four are multiplied: they pass through memory, for which nothing then waits. A kernel has
//   kernel.Scales(row, scales, shifts)   of one row, into memory that ends in zeros; shifts are
//                                        what is added for the sums of x
//   kernel.Row(codes, scales, input)     lanes whose sum is the product, but for the shifts
template <class Kernel>
class RowLoop {
 public:
  HWY_INLINE RowLoop(const PackedRows& rows, const PackedTask& task, int64_t groups, bool shifted,
                     const Kernel& kernel)
      : rows_(rows),
        task_(task),
        kernel_(kernel),
        stride_(ScaleStride(groups)),
        shifted_(shifted ? groups : 0) {
    std::fill_n(task.scratch, 4 * kRowsAtOnce * stride_, 0.0f);
  }
  HWY_INLINE void Run() {
    float *now = task_.scratch, *next = now + 2 * kRowsAtOnce * stride_;
    Prepare(task_.begin, now);
    for (int64_t first = task_.begin; first < task_.end; first += kRowsAtOnce) {
      Prepare(first + kRowsAtOnce, next);
      for (int64_t v = 0; v < task_.vectors; ++v) Multiply(first, v, now);
      std::swap(now, next);
    }
  }

 private:
  HWY_INLINE int64_t Count(int64_t first) const { return std::min(kRowsAtOnce, task_.end - first); }
  HWY_INLINE void Prepare(int64_t first, float* scales) const {
    for (int64_t r = 0; r < Count(first); ++r)
      kernel_.Scales(first + r, scales + r * stride_, scales + (kRowsAtOnce + r) * stride_);
  }
  HWY_INLINE void Multiply(int64_t first, int64_t v, const float* scales) const {
    const DF d;
    const PackedInput& input = task_.inputs[v];
    VF total[kRowsAtOnce] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    for (int64_t r = 0; r < Count(first); ++r) {
      total[r] = kernel_.Row(rows_.codes + (first + r) * rows_.stride, scales + r * stride_, input);
      const float* shifts = scales + (kRowsAtOnce + r) * stride_;
      for (int64_t g = 0; g < shifted_; g += kLanes)
        total[r] = hn::MulAdd(hn::LoadU(d, shifts + g), hn::LoadU(d, input.sums + g), total[r]);
    }
    HWY_ALIGN float sums[kRowsAtOnce];
    StoreSums(total, sums);
    std::copy_n(sums, Count(first), task_.y + v * task_.y_stride + first - task_.begin);
  }

  const PackedRows& rows_;
  const PackedTask& task_;
  const Kernel& kernel_;
  int64_t stride_, shifted_;
};

template <class Kernel>
HWY_INLINE void DotRows(const PackedRows& rows, const PackedTask& task, int64_t groups,
                        bool shifted, const Kernel& kernel) {
  RowLoop<Kernel>(rows, task, groups, shifted, kernel).Run();
}

// As many f16 bits, to f32; nothing behind them is read.
HWY_INLINE void FromHalves(const uint16_t* halves, int64_t count, float* out) {
  const DF d;
  const hn::Rebind<hwy::float16_t, DF> d16;
  const hn::Rebind<uint16_t, DF> du16;
  for (int64_t i = 0; i < count; i += kLanes)
    hn::StoreU(hn::PromoteTo(d, hn::BitCast(d16, hn::LoadU(du16, halves + i))), d, out + i);
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#endif
