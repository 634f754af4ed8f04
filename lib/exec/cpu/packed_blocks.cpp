#include "lib/exec/cpu/packed_blocks.h"

#include "lib/base/bytes.h"
#include "lib/codec/ggml_type.h"
#include "lib/exec/cpu/packed_superblocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/exec/cpu/packed_blocks.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set

#include <hwy/highway.h>

#include "lib/exec/cpu/packed_dot-inl.h"
#include "lib/exec/cpu/packed_ggml-inl.h"
#include "lib/exec/cpu/packed_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

constexpr int64_t kBlocksAtOnce = std::max<int64_t>(1, kLanes / 4);

// The 16 bytes at `at` of as many blocks as fill a vector, or of the `count` that there are.
template <int64_t kBytes>
HWY_INLINE VU LoadBlocks(const std::byte* at, int64_t count) {
#if QWB_PERMUTES
  // Loads of 16 bytes seldom cross a cache line.
  const auto block = [&](int64_t b) HWY_ATTR {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + b * kBytes));
  };
  __m512i words = _mm512_zextsi128_si512(block(0));
  if (count > 1) words = _mm512_mask_broadcast_i32x4(words, 0x00f0, block(1));
  if (count > 2) words = _mm512_mask_broadcast_i32x4(words, 0x0f00, block(2));
  if (count > 3) words = _mm512_mask_broadcast_i32x4(words, 0xf000, block(3));
  return VU{words};
#else
  const hn::CappedTag<uint32_t, 4> d4;
  const auto block = [&](int64_t b) HWY_ATTR {
    return hn::LoadU(d4, reinterpret_cast<const uint32_t*>(at + b * kBytes));
  };
  if constexpr (kLanes == 8)
    return hn::Combine(DU(), count > 1 ? block(1) : hn::Zero(d4), block(0));
  else
    return block(0);
#endif
}

// The f16 that kShift brings to the bottom of every block's first word, in the block's lanes.
template <int kShift>
HWY_INLINE VF HeadHalves(VU heads) {
  const DF d;
#if QWB_PERMUTES
  constexpr uint16_t k = kShift / 16;
  HWY_ALIGN static constexpr uint16_t kOfLanes[32] = {
      k,      k,      k,      k,      k + 8,  k + 8,  k + 8,  k + 8,
      k + 16, k + 16, k + 16, k + 16, k + 24, k + 24, k + 24, k + 24};
  const __m512i halves = _mm512_permutexvar_epi16(_mm512_load_si512(kOfLanes), heads.raw);
  return VF{_mm512_cvtph_ps(_mm512_castsi512_si256(halves))};
#else
  const hn::Rebind<hwy::float16_t, DF> d16;
  const hn::Rebind<uint16_t, DF> du16;
  const VU first = hn::Broadcast<0>(heads);
  const VU bits = hn::And(hn::ShiftRight<kShift>(first), hn::Set(DU(), 0xffffu));
  const auto halves = hn::DemoteTo(du16, hn::BitCast(DI(), bits));
  return hn::PromoteTo(d, hn::BitCast(d16, halves));
#endif
}

// 16 in byte i of every block, where bit i of the two bytes from kByte of its head on is set.
template <int kByte>
HWY_INLINE VU FifthBits(VU heads) {
  const hn::Repartition<uint8_t, DU> d8;
  constexpr uint8_t k = kByte;
  HWY_ALIGN static constexpr uint8_t kBytes[16] = {
      k, k, k, k, k, k, k, k, k + 1, k + 1, k + 1, k + 1, k + 1, k + 1, k + 1, k + 1};
  HWY_ALIGN static constexpr uint8_t kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128,
                                                  1, 2, 4, 8, 16, 32, 64, 128};
  const auto bytes = hn::TableLookupBytes(hn::BitCast(d8, heads), hn::LoadDup128(d8, kBytes));
  const auto set = hn::TestBit(bytes, hn::LoadDup128(d8, kBits));
  return hn::BitCast(DU(), hn::IfThenElseZero(set, hn::Set(d8, 16)));
}

// Rows of blocks of 32, as many at a time as fill a vector of words; kernel.Add() takes `count` of
// them.
template <class Kernel, class Tile>
HWY_INLINE void AddBlocks(const Kernel& kernel, Tile& tile) {
  int64_t left = kernel.rows.columns / 32, chunk = 0;
  for (; left >= kBlocksAtOnce; left -= kBlocksAtOnce, ++chunk) {
    tile.Prefetch();
    kernel.Add(tile, kBlocksAtOnce, chunk);
    tile.Advance(kBlocksAtOnce * Kernel::kBytes, 0, 32 * kBlocksAtOnce);
  }
  if (left > 0) kernel.Add(tile, left, chunk);
}

// Blocks of 32: d, for some types m, for five bits the word of fifth bits, then the low halves of
// values 0 to 15 and the high ones of values 16 to 31. A lane's minimum is multiplied with the sum
// of its eight x.
template <bool kMinimum, bool kFive>
struct NibbleBlocks {
  static constexpr int64_t kBytes = 18 + (kMinimum ? 2 : 0) + (kFive ? 4 : 0);
  static constexpr float kCentre = kMinimum ? 0 : kFive ? 16 : 8;
  const PackedRows& rows;
  Nibbles<Integers<4>> four{Integers<4>(kCentre)};
  CodeBytes<Integers<5>> five{Integers<5>(kCentre)};

  HWY_INLINE void Scales(int64_t, float*, float*) const {}
  template <class Tile>
  HWY_INLINE void Add(Tile& tile, int64_t count, int64_t chunk) const {
    const auto words = tile.Each(
        [&](int r) HWY_ATTR { return LoadBlocks<kBytes>(tile.At(r) + kBytes - 16, count); });
    const auto heads =
        tile.Each([&](int r) HWY_ATTR { return LoadBlocks<kBytes>(tile.At(r), count); });
    const auto scale = [&](int r) HWY_ATTR { return HeadHalves<0>(heads.of[r]); };
    if constexpr (!kFive) {
      tile.template Add<0, 8>(four, words, scale);
    } else {
      constexpr int kBits = kBytes - 20;
      const auto low = tile.Each([&](int r) HWY_ATTR {
        return hn::Or(LowHalves(words.of[r]), FifthBits<kBits>(heads.of[r]));
      });
      const auto high = tile.Each([&](int r) HWY_ATTR {
        return hn::Or(LowHalves(hn::ShiftRight<4>(words.of[r])), FifthBits<kBits + 2>(heads.of[r]));
      });
      tile.template Add<0, 4>(five, low, scale);
      tile.template Add<4, 8>(five, high, scale);
    }
    if constexpr (kMinimum)
      tile.AddSums([&](int r) HWY_ATTR { return HeadHalves<16>(heads.of[r]); }, chunk * kLanes);
  }
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    AddBlocks(*this, tile);
  }
};

// 2^(e - 128), e the first byte of every block, in the block's lanes (ggml_mxfp4_scale).
HWY_INLINE VF HeadExponents(VU heads) {
  const DU du;
  const VU e = hn::And(hn::Broadcast<0>(heads), hn::Set(du, 0xffu)), one = hn::Set(du, 1);
  const VU small = hn::ShiftLeft<21>(hn::Add(e, one)), normal = hn::ShiftLeft<23>(hn::Sub(e, one));
  return hn::BitCast(DF(), hn::IfThenElse(hn::Lt(e, hn::Set(du, 2)), small, normal));
}

// Blocks of 32 whose nibbles stand for the values of a table: IQ4_NL (d, nibbles) and MXFP4 (an
// exponent, nibbles).
template <int kHead>
struct TableBlocks {
  static constexpr int64_t kBytes = kHead + 16;
  const PackedRows& rows;
  Nibbles<TableOf16> nibbles;

  HWY_INLINE void Scales(int64_t, float*, float*) const {}
  template <class Tile>
  HWY_INLINE void Add(Tile& tile, int64_t count, int64_t) const {
    const auto words =
        tile.Each([&](int r) HWY_ATTR { return LoadBlocks<kBytes>(tile.At(r) + kHead, count); });
    tile.template Add<0, 8>(nibbles, words, [&](int r) HWY_ATTR {
      const VU heads = LoadBlocks<kBytes>(tile.At(r), count);
      if constexpr (kHead == 1) return HeadExponents(heads);
      return HeadHalves<0>(heads);
    });
  }
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    AddBlocks(*this, tile);
  }
};

struct Q80Blocks {
  static constexpr int64_t kBytes = 34;
  const PackedRows& rows;
  HWY_INLINE void Scales(int64_t, float*, float*) const {}
  HWY_INLINE VF Row(const std::byte* at, const float* x) const {
    const DF d;
    const hn::Rebind<int8_t, DF> d8;
    const hn::Rebind<hwy::float16_t, DF> d16;
    const hn::Rebind<uint16_t, DF> du16;
    VF total = hn::Zero(d);
    for (int64_t left = rows.columns; left > 0; left -= 32, at += kBytes, x += 32) {
      Ahead(at);
      const auto* codes = reinterpret_cast<const int8_t*>(at + 2);
      const auto values = [&](int64_t i) HWY_ATTR {
        return hn::ConvertTo(d, hn::PromoteTo(DI(), hn::LoadU(d8, codes + i)));
      };
      const VF scale = hn::PromoteTo(d, hn::BitCast(d16, hn::Set(du16, load<uint16_t>(at))));
      VF a = hn::Mul(values(0), hn::LoadU(d, x));
      for (int64_t i = kLanes; i < 32; i += kLanes)
        a = hn::MulAdd(values(i), hn::LoadU(d, x + i), a);
      total = hn::MulAdd(a, scale, total);
    }
    return total;
  }
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    tile.AddEach([&](int r, int t) HWY_ATTR { return Row(tile.At(r), tile.Input(t).x); });
  }
};

void PackedBlocksDot(const PackedRows& rows, const PackedTask& task) {
  switch (rows.packing) {
    case Packing::q4_0:
      return DotRows(rows, task, 0, false, NibbleBlocks<false, false>{rows});
    case Packing::q4_1:
      return DotRows(rows, task, 0, false, NibbleBlocks<true, false>{rows});
    case Packing::q5_0:
      return DotRows(rows, task, 0, false, NibbleBlocks<false, true>{rows});
    case Packing::q5_1:
      return DotRows(rows, task, 0, false, NibbleBlocks<true, true>{rows});
    case Packing::q8_0:
      return DotRows(rows, task, 0, false, Q80Blocks{rows});
    case Packing::iq4_nl:
      return DotRows(rows, task, 0, false, TableBlocks<2>{rows, {TableOf16(kIq4Values)}});
    case Packing::mxfp4:
      return DotRows(rows, task, 0, false, TableBlocks<1>{rows, {TableOf16(kMxfp4Values)}});
    default:
      return packed_superblocks_dot(rows, task);
  }
}

#else
void PackedBlocksDot(const PackedRows&, const PackedTask&) {}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qwb::simd {

HWY_EXPORT(PackedBlocksDot);

void packed_blocks_dot(const PackedRows& rows, const PackedTask& task) {
  HWY_DYNAMIC_DISPATCH(PackedBlocksDot)(rows, task);
}

}  // namespace qwb::simd
#endif
