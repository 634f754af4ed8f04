#include "lib/exec/cpu/rounding.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/exec/cpu/rounding.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace qwb::rounding {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;

constexpr int64_t kRun = 512;  // values whose squares are added in f32

HWY_INLINE int64_t lanes() {
  return static_cast<int64_t>(hn::Lanes(F()));
}

HWY_INLINE V round_lanes(V x) {
  const V shift = hn::Set(F(), 0x1.8p23f);
  return hn::Sub(hn::Add(x, shift), shift);
}

Extremes FindExtremes(const float* values, int64_t count) {
  const F d;
  const int64_t n = lanes();
  V low = hn::Zero(d), high = hn::Zero(d);
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const V v = hn::LoadU(d, values + i);
    low = hn::Min(low, v);
    high = hn::Max(high, v);
  }
  Extremes found{hn::GetLane(hn::MinOfLanes(d, low)), hn::GetLane(hn::MaxOfLanes(d, high))};
  for (; i < count; ++i) {
    found.low = values[i] < found.low ? values[i] : found.low;
    found.high = values[i] > found.high ? values[i] : found.high;
  }
  return found;
}

void RoundToSteps(const float* values, int64_t count, float scale, int zero, int max_code,
                  uint8_t* codes) {
  const F d;
  const hn::RebindToSigned<F> di;
  const hn::Rebind<uint8_t, F> d8;
  const int64_t n = lanes();
  // Clamping to integers first gives the same code and keeps the rounding in its range.
  const float lowest = static_cast<float>(-zero), highest = static_cast<float>(max_code - zero);
  const V s = hn::Set(d, scale), low = hn::Set(d, lowest), high = hn::Set(d, highest);
  const auto z = hn::Set(di, zero);
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const V clamped = hn::Min(hn::Max(hn::Div(hn::LoadU(d, values + i), s), low), high);
    const auto code = hn::Add(hn::ConvertTo(di, round_lanes(clamped)), z);
    hn::StoreU(hn::DemoteTo(d8, code), d8, codes + i);
  }
  for (; i < count; ++i) {
    const float clamped = std::min(std::max(values[i] / scale, lowest), highest);
    codes[i] = static_cast<uint8_t>(static_cast<int32_t>(round_even(clamped)) + zero);
  }
}

void RoundToInt8(const float* values, int64_t count, float factor, int8_t* codes) {
  const F d;
  const hn::RebindToSigned<F> di;
  const hn::Rebind<int8_t, F> d8;
  const int64_t n = lanes();
  const V f = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const V rounded = round_lanes(hn::Mul(hn::LoadU(d, values + i), f));
    hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(di, rounded)), d8, codes + i);
  }
  for (; i < count; ++i) {
    const auto rounded = static_cast<int32_t>(round_even(values[i] * factor));
    codes[i] = static_cast<int8_t>(std::clamp(rounded, -128, 127));
  }
}

constexpr int64_t kRanked = 256;  // values whose sums are added in f32

#if HWY_TARGET != HWY_SCALAR
// Vectors of eight lanes or more hold what the tables are asked for.
HWY_INLINE auto Rank(const Ranking& ranking, V value) {
  const F d;
  const hn::RebindToSigned<F> di;
  const auto one = hn::Set(di, 1);
  const auto more = [&](V bound) HWY_ATTR { return hn::RebindMask(di, hn::Gt(value, bound)); };
  const auto look_up = [&](const float* table, auto rank) HWY_ATTR {
    return hn::TableLookupLanes(hn::Load(d, table), hn::IndicesFromVec(d, rank));
  };
  auto rank = hn::IfThenElseZero(more(hn::Set(d, ranking.bounds[7])), one);
  for (const float* table : {ranking.second.data(), ranking.third.data(), ranking.last.data()}) {
    const auto twice = hn::Add(rank, rank);
    rank = hn::IfThenElse(more(look_up(table, rank)), hn::Or(twice, one), twice);
  }
  return rank;
}

// The same where ranking.binned, with sixteen lanes.
HWY_INLINE auto RankOfBin(const Ranking& ranking, V value) {
  const F d;
  const hn::RebindToSigned<F> di;
  const auto one = hn::Set(di, 1);
  // Rounded to a whole number by adding 2^23: the bin is in the lowest bits.
  const V number =
      hn::MulAdd(value, hn::Set(d, Ranking::kBins), hn::Set(d, Ranking::kMiddle + 0x1p23f));
  const auto bin = hn::And(hn::BitCast(di, number), hn::Set(di, 15));
  const auto at = hn::IndicesFromVec(d, bin);
  const auto more = [&](const float* bounds) HWY_ATTR {
    const auto above =
        hn::RebindMask(di, hn::Gt(value, hn::TableLookupLanes(hn::Load(d, bounds), at)));
    return hn::IfThenElseZero(above, one);
  };
  const auto base =
      hn::TableLookupLanes(hn::Load(di, ranking.base.data()), hn::IndicesFromVec(di, bin));
  return hn::Add(base, hn::Add(more(ranking.lower.data()), more(ranking.upper.data())));
}

// Adds the sums over the lanes.
HWY_INLINE void AddLanes(V error, V cross, V norm, PointSums& sums) {
  const F d;
  const hn::RepartitionToWide<hn::RebindToUnsigned<F>> d64;
  // In every 128 bits: error, cross, norm, nothing; then the 128 bits one on the other.
  const V none = hn::Zero(d);
  const auto first = hn::BitCast(
      d64, hn::Add(hn::InterleaveLower(d, error, cross), hn::InterleaveUpper(d, error, cross)));
  const auto second = hn::BitCast(
      d64, hn::Add(hn::InterleaveLower(d, norm, none), hn::InterleaveUpper(d, norm, none)));
  V all = hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, first, second)),
                  hn::BitCast(d, hn::InterleaveUpper(d64, first, second)));
  if (lanes() >= 16) all = hn::Add(all, hn::ReverseBlocks(d, all));
  if (lanes() >= 8) all = hn::Add(all, hn::SwapAdjacentBlocks(all));
  HWY_ALIGN float four[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(all, d, four);
  sums.error += four[0];
  sums.cross += four[1];
  sums.norm += four[2];
}

// table[rank] of sixteen values, `d` their type.
template <class D>
HWY_INLINE hn::Vec<D> LookUp16(D d, const hn::TFromD<D>* table,
                               hn::Vec<hn::RebindToSigned<F>> rank) {
  if (lanes() >= 16) return hn::TableLookupLanes(hn::Load(d, table), hn::IndicesFromVec(d, rank));
  const hn::RebindToSigned<F> di;
  const auto index = hn::IndicesFromVec(d, hn::And(rank, hn::Set(di, 7)));
  const auto high = hn::RebindMask(d, hn::Gt(rank, hn::Set(di, 7)));
  return hn::IfThenElse(high, hn::TableLookupLanes(hn::Load(d, table + 8), index),
                        hn::TableLookupLanes(hn::Load(d, table), index));
}

// Sums lane by lane.
struct LaneSums {
  V error, cross, norm;

  // The code of a value's rank; adds what it loses.
  template <class Rank>
  HWY_INLINE hn::Vec<hn::RebindToSigned<F>> Code(const Ranking& ranking, V value, Rank rank,
                                                 V scale) {
    const V point = LookUp16(F(), ranking.points.data(), rank),
            lost = hn::NegMulAdd(scale, point, value);
    error = hn::MulAdd(lost, lost, error);
    cross = hn::MulAdd(lost, point, cross);
    norm = hn::MulAdd(value, value, norm);
    return LookUp16(hn::RebindToSigned<F>(), ranking.codes.data(), rank);
  }
};

// Codes of neighbours in one byte, the lowest of their 64 bits. The first of a pair is the lower
// half.
HWY_INLINE auto Pairs(hn::Vec<hn::RebindToSigned<F>> codes) {
  const hn::RepartitionToWide<hn::RebindToUnsigned<F>> d64;
  const auto both = hn::BitCast(d64, codes);
  return hn::Or(hn::ShiftLeft<4>(both), hn::ShiftRight<32>(both));
}

// 64 values at a time, with sixteen lanes and where ranking.binned; returns how many were done.
HWY_INLINE int64_t RankSixtyFours(const float* values, int64_t count, V factor, V scale,
                                  const Ranking& ranking, uint8_t* packed, LaneSums& sums) {
  const F d;
  const hn::RepartitionToWide<hn::RebindToUnsigned<F>> d64;
  const hn::Rebind<uint32_t, decltype(d64)> d32;
  const hn::Repartition<uint8_t, decltype(d32)> d8;
  // Eight lanes hold a byte of each of four vectors: brought together within 128 bits, then among
  // them.
  HWY_ALIGN static constexpr uint8_t kBytes[32] = {0,  4,  8, 12, 1,  5,  9, 13, 2,  6, 10,
                                                   14, 3,  7, 11, 15, 0,  4, 8,  12, 1, 5,
                                                   9,  13, 2, 6,  10, 14, 3, 7,  11, 15};
  HWY_ALIGN static constexpr int32_t kWords[8] = {0, 4, 1, 5, 2, 6, 3, 7};
  int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    const auto pairs = [&](int64_t at) HWY_ATTR {
      const V value = hn::LoadU(d, values + i + at);
      return Pairs(sums.Code(ranking, value, RankOfBin(ranking, hn::Mul(value, factor)), scale));
    };
    const auto first = hn::Or(pairs(0), hn::ShiftLeft<8>(pairs(16)));
    const auto second = hn::Or(hn::ShiftLeft<16>(pairs(32)), hn::ShiftLeft<24>(pairs(48)));
    const auto words = hn::TruncateTo(d32, hn::Or(first, second));
    const auto bytes =
        hn::BitCast(d32, hn::TableLookupBytes(hn::BitCast(d8, words), hn::Load(d8, kBytes)));
    const auto ordered = hn::TableLookupLanes(bytes, hn::SetTableIndices(d32, kWords));
    hn::StoreU(hn::BitCast(d8, ordered), d8, packed + i / 2);
  }
  return i;
}
#endif

// A stretch of values; adds to the sums.
HWY_INLINE void RankStretch(const float* values, int64_t count, float factor, float scale,
                            const Ranking& ranking, uint8_t* packed, PointSums& sums) {
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const F d;
  const hn::Rebind<uint8_t, hn::RepartitionToWide<hn::RebindToUnsigned<F>>> d8;
  const int64_t n = lanes();
  const V f = hn::Set(d, factor), s = hn::Set(d, scale);
  LaneSums lane_sums{hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  if (n == 16 && ranking.binned)
    i = RankSixtyFours(values, count, f, s, ranking, packed, lane_sums);
  for (; n >= 8 && i + n <= count; i += n) {
    const V value = hn::LoadU(d, values + i);
    const auto pairs = Pairs(lane_sums.Code(ranking, value, Rank(ranking, hn::Mul(value, f)), s));
    hn::StoreU(hn::TruncateTo(d8, pairs), d8, packed + i / 2);
  }
  AddLanes(lane_sums.error, lane_sums.cross, lane_sums.norm, sums);
  if (i == count) return;
#endif
  double errors = 0, crosses = 0, norms = 0;
  const auto code = [&](float weight) {
    size_t rank = 0;
    for (const float bound : ranking.bounds) rank += weight * factor > bound ? 1 : 0;
    const double value = weight, point = ranking.points[rank], lost = value - scale * point;
    errors += lost * lost;
    crosses += lost * point;
    norms += value * value;
    return ranking.codes[rank];
  };
  for (; i < count; i += 2) {
    const int32_t first = code(values[i]);
    packed[i / 2] = static_cast<uint8_t>(first << 4 | code(values[i + 1]));
  }
  sums.error += static_cast<float>(errors);
  sums.cross += static_cast<float>(crosses);
  sums.norm += static_cast<float>(norms);
}

HWY_INLINE PointSums RankRun(const float* values, int64_t count, float factor, float scale,
                             const Ranking& ranking, std::byte* packed) {
  PointSums sums{0, 0, 0};
  for (int64_t begin = 0; begin < count; begin += kRanked) {
    RankStretch(values + begin, std::min(kRanked, count - begin), factor, scale, ranking,
                reinterpret_cast<uint8_t*>(packed + begin / 2), sums);
  }
  return sums;
}

PointSums RankPairs(const float* values, int64_t count, float factor, float scale,
                    const Ranking& ranking, std::byte* packed) {
  return RankRun(values, count, factor, scale, ranking, packed);
}

void RankBlocks(const float* values, int64_t blocks, int64_t size, float least,
                const Ranking& ranking, const RankedBlocks& out) {
  for (int64_t b = 0; b < blocks; ++b) {
    const float* block = values + b * size;
    const Extremes found = FindExtremes(block, size);
    const float largest = std::max(std::fabs(found.low), std::fabs(found.high));
    out.largest[b] = largest;
    out.sums[b] = RankRun(block, size, 1.0f / std::max(largest, least), largest, ranking,
                          out.packed + b * size / 2);
  }
}

// quantized(i) gives a vector, one(i) a single value.
template <class Vector, class Single>
HWY_INLINE ErrorSum SumErrors(const float* values, int64_t count, Vector&& quantized,
                              Single&& one) {
  const F d;
  const int64_t n = lanes();
  ErrorSum sum;
  int64_t i = 0;
  while (i + n <= count) {
    V error = hn::Zero(d), norm = hn::Zero(d);
    for (const int64_t end = std::min(count, i + kRun); i + n <= end; i += n) {
      const V value = hn::LoadU(d, values + i);
      const V difference = hn::Sub(value, quantized(i));
      error = hn::MulAdd(difference, difference, error);
      norm = hn::MulAdd(value, value, norm);
    }
    sum.error += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, error)));
    sum.norm += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, norm)));
  }
  for (; i < count; ++i) {
    const double value = values[i], difference = value - one(i);
    sum.error += difference * difference;
    sum.norm += value * value;
  }
  return sum;
}

ErrorSum StepErrors(const float* values, const uint8_t* codes, int64_t count, float scale,
                    int zero) {
  const F d;
  const hn::RebindToSigned<F> di;
  const hn::Rebind<uint8_t, F> d8;
  const V s = hn::Set(d, scale);
  const auto z = hn::Set(di, zero);
  return SumErrors(
      values, count,
      [&](int64_t i) HWY_ATTR {
        const auto code = hn::PromoteTo(di, hn::LoadU(d8, codes + i));
        return hn::Mul(hn::ConvertTo(d, hn::Sub(code, z)), s);
      },
      [&](int64_t i) { return static_cast<float>(codes[i] - zero) * scale; });
}

ErrorSum Int8Errors(const float* values, const int8_t* codes, int64_t count, float scale) {
  const F d;
  const hn::RebindToSigned<F> di;
  const hn::Rebind<int8_t, F> d8;
  const V s = hn::Set(d, scale);
  return SumErrors(
      values, count,
      [&](int64_t i) HWY_ATTR {
        return hn::Mul(hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, codes + i))), s);
      },
      [&](int64_t i) { return static_cast<float>(codes[i]) * scale; });
}

}  // namespace HWY_NAMESPACE
}  // namespace qwb::rounding
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qwb {
namespace rounding {
HWY_EXPORT(FindExtremes);
HWY_EXPORT(RoundToSteps);
HWY_EXPORT(RoundToInt8);
HWY_EXPORT(RankPairs);
HWY_EXPORT(RankBlocks);
HWY_EXPORT(StepErrors);
HWY_EXPORT(Int8Errors);
}  // namespace rounding

Extremes extremes(const float* values, int64_t count) {
  using namespace rounding;
  return HWY_DYNAMIC_DISPATCH(FindExtremes)(values, count);
}
void round_to_steps(const float* values, int64_t count, float scale, int zero, int max_code,
                    uint8_t* codes) {
  using namespace rounding;
  HWY_DYNAMIC_DISPATCH(RoundToSteps)(values, count, scale, zero, max_code, codes);
}
void round_to_int8(const float* values, int64_t count, float factor, int8_t* codes) {
  using namespace rounding;
  HWY_DYNAMIC_DISPATCH(RoundToInt8)(values, count, factor, codes);
}
PointSums rank_pairs(const float* values, int64_t count, float factor, float scale,
                     const Ranking& ranking, std::byte* packed) {
  using namespace rounding;
  return HWY_DYNAMIC_DISPATCH(RankPairs)(values, count, factor, scale, ranking, packed);
}
void rank_blocks(const float* values, int64_t blocks, int64_t size, float least,
                 const Ranking& ranking, const RankedBlocks& out) {
  using namespace rounding;
  HWY_DYNAMIC_DISPATCH(RankBlocks)(values, blocks, size, least, ranking, out);
}
ErrorSum step_errors(const float* values, const uint8_t* codes, int64_t count, float scale,
                     int zero) {
  using namespace rounding;
  return HWY_DYNAMIC_DISPATCH(StepErrors)(values, codes, count, scale, zero);
}
ErrorSum int8_errors(const float* values, const int8_t* codes, int64_t count, float scale) {
  using namespace rounding;
  return HWY_DYNAMIC_DISPATCH(Int8Errors)(values, codes, count, scale);
}
}  // namespace qwb
#endif
