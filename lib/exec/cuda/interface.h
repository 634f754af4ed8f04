// What libqwb-cuda.so offers: plain functions on a GPU's memory, found by one C symbol. Executor,
// errors and memory's bookkeeping stay in the program, so that nothing of C++ crosses between
// the two. Included by .cu files too: C++17, no library types.
//
// Every function returns 0 or a code of the CUDA runtime. Pointers named in comments as the
// host's lie there; all others lie in the device's memory. Work is done in the order of its queue
// and goes on after the function has returned, except where a comment says that it waits.
#pragma once

#include <cstdint>

namespace qwb::cuda {

// Raised whenever anything below changes.
constexpr int kInterface = 5;
// Raised whenever the same operation on the same GPU gives other bits: part of every result's key.
constexpr int kKernels = 4;

struct DeviceFacts {
  char name[256];
  char uuid[48];  // "GPU-8f6e..." as NVML and nvidia-smi write it
  int major, minor;
  int processors;       // streaming multiprocessors
  int64_t total, free;  // bytes
};

// f32, row-major, `stride` values from row to row.
struct View {
  float* data;
  int64_t rows, columns, stride;
};
struct ConstView {
  const float* data;
  int64_t rows, columns, stride;
};

// An f32 matrix [rows, columns] as a sum of `count` matrices of bf16 behind each other, for tensor
// cores. Its columns are zero from the matrix's last to the next multiple of kPartColumns. Or,
// where `scales` [rows, groups] are there, codes less their zero points (count 1), of which `group`
// columns share a scale.
struct Parts {
  uint16_t* data;
  int64_t rows, columns;
  int count;
  float* scales;
  int64_t group, groups;
};
constexpr int64_t kPartColumns = 32;

enum class Number : int { f32, f16, bf16, f64 };
enum class Form : int { dense, grid, int8_rows, float_blocks, ggml_blocks };

// A weight as it is stored (lib/codec), its parts in the device's memory.
struct StoredWeight {
  Form form;
  Number number;           // dense: of the values; grid: of the scales
  int in_out;              // stored as [in, out]
  int bits;                // grid
  int type;                // ggml_blocks: the number of the type
  int block, block_bytes;  // ggml_blocks
  int nested;              // float_blocks
  float nested_offset;
  int64_t out, in;
  int64_t row_bytes;  // of codes
  int64_t group, groups, zeros_row_bytes;
  int64_t head_rows;                  // ggml_blocks
  int64_t scale_block, nested_block;  // float_blocks
  const unsigned char* codes;
  const unsigned char* scales;  // grid; absmax of int8_rows and float_blocks
  const unsigned char* zeros;   // null: symmetric
  const int32_t* group_index;   // null: in order
  const float* nested_absmax;
  const float* nested_map;
  float table[16];  // float_blocks

#if defined(__CUDACC__)
  __host__ __device__
#endif
      int64_t
      columns() const {
    return in_out != 0 ? out : in;
  }
};

// Rows of codes that a product of few rows reads 16 bytes at a time (few_rows.cu).
enum class Packing : int {
  none,
  grid2,
  grid3,
  grid4,
  grid5,
  grid6,
  grid7,
  grid8,
  table4,  // 4-bit floats, the first value in the high half
  int8,
  f32,
  f16,
  bf16,
};
struct PackedWeight {
  Packing packing;
  Number scale_number;
  int64_t out, in;
  int64_t row_bytes;
  int64_t group, groups;  // columns that share a scale; scales of a row
  int64_t zeros_row_bytes;
  float factor;  // of every scale
  const unsigned char* codes;
  const unsigned char* scales;
  const unsigned char* zeros;  // packed as the codes; null: symmetric
  float table[16];
};

// One product with few rows: y = x W^T + bias, or y += that.
struct FewProduct {
  PackedWeight weight;
  const float* bias;  // null: none
  float* y;
  int64_t y_stride;
};
constexpr int kMostTogether = 3;        // products in one launch
constexpr int kFewRows = 8;             // more rows than these are many
constexpr int64_t kPackedColumns = 32;  // a packed row is whole runs of these

struct Attention {
  int64_t heads, kv_heads, head_dim, window;
  float scale, soft_cap;
};
constexpr int64_t kMostHeadDim = 256;

struct Divergence {  // as RowDivergence
  double kl, base_loss, other_loss;
  int64_t base_top, other_top;
  int64_t finite;
};

// Running log-sum-exp of a row of logits.
struct RunningLoss {
  double sum;
  float maximum, chosen;
};

struct Queue;                 // the order of work on one GPU
struct CalibrationFunctions;  // calibration_interface.h

struct Functions {
  int interface;
  const char* architectures;  // "75 80 86": what real code there is for
  int newest;                 // the architecture of the PTX, which newer cards may compile: 120

  // No queue is needed for these.
  int (*count)(int* devices, int* driver, int* runtime);  // 13000: 13.0
  int (*facts)(int device, DeviceFacts* facts);
  const char* (*error_text)(int code);

  int (*open)(int device, Queue** queue);
  int (*allocate)(Queue* queue, int64_t bytes, void** data);
  int (*release)(Queue* queue, void* data);  // waits
  int (*memory)(Queue* queue, int64_t* free, int64_t* total);
  // Rows of `bytes`; the strides are in bytes. From and to the host they wait.
  int (*upload)(Queue* queue, const void* host, void* data, int64_t bytes);
  int (*upload_rows)(Queue* queue, ConstView host, View to);
  int (*download_rows)(Queue* queue, ConstView from, View host);
  int (*copy_rows)(Queue* queue, ConstView from, View to);
  int (*finish)(Queue* queue);  // waits

  // values [count, in] of rows first ... as f32 out of a weight; transposed if it is stored in_out.
  int (*dequantize)(Queue* queue, const StoredWeight* weight, int64_t first, View values);
  // Rows of the stored matrix; ids are the host's.
  int (*look_up)(Queue* queue, const StoredWeight* weight, const int32_t* ids, View y);
  // Q4_0, Q5_0 and Q8_0 are grids of groups of 32 with f16 scales: the same values as codes of
  // `bits` and scales, apart.
  int (*grid_of_ggml)(Queue* queue, const StoredWeight* weight, int bits, unsigned char* codes,
                      unsigned char* scales);
  // The scales of nested float blocks, one for each.
  int (*plain_scales)(Queue* queue, const StoredWeight* weight, float* scales);

  // c [m, n] = a [m, k] b [n, k]^T + bias, or c += that.
  int (*product)(Queue* queue, ConstView a, ConstView b, const float* bias, View c, int add);
  // The same on tensor cores, of parts: three of a, of b what parts() says of a weight: how many,
  // and its groups. None on a card without such tensor cores. split() makes as many as there is
  // room for: 3, or 1, which are the values rounded.
  Parts (*parts)(Queue* queue, const StoredWeight* weight);
  int (*split)(Queue* queue, ConstView x, Parts to);
  int (*dequantize_parts)(Queue* queue, const StoredWeight* weight, int64_t first, Parts to);
  int (*product_of_parts)(Queue* queue, Parts a, Parts b, const float* bias, View c, int add);
  // At most kFewRows rows of x. All of one packing.
  int (*few_rows)(Queue* queue, ConstView x, const FewProduct* products, int count, int add);
  // y = act(gate(x)) * up(x)
  int (*few_gated)(Queue* queue, ConstView x, const FewProduct* gate, const FewProduct* up,
                   int activation);
  // Any weight.
  int (*few_plain)(Queue* queue, ConstView x, const StoredWeight* weight, const float* bias, View y,
                   int add);

  int (*rms_norm)(Queue* queue, ConstView x, const float* gain, float eps, View y);
  int (*layer_norm)(Queue* queue, ConstView x, const float* gain, const float* bias, float eps,
                    View y);
  int (*rotate)(Queue* queue, View x, int64_t head_dim, ConstView cosine, const float* sine,
                int halves);
  int (*attention)(Queue* queue, ConstView queries, ConstView keys, ConstView values,
                   const Attention* shape, View y);

  int (*activate)(Queue* queue, View x, const float* up, int activation);
  int (*add)(Queue* queue, View x, ConstView y);
  int (*fill)(Queue* queue, View x, float value);
  int (*scale)(Queue* queue, View x, float factor);
  int (*soft_cap)(Queue* queue, View x, float scale, float cap);
  int (*gather)(Queue* queue, ConstView x, const int64_t* host_rows, View y);
  int (*scatter_add)(Queue* queue, ConstView x, const int64_t* host_rows, const float* host_factors,
                     View y);
  // *mark = 1 if all are finite, else 0.
  int (*mark_finite)(Queue* queue, ConstView x, float* mark);

  // Logits [rows, columns] from `first` on; targets [rows].
  int (*begin_losses)(Queue* queue, int64_t rows, RunningLoss* losses);
  int (*add_losses)(Queue* queue, ConstView logits, int64_t first, const int32_t* targets,
                    RunningLoss* losses);
  int (*divergence)(Queue* queue, ConstView base, ConstView other, const int32_t* targets,
                    Divergence* differences);

  const CalibrationFunctions* calibration;
};

// The one symbol. Null, if its interface is another, which `theirs` (the host's) then tells.
using Entry = const Functions* (*)(int interface, int* theirs);
constexpr const char* kEntry = "qwb_cuda_functions";

}  // namespace qwb::cuda
