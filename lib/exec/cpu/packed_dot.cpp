#include "lib/exec/cpu/packed_dot.h"

#include <algorithm>

#include "lib/base/half.h"
#include "lib/exec/cpu/packed_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/exec/cpu/packed_dot.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set

#include <hwy/highway.h>

#include "lib/exec/cpu/packed_dot-inl.h"
#include "lib/exec/cpu/packed_scales-inl.h"
#include "lib/exec/cpu/packed_streams-inl.h"
#include "lib/exec/cpu/packed_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// Grids and tables: a vector of words, of which every shift brings kLanes codes to the bottom.
template <int kBits>
struct GridCodes {
  static constexpr int64_t kSteps = kBits == 2 ? 16 : 8;  // codes a word
  static constexpr int64_t kBytes = 4 * kLanes;           // of a chunk
  static constexpr float kFactor = 1;                     // still to be multiplied with
  explicit HWY_INLINE GridCodes(const PackedRows&) {}
  HWY_INLINE VU Load(const std::byte* at) const { return LoadWords(at); }
  HWY_INLINE VU Load(const std::byte* at, int64_t bytes) const { return LoadWords(at, bytes); }
  template <int kStep>
  HWY_INLINE VF At(VU words) const {
    return integers(hn::ShiftRight<kBits * kStep>(words));
  }
  Integers<kBits> integers{static_cast<float>(1 << (kBits - 1))};
};

// Eight codes are three bytes, which become the lower ones of a word.
struct Grid3Codes : GridCodes<3> {
  static constexpr int64_t kBytes = 3 * kLanes;
  explicit HWY_INLINE Grid3Codes(const PackedRows& rows) : GridCodes<3>(rows) {}
  HWY_INLINE VU Load(const std::byte* at) const { return Load(at, kBytes); }
  HWY_INLINE VU Load(const std::byte* at, int64_t bytes) const {
    const hn::Repartition<uint8_t, DU> d8;
    const DU d;
    const VU words = LoadWords(at, bytes);
    const auto blocks = hn::TableLookupLanes(words, hn::SetTableIndices(d, triples.lanes));
    HWY_ALIGN static constexpr uint8_t kSpread[16] = {0, 1, 2, 0, 3, 4,  5,  0,
                                                      6, 7, 8, 0, 9, 10, 11, 0};
    return hn::BitCast(d,
                       hn::TableLookupBytes(hn::BitCast(d8, blocks), hn::LoadDup128(d8, kSpread)));
  }
  Places triples{[](int64_t j) { return j / 4 * 3 + std::min<int64_t>(j % 4, 2); }};
};

struct Grid8Codes {
  static constexpr int64_t kSteps = 4, kBytes = 4 * kLanes;
  static constexpr float kFactor = kSignedByte;
  explicit HWY_INLINE Grid8Codes(const PackedRows&) {}
  // code - 128 as a signed byte
  HWY_INLINE VU Load(const std::byte* at) const { return Signed(LoadWords(at)); }
  HWY_INLINE VU Load(const std::byte* at, int64_t bytes) const {
    return Signed(LoadWords(at, bytes));
  }
  HWY_INLINE static VU Signed(VU words) { return hn::Xor(words, hn::Set(DU(), 0x80808080u)); }
  template <int kStep>
  HWY_INLINE VF At(VU words) const {
    return SignedByte<kStep>(words);
  }
};

// Five to seven bits: four codes go to a word each, which they begin at its lowest bit.
template <int kBits>
struct LooseWords {
  static constexpr int64_t kSteps = 4, kBytes = kBits * kLanes / 2;
  HWY_INLINE LooseWords() {
    for (int64_t j = 0; j < kLanes; ++j) {
      const int64_t block = j / 4, begin = kBits * j / 2;  // a byte
      lanes[j] = static_cast<int32_t>(kBits * block / 2 + j % 4);
      shifts[j] = static_cast<uint32_t>(kBits * j % 2 * 4);
      for (int64_t i = 0; i < 4; ++i)
        bytes[4 * j + i] =
            static_cast<uint8_t>(std::min<int64_t>(15, begin + i - 4 * (kBits * block / 2)));
    }
  }
  HWY_INLINE VU Load(const std::byte* at, int64_t size) const {
    const DU d;
    const hn::Repartition<uint8_t, DU> d8;
    const VU near = hn::TableLookupLanes(LoadWords(at, size), hn::SetTableIndices(d, lanes));
    const auto words = hn::TableLookupBytes(hn::BitCast(d8, near), hn::Load(d8, bytes));
    return hn::Shr(hn::BitCast(d, words), hn::Load(d, shifts));
  }
  HWY_ALIGN int32_t lanes[kLanes];
  HWY_ALIGN uint32_t shifts[kLanes];
  HWY_ALIGN uint8_t bytes[4 * kLanes];
};

struct Grid5Codes : LooseWords<5> {
  static constexpr float kFactor = 1;
  explicit HWY_INLINE Grid5Codes(const PackedRows&) {}
  HWY_INLINE VU Load(const std::byte* at) const { return LooseWords<5>::Load(at, kBytes); }
  using LooseWords<5>::Load;
  template <int kStep>
  HWY_INLINE VF At(VU words) const {
    return integers(hn::ShiftRight<5 * kStep>(words));
  }
  Integers<5> integers{16};
};

// The code at the top of a word, its highest bit turned, is code - centre as a signed number.
template <int kBits>
struct TopCodes : LooseWords<kBits> {
  static constexpr float kFactor = kBits == 6 ? 0x1p-26f : 0x1p-25f;
  explicit HWY_INLINE TopCodes(const PackedRows&) {}
  HWY_INLINE VU Load(const std::byte* at, int64_t size) const {
    constexpr uint32_t kTop = 1u << (kBits - 1);
    constexpr uint32_t kTops = kTop | kTop << kBits | kTop << (2 * kBits) | kTop << (3 * kBits);
    return hn::Xor(LooseWords<kBits>::Load(at, size), hn::Set(DU(), kTops));
  }
  HWY_INLINE VU Load(const std::byte* at) const { return Load(at, LooseWords<kBits>::kBytes); }
  template <int kStep>
  HWY_INLINE VF At(VU words) const {
    constexpr uint32_t kMask = ~0u << (32 - kBits);
    const VU top = hn::And(hn::ShiftLeft<32 - kBits*(kStep + 1)>(words), hn::Set(DU(), kMask));
    return hn::ConvertTo(DF(), hn::BitCast(DI(), top));
  }
};

struct NibbleCodes {
  static constexpr int64_t kSteps = 8, kBytes = 4 * kLanes;
  static constexpr float kFactor = 1;
  explicit HWY_INLINE NibbleCodes(const PackedRows& rows) : table(rows.table) {}
  HWY_INLINE VU Load(const std::byte* at) const { return LoadWords(at); }
  HWY_INLINE VU Load(const std::byte* at, int64_t bytes) const { return LoadWords(at, bytes); }
  template <int kStep>
  HWY_INLINE VF At(VU words) const {
    return table(hn::ShiftRight<4 * kStep>(words));
  }
  TableOf16 table;
};

// Steps whose columns are of any group: lookup(groups) are their scales.
template <int kStep, class Codes, class Lookup>
HWY_INLINE void AddScattered(const Codes& codes, VU words, const float* x, const int32_t* groups,
                             const Lookup& lookup, VF& a, VF& b) {
  if constexpr (kStep < Codes::kSteps) {
    const VF in = hn::Mul(hn::LoadU(DF(), x), lookup(groups));
    a = hn::MulAdd(codes.template At<kStep>(words), in, a);
    AddScattered<kStep + 1>(codes, words, x + kLanes, groups + kLanes, lookup, b, a);
  }
}

template <int kBits, class Codes>
struct WordKernel {
  const PackedRows& rows;
  int64_t groups, row_bytes;
  Codes codes;
  explicit HWY_INLINE WordKernel(const PackedRows& all)
      : rows(all),
        groups((all.columns + all.group - 1) / all.group),
        row_bytes((all.columns * kBits + 7) / 8),
        codes(all) {}

  HWY_INLINE void Scales(int64_t row, float* scales, float* shifts) const {
    LoadScales(rows.scales, row * groups, groups, scales);
    if (rows.scales.zeros != nullptr) LoadShifts<kBits>(rows.scales, row, groups, scales, shifts);
    if constexpr (Codes::kFactor != 1) {
      for (int64_t g = 0; g < groups; ++g) scales[g] *= Codes::kFactor;
    }
  }
  // chunk(words) for every vector of words of the rows.
  template <class Tile, class Chunk>
  HWY_INLINE void EachChunk(Tile& tile, const Chunk& chunk) const {
    int64_t left = row_bytes;
    for (; left >= Codes::kBytes; left -= Codes::kBytes) {
      tile.Prefetch();
      chunk(tile.Each([&](int r) HWY_ATTR { return codes.Load(tile.At(r)); }));
      tile.Advance(Codes::kBytes, 0, Codes::kSteps * kLanes);
    }
    if (left > 0) chunk(tile.Each([&](int r) HWY_ATTR { return codes.Load(tile.At(r), left); }));
  }
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    const DF d;
    const int32_t *first = tile.Input(0).first, *within = tile.Input(0).within;
    EachChunk(tile, [&](const auto& words) HWY_ATTR {
      const auto places = hn::SetTableIndices(d, within);
      tile.template Add<0, Codes::kSteps>(codes, words, [&](int r) HWY_ATTR {
        return hn::TableLookupLanes(hn::LoadU(d, tile.Scales(r) + *first), places);
      });
      ++first, within += kLanes;
    });
  }
};

// The same for groups that are no runs of words. A vector holds the scales, or memory.
template <int kBits, class Codes>
struct ScatteredKernel : WordKernel<kBits, Codes> {
  explicit HWY_INLINE ScatteredKernel(const PackedRows& all) : WordKernel<kBits, Codes>(all) {}
  template <class Lookup>
  HWY_INLINE VF Sum(const std::byte* at, const PackedInput& input, const Lookup& lookup) const {
    VF a = hn::Zero(DF()), b = a;
    const float* x = input.x;
    const int32_t* of_lanes = input.groups;
    int64_t left = this->row_bytes;
    const auto add = [&](VU words) HWY_ATTR {
      AddScattered<0>(this->codes, words, x, of_lanes, lookup, a, b);
    };
    for (; left >= Codes::kBytes; left -= Codes::kBytes, at += Codes::kBytes) {
      Ahead(at);
      add(this->codes.Load(at));
      x += Codes::kSteps * kLanes, of_lanes += Codes::kSteps * kLanes;
    }
    if (left > 0) add(this->codes.Load(at, left));
    return hn::Add(a, b);
  }
  HWY_INLINE VF Row(const std::byte* at, const float* scales, const PackedInput& input) const {
    const DF d;
    if (this->groups <= kLanes) {
      const VF all = hn::LoadU(d, scales);
      return Sum(at, input, [&](const int32_t* of_lanes) HWY_ATTR {
        return hn::TableLookupLanes(all, hn::SetTableIndices(d, of_lanes));
      });
    }
    return Sum(at, input, [&](const int32_t* of_lanes) HWY_ATTR {
      return hn::GatherIndex(d, scales, hn::LoadU(DI(), of_lanes));
    });
  }
  template <class Tile>
  HWY_INLINE void Multiply(Tile& tile) const {
    tile.AddEach([&](int r, int t)
                     HWY_ATTR { return Row(tile.At(r), tile.Scales(r), tile.Input(t)); });
  }
};

template <int kBits, class Codes>
HWY_INLINE void DotWords(const PackedRows& rows, const PackedTask& task) {
  const bool shifted = rows.scales.zeros != nullptr;
  if (rows.scattered) {
    const ScatteredKernel<kBits, Codes> kernel(rows);
    return DotRows(rows, task, kernel.groups, shifted, kernel);
  }
  const WordKernel<kBits, Codes> kernel(rows);
  DotRows(rows, task, kernel.groups, shifted, kernel);
}

// False: ggml's.
bool PackedDot(const PackedRows& rows, const PackedTask& task) {
  switch (rows.packing) {
    case Packing::f32:
      DotRows(rows, task, 0, false, StreamKernel<F32Values>{rows});
      return true;
    case Packing::f16:
      DotRows(rows, task, 0, false, StreamKernel<F16Values>{rows});
      return true;
    case Packing::bf16:
      DotRows(rows, task, 0, false, Bf16Kernel{rows});
      return true;
    case Packing::int8:
      DotRows(rows, task, 1, false, Int8Kernel{rows});
      return true;
    case Packing::grid2:
      DotWords<2, GridCodes<2>>(rows, task);
      return true;
    case Packing::grid3:
      DotWords<3, Grid3Codes>(rows, task);
      return true;
    case Packing::grid4:
      DotWords<4, GridCodes<4>>(rows, task);
      return true;
    case Packing::grid5:
      DotWords<5, Grid5Codes>(rows, task);
      return true;
    case Packing::grid6:
      DotWords<6, TopCodes<6>>(rows, task);
      return true;
    case Packing::grid7:
      DotWords<7, TopCodes<7>>(rows, task);
      return true;
    case Packing::grid8:
      DotWords<8, Grid8Codes>(rows, task);
      return true;
    case Packing::nibbles:
      DotWords<4, NibbleCodes>(rows, task);
      return true;
    default:
      return false;
  }
}

#else
bool PackedDot(const PackedRows&, const PackedTask&) {
  return false;
}
#endif

int64_t PackedLanes() {
  return kLanes;
}

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qwb::simd {

HWY_EXPORT(PackedDot);
HWY_EXPORT(PackedLanes);

int64_t packed_lanes() {
  return HWY_DYNAMIC_DISPATCH(PackedLanes)();
}
void packed_dot(const PackedRows& rows, const PackedTask& task) {
  if (!HWY_DYNAMIC_DISPATCH(PackedDot)(rows, task)) packed_blocks_dot(rows, task);
}

}  // namespace qwb::simd
#endif
