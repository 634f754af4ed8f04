// How the kernels of packed_dot.h go through rows and tokens. Compiled once per instruction set:
// included after hwy/foreach_target.h and hwy/highway.h.
#if defined(QWB_PACKED_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QWB_PACKED_TILE_INL_H_
#undef QWB_PACKED_TILE_INL_H_
#else
#define QWB_PACKED_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <utility>

#include "lib/exec/cpu/packed_dot-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// Several rows times one token, or one row times several: what is loaded once serves all sums.
// Sum i is that of row i / kTokens and token i % kTokens, made by the same operations as alone.
template <int kRows, int kTokens>
class Tile {
 public:
  static constexpr int kSums = kRows * kTokens;
  template <class V>
  struct PerRow {
    V of[kRows];
  };
  using Words = PerRow<VU>;

  // Row r at codes + offsets[r], its scales at scales + r * scale_stride. The chunk that will be
  // wanted soon is `ahead` bytes away.
  HWY_INLINE Tile(const std::byte* codes, int64_t ahead, const int64_t* offsets,
                  const float* scales, int64_t scale_stride, const PackedInput* const* inputs)
      : ahead_(ahead), scale_stride_(scale_stride), codes_(codes), scales_(scales) {
    Begin(offsets, inputs, Rows(), Tokens(), Sums());
  }

  HWY_INLINE const std::byte* At(int r) const { return codes_ + offsets_[r]; }
  HWY_INLINE const float* Scales(int r) const { return scales_ + r * scale_stride_; }
  HWY_INLINE const PackedInput& Input(int t) const { return *inputs_[t]; }
  HWY_INLINE VF Total(int i) const { return totals_[i]; }
  // To the next chunk.
  HWY_INLINE void Advance(int64_t bytes, int64_t scales, int64_t columns) {
    codes_ += bytes, scales_ += scales;
    Skip(columns, Tokens());
  }
  HWY_INLINE void Prefetch(int64_t line = 0) const { Prefetch(line, Rows()); }

  // of(r) for every row.
  template <class Of>
  HWY_INLINE auto Each(const Of& of) const {
    return Each(of, Rows());
  }
  // totals += scale(r) * (values of the steps of words times x), each product in two partial sums.
  // values.template At<step>(words)
  template <int kBegin, int kEnd, class Values, class Scale>
  HWY_INLINE void Add(const Values& values, const Words& words, const Scale& scale) {
    const auto scales = Each(scale);
    Add<kBegin, kEnd>(values, words, scales, Sums());
  }
  // totals += of(row, token)
  template <class Of>
  HWY_INLINE void AddEach(const Of& of) {
    AddEach(of, Sums());
  }
  // totals += left(r) * the sums of x from number `begin` on.
  template <class Left>
  HWY_INLINE void AddSums(const Left& left, int64_t begin) {
    AddShifts(Each(left), begin, Sums());
  }
  // totals += what shifts [groups] of the rows make of the sums of x.
  HWY_INLINE void AddShifts(const float* shifts, int64_t stride, int64_t groups) {
    const DF d;
    for (int64_t g = 0; g < groups; g += kLanes) {
      const auto shift =
          Each([&](int r) HWY_ATTR { return hn::LoadU(d, shifts + r * stride + g); });
      AddShifts(shift, g, Sums());
    }
  }

 private:
  using Rows = std::make_integer_sequence<int, kRows>;
  using Tokens = std::make_integer_sequence<int, kTokens>;
  using Sums = std::make_integer_sequence<int, kSums>;
  struct PerToken {
    VF of[kTokens];
  };

  template <int... r, int... t, int... i>
  HWY_INLINE void Begin(const int64_t* offsets, const PackedInput* const* inputs,
                        std::integer_sequence<int, r...>, std::integer_sequence<int, t...>,
                        std::integer_sequence<int, i...>) {
    ((offsets_[r] = offsets[r]), ...);
    ((inputs_[t] = inputs[t], x_[t] = inputs[t]->x), ...);
    ((totals_[i] = hn::Zero(DF())), ...);
  }
  template <int... t>
  HWY_INLINE void Skip(int64_t columns, std::integer_sequence<int, t...>) {
    ((x_[t] += columns), ...);
  }
  template <int... r>
  HWY_INLINE void Prefetch(int64_t line, std::integer_sequence<int, r...>) const {
    (Ahead(At(r) + line, ahead_), ...);
  }
  template <class Of, int... r>
  HWY_INLINE static auto Each(const Of& of, std::integer_sequence<int, r...>) {
    return PerRow<decltype(of(0))>{{of(r)...}};
  }
  template <class Of, int... i>
  HWY_INLINE void AddEach(const Of& of, std::integer_sequence<int, i...>) {
    ((totals_[i] = hn::Add(totals_[i], of(i / kTokens, i % kTokens))), ...);
  }
  template <int... i>
  HWY_INLINE void AddShifts(const PerRow<VF>& shift, int64_t g, std::integer_sequence<int, i...>) {
    ((totals_[i] = hn::MulAdd(shift.of[i / kTokens],
                              hn::LoadU(DF(), inputs_[i % kTokens]->sums + g), totals_[i])),
     ...);
  }
  template <int kStep, int... t>
  HWY_INLINE PerToken Columns(std::integer_sequence<int, t...>) const {
    return {{hn::LoadU(DF(), x_[t] + kStep * kLanes)...}};
  }
  template <int kBegin, int kEnd, class Values, int... i>
  HWY_INLINE void Add(const Values& values, const Words& words, const PerRow<VF>& scales,
                      std::integer_sequence<int, i...> all) {
    VF a[kSums], b[kSums];
    const auto first = Step<kBegin>(values, words), second = Step<kBegin + 1>(values, words);
    const auto x = Columns<kBegin>(Tokens()), y = Columns<kBegin + 1>(Tokens());
    ((a[i] = hn::Mul(first.of[i / kTokens], x.of[i % kTokens])), ...);
    ((b[i] = hn::Mul(second.of[i / kTokens], y.of[i % kTokens])), ...);
    AddSteps<kBegin + 2, kEnd>(values, words, a, b, all);
    ((totals_[i] = hn::MulAdd(hn::Add(a[i], b[i]), scales.of[i / kTokens], totals_[i])), ...);
  }
  template <int kStep, int kEnd, class Values, int... i>
  HWY_INLINE void AddSteps(const Values& values, const Words& words, VF* a, VF* b,
                           std::integer_sequence<int, i...> all) const {
    if constexpr (kStep < kEnd) {
      const auto value = Step<kStep>(values, words);
      const auto x = Columns<kStep>(Tokens());
      ((a[i] = hn::MulAdd(value.of[i / kTokens], x.of[i % kTokens], a[i])), ...);
      AddSteps<kStep + 1, kEnd>(values, words, b, a, all);
    }
  }
  template <int kStep, class Values>
  HWY_INLINE PerRow<VF> Step(const Values& values, const Words& words) const {
    return Step<kStep>(values, words, Rows());
  }
  template <int kStep, class Values, int... r>
  HWY_INLINE PerRow<VF> Step(const Values& values, const Words& words,
                             std::integer_sequence<int, r...>) const {
    return {{values.template At<kStep>(words.of[r])...}};
  }

  int64_t ahead_;
  int64_t scale_stride_;
  const std::byte* codes_;
  const float* scales_;
  int64_t offsets_[kRows];
  const PackedInput* inputs_[kTokens];
  const float* x_[kTokens];
  VF totals_[kSums];
};

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
// Sums of a tile: their partial sums, the words and what these become fill the registers.
constexpr int kTileSums = QWB_PERMUTES ? 4 : 2;

// Floats from the scales of one row to the next: their number up to whole vectors and one more.
HWY_INLINE int64_t ScaleStride(int64_t groups) {
  return (groups + 15) / 16 * 16 + kPackedPadding;
}

// All rows of a task, four at a time. The scales of the next four are prepared before the present
// four are multiplied: they pass through memory, for which nothing then waits. A kernel has
//   kernel.Scales(row, scales, shifts)   of one row, into memory that ends in zeros; shifts are
//                                        what is added for the sums of x
//   kernel.Multiply(tile)                adds the products to the tile's totals but for the shifts
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
    // The same chunk of rows that come later. Scales within rows are read a tile earlier.
    const int64_t tile = (task.vectors > 1 ? 1 : kTileSums) * rows.stride;
    ahead_ = (2 * kAhead / tile + (rows.packing >= Packing::q2_k ? 2 : 1)) * tile;
    std::fill_n(task.scratch, 4 * kRowsAtOnce * stride_, 0.0f);
  }
  HWY_INLINE void Run() {
    float *now = task_.scratch, *next = now + 2 * kRowsAtOnce * stride_;
    Prepare(task_.begin, now);
    for (int64_t first = task_.begin; first < task_.end; first += kRowsAtOnce) {
      Prepare(first + kRowsAtOnce, next);
      int64_t v = 0;
      for (; v + 1 < task_.vectors; v += kTileSums) MultiplyTokens(first, v, now);
      if (v < task_.vectors) MultiplyRows(first, v, now);
      std::swap(now, next);
    }
  }

 private:
  HWY_INLINE int64_t Count(int64_t first) const { return std::min(kRowsAtOnce, task_.end - first); }
  HWY_INLINE void Prepare(int64_t first, float* scales) const {
    for (int64_t r = 0; r < Count(first); ++r)
      kernel_.Scales(first + r, scales + r * stride_, scales + (kRowsAtOnce + r) * stride_);
  }
  template <int kRows, int kTokens>
  HWY_INLINE void Multiply(int64_t row, const int64_t* offsets, const float* scales,
                           const PackedInput* const* inputs, VF* totals) const {
    Tile<kRows, kTokens> tile(rows_.codes + row * rows_.stride, ahead_, offsets, scales, stride_,
                              inputs);
    kernel_.Multiply(tile);
    tile.AddShifts(scales + kRowsAtOnce * stride_, stride_, shifted_);
    for (int i = 0; i < kRows * kTokens; ++i) totals[i] = tile.Total(i);
  }
  // Four rows and token v. In place of rows that are not there the last one.
  HWY_INLINE void MultiplyRows(int64_t first, int64_t v, const float* scales) const {
    const int64_t count = Count(first);
    const PackedInput* input = task_.inputs + v;
    VF totals[kRowsAtOnce];
    for (int64_t r = 0; r < kRowsAtOnce; r += kTileSums) {
      int64_t offsets[kTileSums];
      for (int64_t i = 0; i < kTileSums; ++i)
        offsets[i] = std::min(r + i, count - 1) * rows_.stride;
      Multiply<kTileSums, 1>(first, offsets, scales + r * stride_, &input, totals + r);
    }
    HWY_ALIGN float sums[kRowsAtOnce];
    StoreSums(totals, sums);
    std::copy_n(sums, count, task_.y + v * task_.y_stride + first - task_.begin);
  }
  // Each of four rows and tokens from v on. In place of tokens that are not there the last one.
  HWY_INLINE void MultiplyTokens(int64_t first, int64_t v, const float* scales) const {
    const int64_t tokens = std::min<int64_t>(kTileSums, task_.vectors - v), start = 0;
    const PackedInput* inputs[kTileSums];
    for (int64_t t = 0; t < kTileSums; ++t) inputs[t] = task_.inputs + v + std::min(t, tokens - 1);
    for (int64_t r = 0; r < Count(first); ++r) {
      VF totals[kRowsAtOnce] = {hn::Zero(DF()), hn::Zero(DF()), hn::Zero(DF()), hn::Zero(DF())};
      Multiply<1, kTileSums>(first + r, &start, scales + r * stride_, inputs, totals);
      HWY_ALIGN float sums[kRowsAtOnce];
      StoreSums(totals, sums);
      for (int64_t t = 0; t < tokens; ++t)
        task_.y[(v + t) * task_.y_stride + first + r - task_.begin] = sums[t];
    }
  }

  const PackedRows& rows_;
  const PackedTask& task_;
  const Kernel& kernel_;
  int64_t stride_, shifted_, ahead_;
};

template <class Kernel>
HWY_INLINE void DotRows(const PackedRows& rows, const PackedTask& task, int64_t groups,
                        bool shifted, const Kernel& kernel) {
  RowLoop<Kernel>(rows, task, groups, shifted, kernel).Run();
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#endif
