// In which order the kernels of packed_dot.h take the activations.
#include "lib/exec/cpu/packed_dot.h"

namespace qwb::simd {
namespace {

// A row is vectors of words of 32 bits; step k of a vector takes the same code of every word.
// lane, vector: which word.
struct WordPlace {
  int64_t lane, vector, step, word;
};

WordPlace word_place(int64_t position, int64_t steps) {
  const int64_t lanes = packed_lanes(), lane = position % lanes, k = position / lanes;
  return {lane, k / steps, k % steps, k / steps * lanes + lane};
}

bool in_superblocks(Packing packing) {
  return packing >= Packing::q2_k;
}

}  // namespace

int64_t packed_run(Packing packing) {
  switch (packing) {
    case Packing::grid2:
      return 16;
    case Packing::grid3:
    case Packing::grid4:
    case Packing::nibbles:
      return 8;
    case Packing::grid5:
    case Packing::grid6:
    case Packing::grid7:
    case Packing::grid8:
      return 4;
    default:
      return 1;
  }
}

int64_t packed_columns(Packing packing) {
  const int64_t lanes = packed_lanes();
  if (in_superblocks(packing)) return 256;
  switch (packing) {
    case Packing::bf16:
      return 2 * lanes;
    case Packing::q4_0:
    case Packing::q4_1:
    case Packing::q5_0:
    case Packing::q5_1:
    case Packing::iq4_nl:
    case Packing::mxfp4:
      return 8 * lanes;
    default:
      return packed_run(packing) * lanes;
  }
}

int64_t packed_column(Packing packing, int64_t position) {
  switch (packing) {
    case Packing::bf16: {
      const WordPlace p = word_place(position, 2);
      return 2 * p.lane + p.step;
    }
    case Packing::grid2:
    case Packing::grid3:
    case Packing::grid4:
    case Packing::grid5:
    case Packing::grid6:
    case Packing::grid7:
    case Packing::grid8: {
      const int64_t run = packed_run(packing);
      const WordPlace p = word_place(position, run);
      return run * p.lane + p.step;
    }
    case Packing::nibbles: {  // the first of a pair is the high half
      const WordPlace p = word_place(position, 8);
      return 8 * p.lane + (p.step ^ 1);
    }
    case Packing::q4_0:
    case Packing::q4_1:
    case Packing::q5_0:
    case Packing::q5_1:
    case Packing::iq4_nl:
    case Packing::mxfp4:
    case Packing::iq4_xs: {
      const WordPlace p = word_place(position, 8);
      return 32 * (p.word / 4) + 16 * (p.step / 4) + 4 * (p.word % 4) + p.step % 4;
    }
    case Packing::q4_k:
    case Packing::q5_k: {
      const WordPlace p = word_place(position, 8);
      return 64 * (p.word / 8) + 32 * (p.step / 4) + 4 * (p.word % 8) + p.step % 4;
    }
    case Packing::q6_k: {
      const WordPlace p = word_place(position, 8);
      return 128 * (p.word / 16) + 64 * (p.step / 4) + 4 * (p.word % 16) + p.step % 4;
    }
    case Packing::q2_k:
    case Packing::q3_k: {
      const WordPlace p = word_place(position, 16);
      return 128 * (p.word / 8) + 32 * (p.step / 4) + 4 * (p.word % 8) + p.step % 4;
    }
    default:
      return position;
  }
}

int64_t packed_sums(const PackedRows& rows) {
  switch (rows.packing) {
    case Packing::q4_k:
    case Packing::q5_k:
      return 32;
    case Packing::q2_k:
      return 16;
    default:
      return rows.scales.zeros != nullptr ? rows.group : 0;
  }
}

int64_t packed_word_sums(Packing packing) {
  return packing == Packing::q4_1 || packing == Packing::q5_1 ? 8 : 0;
}

int64_t packed_scratch(const PackedRows& rows) {
  // ggml's types have at most a scale for 16 columns. Scales and shifts of four rows, twice.
  const int64_t group = rows.group > 0 ? rows.group : 16;
  const int64_t groups = (rows.columns + group - 1) / group;
  return 16 * ((groups + 15) / 16 * 16 + kPackedPadding);
}

}  // namespace qwb::simd
