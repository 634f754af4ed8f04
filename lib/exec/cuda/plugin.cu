// The table of functions, and the one symbol of libqwb-cuda.so.
#include "lib/exec/cuda/calibration_interface.h"
#include "lib/exec/cuda/operations.cuh"

namespace qwb::cuda {
namespace {

Functions table() {
  Functions f = {};
  f.interface = kInterface;
  f.architectures = QWB_CUDA_REAL;  // of CMake
  f.newest = QWB_CUDA_PTX;
  f.count = count_devices, f.facts = device_facts, f.error_text = error_text;
  f.open = open_queue, f.allocate = allocate, f.release = release, f.memory = memory_left;
  f.upload = upload, f.upload_rows = upload_rows, f.download_rows = download_rows;
  f.copy_rows = copy_rows, f.finish = finish;
  f.dequantize = dequantize, f.look_up = look_up;
  f.grid_of_ggml = grid_of_ggml, f.plain_scales = plain_scales;
  f.parts = parts_of, f.split = split, f.dequantize_parts = dequantize_parts;
  f.product_of_parts = product_of_parts;
  f.product = product, f.few_rows = few_rows, f.few_gated = few_gated, f.few_plain = few_plain;
  f.rms_norm = rms_norm, f.layer_norm = layer_norm, f.rotate = rotate, f.attention = attention;
  f.activate = activate, f.add = add, f.fill = fill, f.scale = scale, f.soft_cap = soft_cap;
  f.gather = gather, f.scatter_add = scatter_add, f.mark_finite = mark_finite;
  f.begin_losses = begin_losses, f.add_losses = add_losses, f.divergence = divergence;
  static const CalibrationFunctions calibration = calibration_table();
  f.calibration = &calibration;
  return f;
}

}  // namespace
}  // namespace qwb::cuda

extern "C" __attribute__((visibility("default"))) const qwb::cuda::Functions* qwb_cuda_functions(
    int interface, int* theirs) {
  static const qwb::cuda::Functions functions = qwb::cuda::table();
  *theirs = qwb::cuda::kInterface;
  return interface == qwb::cuda::kInterface ? &functions : nullptr;
}
