#include "lib/exec/cpu/packed_superblocks.h"

#include <cstring>

#include "lib/base/bytes.h"
#include "lib/base/half.h"
#include "lib/codec/ggml_type.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/exec/cpu/packed_superblocks.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set

#include <hwy/highway.h>

#include "lib/exec/cpu/packed_dot-inl.h"
#include "lib/exec/cpu/packed_ggml-inl.h"
#include "lib/exec/cpu/packed_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// Eight bytes less `centre`, times factor.
HWY_INLINE void FromBytes(uint64_t bytes, int centre, float factor, float* out) {
  const hn::CappedTag<float, 8> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  HWY_ALIGN uint8_t each[8];
  std::memcpy(each, &bytes, 8);
  for (size_t i = 0; i < 8; i += hn::Lanes(d)) {
    const auto codes = hn::Sub(hn::PromoteTo(di, hn::LoadU(d8, each + i)), hn::Set(di, centre));
    hn::StoreU(hn::Mul(hn::ConvertTo(d, codes), hn::Set(d, factor)), d, out + i);
  }
}

constexpr uint64_t kNibbleBytes = 0x0f0f0f0f0f0f0f0f;

HWY_INLINE float HalfAt(const std::byte* at) {
  return f16_to_f32(load<uint16_t>(at));
}

// Word w % 8 of 32 bytes for every word w from `first` on.
HWY_INLINE VU EightWords(const std::byte* at, int64_t first) {
  if constexpr (kLanes == 16) {
    const hn::Half<DU> dh;
    const auto half = hn::LoadU(dh, reinterpret_cast<const uint32_t*>(at));
    return hn::Combine(DU(), half, half);
  }
  return LoadWords(at + 4 * (first % 8));
}

// `by` once for every eight words before, from word `first` on.
HWY_INLINE VU ByEights(int64_t first, uint32_t by) {
  HWY_ALIGN uint32_t lanes[kLanes];
  for (int64_t j = 0; j < kLanes; ++j) lanes[j] = static_cast<uint32_t>((first + j) / 8) * by;
  return hn::Load(DU(), lanes);
}

// Rows of superblocks of 256 columns with kScales scales each. kernel.Add() takes the words of a
// superblock from number `first` on, of kCodes codes each.
template <class Kernel, class Tile>
HWY_INLINE void AddSuperblocks(const Kernel& kernel, Tile& tile) {
  constexpr int64_t kBytes = Kernel::kBytes, kCodes = Kernel::kCodes;
  for (int64_t i = 0; i < kernel.rows.columns; i += 256) {
    for (int64_t line = 0; line < kBytes; line += 64) tile.Prefetch(line);
    for (int64_t first = 0; first < 256 / kCodes; first += kLanes) {
      kernel.Add(tile, first);
      tile.Advance(0, 0, kCodes * kLanes);
    }
    tile.Advance(kBytes, Kernel::kScales, 0);
  }
}

// Q4_K and Q5_K: 256 values in four pairs of runs of 32, low halves and high halves of 32 bytes.
// Each run has a scale and a minimum of six bits.
template <bool kFive>
struct AffineK {
  static constexpr int64_t kBytes = kFive ? 176 : 144, kScales = 8, kCodes = 8;
  const PackedRows& rows;
  Nibbles<Integers<4>> four{Integers<4>(0)};
  CodeBytes<Integers<5>> five{Integers<5>(0)};
  Places even{[](int64_t j) { return j / 8 * 2; }};
  Places odd{[](int64_t j) { return j / 8 * 2 + 1; }};

  HWY_INLINE void Scales(int64_t row, float* scales, float* shifts) const {
    const std::byte* at = rows.codes + row * rows.stride;
    for (int64_t i = 0; i < rows.columns; i += 256, at += kBytes, scales += 8, shifts += 8) {
      const uint64_t a = load<uint32_t>(at + 4), b = load<uint32_t>(at + 8),
                     c = load<uint32_t>(at + 12);
      const uint64_t scale = (a & 0x3f3f3f3f) | ((c & 0x0f0f0f0f) | (a >> 2 & 0x30303030)) << 32;
      const uint64_t low = (b & 0x3f3f3f3f) | ((c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030)) << 32;
      FromBytes(scale, 0, HalfAt(at), scales);
      FromBytes(low, 0, -HalfAt(at + 2), shifts);
    }
  }
  template <class Tile>
  HWY_INLINE void Add(Tile& tile, int64_t first) const {
    const auto words =
        tile.Each([&](int r) HWY_ATTR { return LoadWords(tile.At(r) + kBytes - 128 + 4 * first); });
    const int64_t scale = first / 8 * 2;
    const auto low_scale = [&](int r) HWY_ATTR { return even.Pick(tile.Scales(r) + scale); };
    const auto high_scale = [&](int r) HWY_ATTR { return odd.Pick(tile.Scales(r) + scale); };
    if constexpr (kFive) {
      const VU bit = hn::Set(DU(), 0x10101010u), by = ByEights(first, 2);
      const auto fifths = tile.Each(
          [&](int r) HWY_ATTR { return hn::Shr(EightWords(tile.At(r) + 16, first), by); });
      const auto low = tile.Each([&](int r) HWY_ATTR {
        return hn::Or(LowHalves(words.of[r]), hn::And(hn::ShiftLeft<4>(fifths.of[r]), bit));
      });
      const auto high = tile.Each([&](int r) HWY_ATTR {
        return hn::Or(LowHalves(hn::ShiftRight<4>(words.of[r])),
                      hn::And(hn::ShiftLeft<3>(fifths.of[r]), bit));
      });
      tile.template Add<0, 4>(five, low, low_scale);
      tile.template Add<4, 8>(five, high, high_scale);
    } else {
      tile.template Add<0, 4>(four, words, low_scale);
      tile.template Add<4, 8>(four, words, high_scale);
    }
  }
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    AddSuperblocks(*this, tile);
  }
};

// Q6_K: in each half of 128 values, low halves of 64 bytes are values 0 to 63, high halves 64 to
// 127; two more bits of value i in byte i % 32 of 32. A scale for every 16 values.
struct Q6K {
  static constexpr int64_t kBytes = 210, kScales = 16, kCodes = 8;
  const PackedRows& rows;
  SignedBytes bytes = {};
  Places places{[](int64_t j) { return j / 4; }};

  HWY_INLINE void Scales(int64_t row, float* scales, float*) const {
    const std::byte* at = rows.codes + row * rows.stride;
    for (int64_t i = 0; i < rows.columns; i += 256, at += kBytes, scales += 16) {
      const float d = HalfAt(at + 208) * kSignedByte;
      constexpr uint64_t kSigns = 0x8080808080808080;
      FromBytes(load<uint64_t>(at + 192) ^ kSigns, 128, d, scales);
      FromBytes(load<uint64_t>(at + 200) ^ kSigns, 128, d, scales + 8);
    }
  }
  // Six bits of every byte less 32, as signed bytes.
  HWY_INLINE static VU Centred(VU low, VU high) {
    const hn::Repartition<uint8_t, DU> d8;
    const VU codes = hn::Or(LowHalves(low), hn::And(high, hn::Set(DU(), 0x30303030u)));
    return hn::BitCast(DU(), hn::Sub(hn::BitCast(d8, codes), hn::Set(d8, 32)));
  }
  template <class Tile>
  HWY_INLINE void Add(Tile& tile, int64_t first) const {
    const VU by = ByEights(first % 16, 2);
    const auto words = tile.Each([&](int r) HWY_ATTR { return LoadWords(tile.At(r) + 4 * first); });
    const auto high = tile.Each([&](int r) HWY_ATTR {
      return hn::Shr(EightWords(tile.At(r) + 128 + 32 * (first / 16), first), by);
    });
    const auto a = tile.Each(
        [&](int r) HWY_ATTR { return Centred(words.of[r], hn::ShiftLeft<4>(high.of[r])); });
    const auto b = tile.Each(
        [&](int r) HWY_ATTR { return Centred(hn::ShiftRight<4>(words.of[r]), high.of[r]); });
    const int64_t scale = 8 * (first / 16) + first % 16 / 4;
    tile.template Add<0, 4>(bytes, a,
                            [&](int r) HWY_ATTR { return places.Pick(tile.Scales(r) + scale); });
    tile.template Add<4, 8>(
        bytes, b, [&](int r) HWY_ATTR { return places.Pick(tile.Scales(r) + scale + 4); });
  }
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    AddSuperblocks(*this, tile);
  }
};

// Q2_K and Q3_K: in each half of 128 values, two bits of value 32 l + i are bits 2 l of byte i of
// 32; Q3_K's third bit is bit l (first half) or 4 + l of byte i of 32 others. A scale for every 16
// values, for Q2_K a minimum too.
template <bool kThree>
struct TwoBitsK {
  static constexpr int64_t kBytes = kThree ? 110 : 84, kScales = 16, kCodes = 16;
  const PackedRows& rows;
  Integers<2> two{0};
  CodeBytes<Integers<3>> three{Integers<3>(4)};
  Places places{[](int64_t j) { return j / 8 * 8 + j % 8 / 4; }};

  HWY_INLINE void Scales(int64_t row, float* scales, float* shifts) const {
    const std::byte* at = rows.codes + row * rows.stride;
    for (int64_t i = 0; i < rows.columns; i += 256, at += kBytes, scales += 16, shifts += 16) {
      if constexpr (kThree) {
        const auto low = load<uint64_t>(at + 96);
        const uint64_t word = load<uint32_t>(at + 104);
        const auto high = [&](int bits) {
          return (word >> bits & 0x03030303) << 4 | (word >> (bits + 2) & 0x03030303) << 36;
        };
        const float d = HalfAt(at + 108);
        FromBytes((low & kNibbleBytes) | high(0), 32, d, scales);
        FromBytes((low >> 4 & kNibbleBytes) | high(4), 32, d, scales + 8);
      } else {
        const float d = HalfAt(at + 80), low = -HalfAt(at + 82);
        for (int half = 0; half < 2; ++half) {
          const auto both = load<uint64_t>(at + 8 * half);
          FromBytes(both & kNibbleBytes, 0, d, scales + 8 * half);
          FromBytes(both >> 4 & kNibbleBytes, 0, low, shifts + 8 * half);
        }
      }
    }
  }
  template <int kStep>
  HWY_INLINE VF At(VU words) const {
    return two(hn::ShiftRight<8 * (kStep % 4) + 2 * (kStep / 4)>(words));
  }
  // Run l of both halves.
  template <int kRun, class Tile>
  HWY_INLINE void AddRun(Tile& tile, const typename Tile::Words& words,
                         const typename Tile::Words& thirds, int64_t scale) const {
    const auto of_row = [&](int r)
                            HWY_ATTR { return places.Pick(tile.Scales(r) + scale + 2 * kRun); };
    if constexpr (kThree) {
      const auto codes = tile.Each([&](int r) HWY_ATTR {
        const VU up = kRun < 3 ? hn::ShiftLeft<(kRun < 3 ? 2 - kRun : 0)>(thirds.of[r])
                               : hn::ShiftRight<1>(thirds.of[r]);
        return hn::Or(hn::And(hn::ShiftRight<2 * kRun>(words.of[r]), hn::Set(DU(), 0x03030303u)),
                      hn::And(up, hn::Set(DU(), 0x04040404u)));
      });
      tile.template Add<4 * kRun, 4 * kRun + 4>(three, codes, of_row);
    } else {
      tile.template Add<4 * kRun, 4 * kRun + 4>(*this, words, of_row);
    }
  }
  template <class Tile>
  HWY_INLINE void Add(Tile& tile, int64_t first) const {
    const auto words = tile.Each(
        [&](int r) HWY_ATTR { return LoadWords(tile.At(r) + (kThree ? 32 : 16) + 4 * first); });
    typename Tile::Words thirds = words;
    if constexpr (kThree) {
      const VU by = ByEights(first, 4);
      thirds =
          tile.Each([&](int r) HWY_ATTR { return hn::Shr(EightWords(tile.At(r), first), by); });
    }
    const int64_t scale = first / 8 * 8 + first % 8 / 4;
    AddRun<0>(tile, words, thirds, scale);
    AddRun<1>(tile, words, thirds, scale);
    AddRun<2>(tile, words, thirds, scale);
    AddRun<3>(tile, words, thirds, scale);
  }
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    AddSuperblocks(*this, tile);
  }
};

// IQ4_XS: eight runs of 32 whose nibbles stand for the values of a table, low halves of 16 bytes
// and high halves. Each has a scale of six bits, of which two lie apart.
struct Iq4Xs {
  static constexpr int64_t kBytes = 136, kScales = 8, kCodes = 8;
  const PackedRows& rows;
  Nibbles<TableOf16> nibbles{TableOf16(kIq4Values)};
  Places places{[](int64_t j) { return j / 4; }};

  HWY_INLINE void Scales(int64_t row, float* scales, float*) const {
    const std::byte* at = rows.codes + row * rows.stride;
    for (int64_t i = 0; i < rows.columns; i += 256, at += kBytes, scales += 8) {
      uint64_t low = load<uint32_t>(at + 4), high = load<uint16_t>(at + 2);
      low = (low | low << 16) & 0x0000ffff0000ffff;  // a nibble in every byte
      low = (low | low << 8) & 0x00ff00ff00ff00ff;
      low = (low | low << 4) & kNibbleBytes;
      high = (high | high << 24) & 0x000000ff000000ff;  // two bits in every byte
      high = (high | high << 12) & 0x000f000f000f000f;
      high = (high | high << 6) & 0x0303030303030303;
      FromBytes(low | high << 4, 32, HalfAt(at), scales);
    }
  }
  template <class Tile>
  HWY_INLINE void Add(Tile& tile, int64_t first) const {
    const auto words =
        tile.Each([&](int r) HWY_ATTR { return LoadWords(tile.At(r) + 8 + 4 * first); });
    tile.template Add<0, 8>(
        nibbles, words, [&](int r) HWY_ATTR { return places.Pick(tile.Scales(r) + first / 4); });
  }
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    AddSuperblocks(*this, tile);
  }
};

void PackedSuperblocksDot(const PackedRows& rows, const PackedTask& task) {
  const int64_t columns = rows.columns;
  switch (rows.packing) {
    case Packing::q2_k:
      return DotRows(rows, task, columns / 16, true, TwoBitsK<false>{rows});
    case Packing::q3_k:
      return DotRows(rows, task, columns / 16, false, TwoBitsK<true>{rows});
    case Packing::q4_k:
      return DotRows(rows, task, columns / 32, true, AffineK<false>{rows});
    case Packing::q5_k:
      return DotRows(rows, task, columns / 32, true, AffineK<true>{rows});
    case Packing::q6_k:
      return DotRows(rows, task, columns / 16, false, Q6K{rows});
    case Packing::iq4_xs:
      return DotRows(rows, task, columns / 32, false, Iq4Xs{rows});
    default:
      return;
  }
}

#else
void PackedSuperblocksDot(const PackedRows&, const PackedTask&) {}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qwb::simd {

HWY_EXPORT(PackedSuperblocksDot);

void packed_superblocks_dot(const PackedRows& rows, const PackedTask& task) {
  HWY_DYNAMIC_DISPATCH(PackedSuperblocksDot)(rows, task);
}

}  // namespace qwb::simd
#endif
