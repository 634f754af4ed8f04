// The functions of the table, each in the file of its kernels.
#pragma once

#include "lib/exec/cuda/interface.h"

namespace qwb::cuda {

// queue.cu
int count_devices(int* devices, int* driver, int* runtime);
int device_facts(int device, DeviceFacts* facts);
const char* error_text(int code);
int open_queue(int device, Queue** queue);
int allocate(Queue* queue, int64_t bytes, void** data);
int release(Queue* queue, void* data);
int memory_left(Queue* queue, int64_t* free, int64_t* total);
int upload(Queue* queue, const void* host, void* data, int64_t bytes);
int upload_rows(Queue* queue, ConstView host, View to);
int download_rows(Queue* queue, ConstView from, View host);
int copy_rows(Queue* queue, ConstView from, View to);
int finish(Queue* queue);

// dequantize.cu
int dequantize(Queue* queue, const StoredWeight* weight, int64_t first, View values);
int look_up(Queue* queue, const StoredWeight* weight, const int32_t* ids, View y);
int grid_of_ggml(Queue* queue, const StoredWeight* weight, int bits, unsigned char* codes,
                 unsigned char* scales);
int plain_scales(Queue* queue, const StoredWeight* weight, float* scales);

int dequantize_parts(Queue* queue, const StoredWeight* weight, int64_t first, Parts to);

// split_product.cu
Parts parts_of(Queue* queue, const StoredWeight* weight);
int split(Queue* queue, ConstView x, Parts to);
int product_of_parts(Queue* queue, Parts a, Parts b, const float* bias, View c, int add);

// product.cu, few_rows.cu, few_plain.cu
int product(Queue* queue, ConstView a, ConstView b, const float* bias, View c, int add);
int few_rows(Queue* queue, ConstView x, const FewProduct* products, int count, int add);
int few_gated(Queue* queue, ConstView x, const FewProduct* gate, const FewProduct* up,
              int activation);
int few_plain(Queue* queue, ConstView x, const StoredWeight* weight, const float* bias, View y,
              int add);

// norms.cu
int rms_norm(Queue* queue, ConstView x, const float* gain, float eps, View y);
int layer_norm(Queue* queue, ConstView x, const float* gain, const float* bias, float eps, View y);
// attention.cu
int attention(Queue* queue, ConstView queries, ConstView keys, ConstView values,
              const Attention* shape, View y);

// elementwise.cu
int rotate(Queue* queue, View x, int64_t head_dim, ConstView cosine, const float* sine, int halves);
int activate(Queue* queue, View x, const float* up, int activation);
int add(Queue* queue, View x, ConstView y);
int fill(Queue* queue, View x, float value);
int scale(Queue* queue, View x, float factor);
int soft_cap(Queue* queue, View x, float scale, float cap);
int gather(Queue* queue, ConstView x, const int64_t* host_rows, View y);
int scatter_add(Queue* queue, ConstView x, const int64_t* host_rows, const float* host_factors,
                View y);

// logits.cu
int mark_finite(Queue* queue, ConstView x, float* mark);
int begin_losses(Queue* queue, int64_t rows, RunningLoss* losses);
int add_losses(Queue* queue, ConstView logits, int64_t first, const int32_t* targets,
               RunningLoss* losses);
int divergence(Queue* queue, ConstView base, ConstView other, const int32_t* targets,
               Divergence* differences);

// calibration_plugin.cu
CalibrationFunctions calibration_table();

}  // namespace qwb::cuda
