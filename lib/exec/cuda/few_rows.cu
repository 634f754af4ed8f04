// Products of few rows with packed weights, which are read once for every two rows. Sums are f32: a
// lane's 32 columns, the lanes of a warp as a tree, the slices of 1024 columns in ascending order.
// That order depends on nothing but the number of columns, so every row has the bits it has alone.
#include "lib/exec/cuda/activation.cuh"
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/packings.cuh"
#include "lib/exec/cuda/queue.cuh"

namespace qwb::cuda {
namespace {

struct Launch {
  FewProduct products[kMostTogether];
  unsigned blocks[kMostTogether];  // that the product is cut into
  const float* x;
  int64_t x_stride;
  int rows;    // of x: at most M
  int height;  // output channels of a block
  int slices;
  int add, activation;
  uint32_t magic;
};

// What a warp needs of one slice of x.
template <class P, int M>
struct SliceOfX {
  float x[M][kLaneColumns], totals[M][LaneCodes<P>::kSums];
  __device__ SliceOfX(const Launch& a, int64_t columns, int64_t first, int lane) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const float* row = a.x + (m < a.rows ? m : 0) * a.x_stride;
#pragma unroll
      for (int i = 0; i < kLaneColumns; i += 4) {
        const int64_t column = first + lane_column<P>(lane, i);
        float4 four = make_float4(0, 0, 0, 0);
        if (column < columns) four = *reinterpret_cast<const float4*>(row + column);
        x[m][i] = four.x, x[m][i + 1] = four.y, x[m][i + 2] = four.z, x[m][i + 3] = four.w;
      }
      constexpr int kSums = LaneCodes<P>::kSums;
#pragma unroll
      for (int p = 0; p < kSums; ++p) {
        float total = 0;
#pragma unroll
        for (int i = 0; i < kLaneColumns / kSums; ++i)
          total += x[m][p * (kLaneColumns / kSums) + i];
        totals[m][p] = total;
      }
      P::prepare(x[m]);
    }
  }
};

// Where a lane reads in the rows of a block. A lane beyond the last column reads the first ones:
// its x is zero.
template <class P>
struct LanePlace {
  static constexpr int kPieces = LaneCodes<P>::kPieces, kSums = LaneCodes<P>::kSums;
  static constexpr int kCount = P::kWords / kPieces;    // words of a piece
  static constexpr bool kCrosses = 8 % P::kWords != 0;  // codes of zeros lie across bytes
  const unsigned char *codes, *zeros;
  Scales scales;
  int last;  // row that there is
  int row_bytes, groups, zeros_row_bytes;
  int offset[kPieces], group[kSums], zero_shift[kSums];

  __device__ LanePlace(const PackedWeight& w, int64_t channel, int first, int height, int lane)
      : scales(w, channel * w.groups) {
    codes = w.codes + channel * w.row_bytes;
    zeros = w.zeros != nullptr ? w.zeros + channel * w.zeros_row_bytes : nullptr;
    last = static_cast<int>(min(static_cast<int64_t>(height), w.out - channel)) - 1;
    row_bytes = static_cast<int>(w.row_bytes), groups = static_cast<int>(w.groups);
    zeros_row_bytes = static_cast<int>(w.zeros_row_bytes);
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      int column = first + lane_column<P>(lane, p * P::kPiece);
      column = column < w.in ? column : 0;
      offset[p] = column / P::kPiece * (4 * kCount);
      if (!P::kScaled) continue;
      group[p] = column / static_cast<int>(w.group);
      zero_shift[p] = group[p] * P::kWords % 8;
    }
  }

  // Rows beyond the last are read as the last; their sums are not used.
  __device__ void load(int row, LaneCodes<P>& lane) const {
    row = min(row, last);
    const unsigned char* at = codes + row * row_bytes;
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      load_words<kCount>(at + offset[p], lane.words + kCount * p);
      if (!P::kScaled) continue;
      lane.scales[p] = scales.bits(row * groups + group[p]);
      if (zeros == nullptr) continue;
      const unsigned char* zero = zeros + row * zeros_row_bytes + group[p] * P::kWords / 8;
      lane.zeros[p] = zero[0];
      if (kCrosses && zero_shift[p] + P::kWords > 8) lane.zeros_above[p] = zero[1];
    }
  }

  // What the zero point is above the middle of the grid.
  __device__ float zero(const LaneCodes<P>& lane, int p) const {
    uint32_t bits = lane.zeros[p];
    if (kCrosses && zero_shift[p] + P::kWords > 8) bits |= lane.zeros_above[p] << 8;
    const uint32_t code = bits >> zero_shift[p] & ((1u << P::kWords) - 1);
    return static_cast<float>(static_cast<int>(code) - (1 << (P::kWords - 1)));
  }
};

// A lane's part of one value.
template <class P, int M>
__device__ float lane_sum(const LanePlace<P>& place, const LaneCodes<P>& codes,
                          const SliceOfX<P, M>& slice, int m, const Opaque& opaque) {
  if constexpr (P::kScaled) {
    float sum = 0;
#pragma unroll
    for (int p = 0; p < LaneCodes<P>::kSums; ++p) {
      float part = P::dot(codes.words, slice.x[m], p, opaque);
      if (place.zeros != nullptr) part = fmaf(-place.zero(codes, p), slice.totals[m][p], part);
      sum = fmaf(place.scales.value(codes.scales[p]), part, sum);
    }
    return sum;
  } else {
    return P::dot(codes.words, slice.x[m], 0, opaque);
  }
}

// sums[row][m] of one slice for the output channels of a block.
template <class P, int M>
__device__ void sum_slice(const PackedWeight& w, const LanePlace<P>& place, int height,
                          const SliceOfX<P, M>& x, uint32_t magic, float* sums) {
  constexpr int R = M == 1 || P::kRows == 1 ? P::kRows : P::kRows / 2;  // changes no sum
  const int lane = threadIdx.x % 32;
  const Opaque opaque = {magic, w.table[lane % 16]};
  LaneCodes<P> codes[2][R];
#pragma unroll
  for (int r = 0; r < R; ++r) place.load(r, codes[0][r]);
  for (int row = 0; row < height; row += 2 * R) {  // heights are multiples of 2 R
#pragma unroll
    for (int turn = 0; turn < 2; ++turn) {
      const int here = row + turn * R;
#pragma unroll
      for (int r = 0; r < R; ++r) place.load(here + R + r, codes[turn ^ 1][r]);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        float values[R];
#pragma unroll
        for (int r = 0; r < R; ++r) values[r] = lane_sum<P, M>(place, codes[turn][r], x, m, opaque);
        const float sum = sum_of_lanes<R>(values, lane);
        if (lane % (32 / R) == 0) sums[(here + lane / (32 / R)) * M + m] = sum;
      }
    }
  }
}

// The slices' sums of one value, in order, times what all scales are multiplied by.
template <int M>
__device__ float whole_sum(const Launch& a, const PackedWeight& w, const float* partial, int row,
                           int m) {
  float sum = 0;
  for (int slice = 0; slice < a.slices; ++slice) sum += partial[(slice * a.height + row) * M + m];
  return sum * w.factor;
}

// A block: some output channels of one product or, if gated, of both that make one value.
template <class P, int M, bool Gated>
__global__ void __launch_bounds__(256) few_kernel(const __grid_constant__ Launch a) {
  extern __shared__ float partial[];  // [products][slices][height][M]
  int number = 0;
  unsigned block = blockIdx.x;
  if (!Gated) {
    while (block >= a.blocks[number]) block -= a.blocks[number++];
  }
  const FewProduct& product = a.products[number];
  const int64_t channel = static_cast<int64_t>(block) * a.height;
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, size = a.slices * a.height * M;
  for (int slice = warp; slice < a.slices; slice += warps) {
    const int first = slice * kWarpColumns, lane = threadIdx.x % 32;
    const SliceOfX<P, M> x(a, product.weight.in, first, lane);
#pragma unroll 1
    for (int g = 0; g <= (Gated ? 1 : 0); ++g) {
      const PackedWeight& weight = a.products[number + g].weight;
      const LanePlace<P> place(weight, channel, first, a.height, lane);
      sum_slice<P, M>(weight, place, a.height, x, a.magic,
                      partial + g * size + slice * a.height * M);
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < a.height * M; i += blockDim.x) {
    const int row = i / M, m = i % M;
    if (channel + row >= product.weight.out || m >= a.rows) continue;
    float sum = whole_sum<M>(a, product.weight, partial, row, m);
    if (product.bias != nullptr) sum += product.bias[channel + row];
    float* to = product.y + m * product.y_stride + channel + row;
    if (Gated) {
      const FewProduct& up = a.products[1];
      float factor = whole_sum<M>(a, up.weight, partial + size, row, m);
      if (up.bias != nullptr) factor += up.bias[channel + row];
      *to = act(a.activation, sum) * factor;
    } else {
      *to = a.add != 0 ? *to + sum : sum;
    }
  }
}

// Warps of a block: as many as there are slices, or a part of them that comes out even.
int warps_of(int slices) {
  if (slices <= 8) return slices;
  for (int warps = 8; warps > 4; --warps) {
    if (slices % warps == 0) return warps;
  }
  return 8;
}

// Few channels a block where a matrix is small, so that its warps fill the GPU.
int height_of(int64_t channels, int slices) {
  constexpr int64_t kEnough = 3000;  // warps
  for (int height = 32; height > 8; height /= 2) {
    if (channels / height * slices >= kEnough) return height;
  }
  return 8;
}

template <class P, int M, bool Gated>
int launch(Queue* queue, Launch a, int count) {
  const int64_t in = a.products[0].weight.in;
  a.slices = static_cast<int>((in + kWarpColumns - 1) / kWarpColumns);
  int64_t channels = 0;
  for (int i = 0; i < (Gated ? 1 : count); ++i) channels += a.products[i].weight.out;
  a.height = height_of(channels, a.slices);
  unsigned blocks = 0;
  for (int i = 0; i < (Gated ? 1 : count); ++i)
    blocks += a.blocks[i] = blocks_of(a.products[i].weight.out, a.height);
  const int shared = (Gated ? 2 : 1) * a.slices * a.height * M * static_cast<int>(sizeof(float));
  if (shared > 48 * 1024) return cudaErrorInvalidValue;
  few_kernel<P, M, Gated><<<blocks, 32 * warps_of(a.slices), shared, queue->stream>>>(a);
  return launched();
}

template <class P, bool Gated>
int launch_rows(Queue* queue, ConstView x, const FewProduct* products, int count, int add,
                int activation) {
  for (int64_t first = 0; first < x.rows; first += 2) {
    Launch a = {};
    for (int i = 0; i < count; ++i) {
      a.products[i] = products[i];
      a.products[i].y += first * products[i].y_stride;
    }
    a.x = x.data + first * x.stride, a.x_stride = x.stride;
    a.rows = static_cast<int>(x.rows - first < 2 ? x.rows - first : 2);
    a.add = add, a.activation = activation, a.magic = kMagic;
    const int code =
        a.rows == 1 ? launch<P, 1, Gated>(queue, a, count) : launch<P, 2, Gated>(queue, a, count);
    if (code != 0) return code;
  }
  return 0;
}

template <bool Gated>
int launch_packing(Queue* queue, ConstView x, const FewProduct* products, int count, int add,
                   int activation) {
  const auto with = [&](auto packing) {
    return launch_rows<decltype(packing), Gated>(queue, x, products, count, add, activation);
  };
  switch (products[0].weight.packing) {
    case Packing::grid2:
      return with(BitStream<2>());
    case Packing::grid3:
      return with(BitStream<3>());
    case Packing::grid4:
      return with(Grid4());
    case Packing::grid5:
      return with(BitStream<5>());
    case Packing::grid6:
      return with(BitStream<6>());
    case Packing::grid7:
      return with(BitStream<7>());
    case Packing::grid8:
      return with(Grid8());
    case Packing::table4:
      return with(Table4());
    case Packing::int8:
      return with(Int8());
    case Packing::f32:
      return with(Floats<Number::f32>());
    case Packing::f16:
      return with(Floats<Number::f16>());
    case Packing::bf16:
      return with(Floats<Number::bf16>());
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

int few_rows(Queue* queue, ConstView x, const FewProduct* products, int count, int add) {
  return launch_packing<false>(queue, x, products, count, add, 0);
}

int few_gated(Queue* queue, ConstView x, const FewProduct* gate, const FewProduct* up,
              int activation) {
  const FewProduct both[2] = {*gate, *up};
  return launch_packing<true>(queue, x, both, 2, 0, activation);
}

}  // namespace qwb::cuda
