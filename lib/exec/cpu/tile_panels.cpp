#include "lib/exec/cpu/tile_panels.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/exec/cpu/tile_panels.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace qwb::tile_panels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kWords = kTileLines * kTileLines;  // of two values, in a tile

HWY_INLINE void Transpose(const uint32_t* in, uint32_t* out) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t i = 0; i < kTileLines; ++i) {
    for (int64_t j = 0; j < kTileLines; ++j) out[j * kTileLines + i] = in[i * kTileLines + j];
  }
#else
  const hn::Full128<uint32_t> d;
  const hn::Full128<uint64_t> d2;
  const auto wide = [&](auto v) HWY_ATTR { return hn::BitCast(d2, v); };
  for (int64_t j = 0; j < kTileLines; j += 4) {
    for (int64_t i = 0; i < kTileLines; i += 4) {
      const uint32_t* from = in + i * kTileLines + j;
      uint32_t* to = out + j * kTileLines + i;
      const auto r0 = hn::Load(d, from), r1 = hn::Load(d, from + kTileLines);
      const auto r2 = hn::Load(d, from + 2 * kTileLines), r3 = hn::Load(d, from + 3 * kTileLines);
      const auto low01 = wide(hn::InterleaveLower(d, r0, r1)),
                 high01 = wide(hn::InterleaveUpper(d, r0, r1));
      const auto low23 = wide(hn::InterleaveLower(d, r2, r3)),
                 high23 = wide(hn::InterleaveUpper(d, r2, r3));
      hn::Store(hn::BitCast(d, hn::InterleaveLower(d2, low01, low23)), d, to);
      hn::Store(hn::BitCast(d, hn::InterleaveUpper(d2, low01, low23)), d, to + kTileLines);
      hn::Store(hn::BitCast(d, hn::InterleaveLower(d2, high01, high23)), d, to + 2 * kTileLines);
      hn::Store(hn::BitCast(d, hn::InterleaveUpper(d2, high01, high23)), d, to + 3 * kTileLines);
    }
  }
#endif
}

using Words = hn::ScalableTag<uint32_t>;

// f32 bits plus what makes their upper half the nearest bf16, ties to even. Infinities and the NaN
// that arithmetic makes stay what they are.
HWY_INLINE hn::Vec<Words> Rounded(const float* values) {
  const Words d;
  const auto bits = hn::LoadU(d, reinterpret_cast<const uint32_t*>(values));
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1u));
  return hn::Add(bits, hn::Add(hn::Set(d, 0x7fffu), odd));
}

// 32 values of a line as 16 words.
HWY_INLINE void NarrowLine(const float* values, uint32_t* words) {
  const hn::Rebind<uint16_t, Words> d16;
  const auto n = static_cast<int64_t>(hn::Lanes(Words()));
  auto* out = reinterpret_cast<uint16_t*>(words);
  for (int64_t i = 0; i < kTileInner; i += n)
    hn::StoreU(hn::TruncateTo(d16, hn::ShiftRight<16>(Rounded(values + i))), d16, out + i);
}
HWY_INLINE void NarrowLine(const uint16_t* values, uint32_t* words) {
  std::memcpy(words, values, kTileInner * sizeof(uint16_t));
}

// Two values of each of 16 lines as 16 words.
HWY_INLINE void ZipLines(const float* first, const float* second, uint32_t* words) {
  const Words d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  const auto upper = hn::Set(d, 0xffff0000u);
  for (int64_t i = 0; i < kTileLines; i += n) {
    const auto pair =
        hn::Or(hn::ShiftRight<16>(Rounded(first + i)), hn::And(Rounded(second + i), upper));
    hn::StoreU(pair, d, words + i);
  }
}
HWY_INLINE void ZipLines(const uint16_t* first, const uint16_t* second, uint32_t* words) {
  for (int64_t i = 0; i < kTileLines; ++i)
    words[i] = static_cast<uint32_t>(first[i]) | static_cast<uint32_t>(second[i]) << 16;
}

// A whole tile; `values` begins at its first line and inner value.
template <class T>
HWY_INLINE void PackTile(const T* values, int64_t stride, bool by_line, TileForm form,
                         uint32_t* tile) {
  HWY_ALIGN uint32_t turned[kWords];
  const bool straight = by_line == (form == TileForm::left);
  uint32_t* words = straight ? tile : turned;
  for (int64_t r = 0; r < kTileLines; ++r) {
    if (by_line) {
      NarrowLine(values + r * stride, words + r * kTileLines);
    } else {
      ZipLines(values + 2 * r * stride, values + (2 * r + 1) * stride, words + r * kTileLines);
    }
  }
  if (!straight) Transpose(turned, tile);
}

// Panels [begin, end) of a matrix stored by line, steps [begin, end) of another: in the order of
// the source.
template <class T>
void Pack(const T* values, const MatrixLayout& m, TileForm form, const Panels& out, int64_t begin,
          int64_t end) {
  const int64_t line_stride = m.by_line ? m.stride : 1, inner_stride = m.by_line ? 1 : m.stride;
  const auto pack = [&](int64_t panel, int64_t step) HWY_ATTR {
    const int64_t line = panel * kTileLines, inner = step * kTileInner;
    auto* tile = reinterpret_cast<uint32_t*>(out.tile(panel, step));
    const T* from = values + line * line_stride + inner * inner_stride;
    const int64_t lines = std::min(kTileLines, m.lines - line),
                  count = std::min(kTileInner, m.inner - inner);
    if (lines == kTileLines && count == kTileInner) {
      PackTile(from, m.stride, m.by_line, form, tile);
      return;
    }
    T padded[kTileValues] = {};
    for (int64_t l = 0; l < lines; ++l) {
      for (int64_t k = 0; k < count; ++k)
        padded[l * kTileInner + k] = from[l * line_stride + k * inner_stride];
    }
    PackTile(padded, kTileInner, true, form, tile);
  };
  const int64_t within = m.by_line ? out.steps : ceil_div(m.lines, kTileLines);
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t j = 0; j < within; ++j) m.by_line ? pack(i, j) : pack(j, i);
  }
}

void PackFloats(const float* values, const MatrixLayout& m, TileForm form, const Panels& out,
                int64_t begin, int64_t end) {
  Pack(values, m, form, out, begin, end);
}
void PackHalves(const uint16_t* values, const MatrixLayout& m, TileForm form, const Panels& out,
                int64_t begin, int64_t end) {
  Pack(values, m, form, out, begin, end);
}

void TurnTiles(const uint16_t* from, int64_t tiles, uint16_t* to) {
  for (int64_t t = 0; t < tiles; ++t) {
    Transpose(reinterpret_cast<const uint32_t*>(from) + t * kWords,
              reinterpret_cast<uint32_t*>(to) + t * kWords);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace qwb::tile_panels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "lib/base/parallel.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {
namespace tile_panels {
HWY_EXPORT(PackFloats);
HWY_EXPORT(PackHalves);
HWY_EXPORT(TurnTiles);

constexpr int64_t kTiles = 64;  // that a thread takes at a time

// Calls pack(begin, end) over ranges of what Pack counts.
template <class Body>
void split(const MatrixLayout& m, const Body& pack, Threads threads) {
  const int64_t panels = ceil_div(m.lines, kTileLines), steps = ceil_div(m.inner, kTileInner);
  const int64_t within = std::max<int64_t>(1, m.by_line ? steps : panels);
  parallel_ranges(threads, m.by_line ? panels : steps, ceil_div(kTiles, within), pack);
}
}  // namespace tile_panels

void pack_panels(const float* values, const MatrixLayout& layout, TileForm form, const Panels& out,
                 Threads threads) {
  using namespace tile_panels;
  split(
      layout,
      [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(PackFloats)(values, layout, form, out, begin, end);
      },
      threads);
}
void pack_panels(const uint16_t* values, const MatrixLayout& layout, TileForm form,
                 const Panels& out, Threads threads) {
  using namespace tile_panels;
  split(
      layout,
      [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(PackHalves)(values, layout, form, out, begin, end);
      },
      threads);
}

void turn_panels(const Panels& from, int64_t lines, const Panels& to, Threads threads) {
  using namespace tile_panels;
  parallel_ranges(threads, ceil_div(lines, kTileLines) * from.steps, kTiles,
                  [&](int64_t begin, int64_t end) {
                    HWY_DYNAMIC_DISPATCH(TurnTiles)
                    (from.data + begin * kTileValues, end - begin, to.data + begin * kTileValues);
                  });
}

void to_bf16(const float* values, int64_t count, uint16_t* out, Threads threads) {
  constexpr int64_t kGrain = 1 << 16;
  parallel_ranges(threads, count, kGrain, [&](int64_t begin, int64_t end) {
    simd::to_bf16(values + begin, end - begin, reinterpret_cast<std::byte*>(out + begin));
  });
}

}  // namespace qwb
#endif
