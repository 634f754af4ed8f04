#include "lib/exec/cpu/tile_block.h"

#include <algorithm>

#include "lib/base/half.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define QWB_X86_UNITS
#endif

namespace qwb {
namespace {

void nothing() {}

void plain_block(const BlockOperands& o, int64_t steps, const BlockSums& to) {
  float* c = to.c;
  const int64_t stride = to.stride;
  float sums[kBlock][kBlock] = {};
  for (int64_t i = 0; to.add && i < kBlock; ++i) {
    for (int64_t j = 0; j < kBlock; ++j) sums[i][j] = c[i * stride + j];
  }
  for (int64_t s = 0; s < steps; ++s) {
    for (int64_t i = 0; i < kBlock; ++i) {
      const uint16_t* line =
          (i < kTileLines ? o.a0 : o.a1) + s * kTileValues + i % kTileLines * kTileInner;
      for (int64_t pair = 0; pair < kTileInner / 2; ++pair) {
        const float first = bf16_to_f32(line[2 * pair]), second = bf16_to_f32(line[2 * pair + 1]);
        for (int64_t j = 0; j < kBlock; ++j) {
          const uint16_t* two = (j < kTileLines ? o.b0 : o.b1) + s * kTileValues +
                                (pair * kTileLines + j % kTileLines) * 2;
          sums[i][j] += first * bf16_to_f32(two[0]);
          sums[i][j] += second * bf16_to_f32(two[1]);
        }
      }
    }
  }
  for (int64_t i = 0; i < kBlock; ++i) {
    for (int64_t j = 0; j < kBlock; ++j) c[i * stride + j] = sums[i][j];
  }
}

#ifdef QWB_X86_UNITS

struct CpuidLeaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};
CpuidLeaf cpuid(unsigned leaf, unsigned subleaf) {
  CpuidLeaf found;
  if (__get_cpuid_count(leaf, subleaf, &found.a, &found.b, &found.c, &found.d) == 0) return {};
  return found;
}

// Registers that the system saves when it switches threads.
uint64_t saved_registers() {
  if ((cpuid(1, 0).c >> 27 & 1) == 0) return 0;  // OSXSAVE
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

constexpr uint64_t kAvx512Registers = 0xe6;   // SSE, AVX, and the three sets of AVX-512
constexpr uint64_t kTileRegisters = 0x60000;  // configuration and data
constexpr long kRequestPermission = 0x1023;   // ARCH_REQ_XCOMP_PERM, Linux 5.16
constexpr long kTileData = 18;

bool has_amx() {
  const unsigned features = cpuid(7, 0).d;
  const bool tiles = (features >> 24 & 1) != 0, bf16 = (features >> 22 & 1) != 0;
  if (!tiles || !bf16 || (saved_registers() & kTileRegisters) != kTileRegisters) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool has_avx512_bf16() {
  const bool foundation = (cpuid(7, 0).b >> 16 & 1) != 0, bf16 = (cpuid(7, 1).a >> 5 & 1) != 0;
  return foundation && bf16 && (saved_registers() & kAvx512Registers) == kAvx512Registers;
}

#define QWB_AMX __attribute__((target("amx-tile,amx-bf16")))

QWB_AMX void configure_tiles() {
  // Palette 1; eight tiles of 16 rows of 64 bytes.
  struct alignas(64) Configuration {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_a_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  static const Configuration configuration;
  _tile_loadconfig(&configuration);
}

QWB_AMX void release_tiles() {
  _tile_release();
}

// Tiles ahead that are fetched into the first cache, and rows of the next sums with every tile: the
// loads of tiles do not start the processor's own prefetcher. On a Xeon (1536 x 576 for 512 tokens,
// sums that are not in the cache) 284 to 447 GFLOP/s, of 530 with everything in the first cache.
constexpr int64_t kTilesAhead = 2, kRowsAhead = 4;

QWB_AMX inline void prefetch_tile(const uint16_t* tile) {
  for (int64_t row = 0; row < kTileLines; ++row) _mm_prefetch(tile + row * kTileInner, _MM_HINT_T0);
}

QWB_AMX void amx_block(const BlockOperands& o, int64_t steps, const BlockSums& sums) {
  float* c = sums.c;
  float* right = c + kTileLines;
  float* lower = c + kTileLines * sums.stride;
  float* corner = lower + kTileLines;
  const int64_t bytes = sums.stride * static_cast<int64_t>(sizeof(float));
  if (sums.add) {
    _tile_loadd(0, c, bytes);
    _tile_loadd(1, right, bytes);
    _tile_loadd(2, lower, bytes);
    _tile_loadd(3, corner, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const uint16_t *a0 = o.a0, *a1 = o.a1, *b0 = o.b0, *b1 = o.b1;
  const int64_t rows_to_fetch = sums.next != nullptr ? kBlock : 0;
  for (int64_t s = 0; s < steps; ++s) {
    prefetch_tile(a0 + kTilesAhead * kTileValues);
    _tile_loadd(4, a0, 64);
    _tile_loadd(6, b0, 64);
    _tile_dpbf16ps(0, 4, 6);
    prefetch_tile(a1 + kTilesAhead * kTileValues);
    _tile_loadd(7, b1, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a1, 64);
    _tile_dpbf16ps(2, 5, 6);
    for (int64_t row = s * kRowsAhead; row < std::min((s + 1) * kRowsAhead, rows_to_fetch); ++row) {
      _mm_prefetch(sums.next + row * sums.stride, _MM_HINT_T0);
      _mm_prefetch(sums.next + row * sums.stride + kTileLines, _MM_HINT_T0);
    }
    _tile_dpbf16ps(3, 5, 7);
    a0 += kTileValues;
    a1 += kTileValues;
    b0 += kTileValues;
    b1 += kTileValues;
  }
  _tile_stored(0, c, bytes);
  _tile_stored(1, right, bytes);
  _tile_stored(2, lower, bytes);
  _tile_stored(3, corner, bytes);
}

#define QWB_AVX512_BF16 __attribute__((target("avx512f,avx512bf16")))

// Eight lines of A at a time: 16 sums of 16 floats, and every value of A serves two products.
constexpr int64_t kLinesAtOnce = 8;

QWB_AVX512_BF16 inline __m512bh as_bf16(__m512i words) {
  return reinterpret_cast<__m512bh>(words);
}

QWB_AVX512_BF16 void avx512_lines(const uint16_t* a, const uint16_t* b0, const uint16_t* b1,
                                  int64_t steps, float* c, int64_t stride, bool add) {
  __m512 left[kLinesAtOnce], right[kLinesAtOnce];
  for (int64_t i = 0; i < kLinesAtOnce; ++i) {
    left[i] = add ? _mm512_loadu_ps(c + i * stride) : _mm512_setzero_ps();
    right[i] = add ? _mm512_loadu_ps(c + i * stride + kTileLines) : _mm512_setzero_ps();
  }
  for (int64_t s = 0; s < steps; ++s) {
    for (int64_t pair = 0; pair < kTileInner / 2; ++pair) {
      const __m512bh first = as_bf16(_mm512_loadu_si512(b0 + pair * kTileInner));
      const __m512bh second = as_bf16(_mm512_loadu_si512(b1 + pair * kTileInner));
      for (int64_t i = 0; i < kLinesAtOnce; ++i) {
        int word = 0;
        __builtin_memcpy(&word, a + i * kTileInner + 2 * pair, sizeof(word));
        const __m512bh two = as_bf16(_mm512_set1_epi32(word));
        left[i] = _mm512_dpbf16_ps(left[i], two, first);
        right[i] = _mm512_dpbf16_ps(right[i], two, second);
      }
    }
    a += kTileValues;
    b0 += kTileValues;
    b1 += kTileValues;
  }
  for (int64_t i = 0; i < kLinesAtOnce; ++i) {
    _mm512_storeu_ps(c + i * stride, left[i]);
    _mm512_storeu_ps(c + i * stride + kTileLines, right[i]);
  }
}

void avx512_block(const BlockOperands& o, int64_t steps, const BlockSums& sums) {
  for (int64_t line = 0; line < kBlock; line += kLinesAtOnce) {
    const uint16_t* a = (line < kTileLines ? o.a0 : o.a1) + line % kTileLines * kTileInner;
    avx512_lines(a, o.b0, o.b1, steps, sums.c + line * sums.stride, sums.stride, sums.add);
  }
}

#endif

}  // namespace

const TileUnit* plain_unit() {
  static const TileUnit unit = {"plain", 16, nothing, nothing, plain_block};
  return &unit;
}

#ifdef QWB_X86_UNITS
const TileUnit* amx_unit() {
  static const TileUnit unit = {"amx", 32, configure_tiles, release_tiles, amx_block};
  static const bool has = has_amx();
  return has ? &unit : nullptr;
}
const TileUnit* avx512_bf16_unit() {
  static const TileUnit unit = {"avx512_bf16", 10, nothing, nothing, avx512_block};
  static const bool has = has_avx512_bf16();
  return has ? &unit : nullptr;
}
#else
const TileUnit* amx_unit() {
  return nullptr;
}
const TileUnit* avx512_bf16_unit() {
  return nullptr;
}
#endif

}  // namespace qwb
