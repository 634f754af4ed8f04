// A libqwb-cuda.so whose GPU is the host's memory and that does what FAKE_CUDA says: "" one card
// that works; "two" an old one and that; "code N" counting cards fails with that code of the CUDA
// runtime; "no-driver" there is none; "old-card" has no code, "new-card" only PTX; "empty" no card;
// "full" 1 MB of memory; "interface" another version. It has no kernels: only memory, copies and
// what makes weights ready.
#include <cstdlib>
#include <cstring>
#include <string>

#include "lib/exec/cuda/decode.h"

namespace qwb::cuda {

struct Queue {
  int64_t held = 0;
};

namespace {

std::string mode() {
  const char* value = std::getenv("FAKE_CUDA");
  return value != nullptr ? value : "";
}

int count(int* devices, int* driver, int* runtime) {
  *runtime = 13000;
  *driver = mode() == "no-driver" ? 0 : mode() == "code 35" ? 12040 : 13010;
  *devices = mode() == "empty" ? 0 : mode() == "two" ? 2 : 1;
  if (mode() == "no-driver") return 35;
  return mode().starts_with("code ") ? std::atoi(mode().c_str() + 5) : 0;
}

int facts(int device, DeviceFacts* facts) {
  std::strcpy(facts->name, "Fake GPU");
  std::strcpy(facts->uuid, "GPU-00000000-0000-0000-0000-000000000000");
  const bool old = mode() == "old-card" || (mode() == "two" && device == 0);
  facts->major = old ? 6 : mode() == "new-card" ? 13 : 9;
  facts->minor = 0, facts->processors = 4;
  facts->total = int64_t{8} << 30, facts->free = int64_t{6} << 30;
  return 0;
}

const char* error_text(int) {
  return "a text of the runtime";
}

int open(int, Queue** queue) {
  *queue = new Queue;
  return 0;
}
int allocate(Queue* queue, int64_t bytes, void** data) {
  if (mode() == "full" && queue->held + bytes > 1 << 20) return 2;
  queue->held += bytes;
  *data = std::aligned_alloc(256, static_cast<size_t>((bytes + 255) / 256 * 256));
  return 0;
}
int release(Queue*, void* data) {
  std::free(data);
  return 0;
}
int memory(Queue*, int64_t* free, int64_t* total) {
  *free = 1 << 19, *total = 1 << 20;
  return 0;
}
int upload(Queue*, const void* host, void* data, int64_t bytes) {
  std::memcpy(data, host, static_cast<size_t>(bytes));
  return 0;
}
int copy_rows(Queue*, ConstView from, View to) {
  for (int64_t r = 0; r < from.rows; ++r)
    std::memcpy(to.data + r * to.stride, from.data + r * from.stride,
                static_cast<size_t>(from.columns) * sizeof(float));
  return 0;
}
int finish(Queue*) {
  return 0;
}

template <Form F>
void values_of(const StoredWeight& weight, const int32_t* ids, View y) {
  for (int64_t r = 0; r < y.rows; ++r) {
    for (int64_t c = 0; c < y.columns; ++c)
      y.data[r * y.stride + c] = stored_value<F>(weight, ids[r], c);
  }
}
int look_up(Queue*, const StoredWeight* weight, const int32_t* ids, View y) {
  switch (weight->form) {
    case Form::dense:
      values_of<Form::dense>(*weight, ids, y);
      break;
    case Form::grid:
      values_of<Form::grid>(*weight, ids, y);
      break;
    case Form::int8_rows:
      values_of<Form::int8_rows>(*weight, ids, y);
      break;
    case Form::float_blocks:
      values_of<Form::float_blocks>(*weight, ids, y);
      break;
    default:
      values_of<Form::ggml_blocks>(*weight, ids, y);
  }
  return 0;
}
int grid_of_ggml(Queue*, const StoredWeight* weight, int bits, unsigned char* codes,
                 unsigned char* scales) {
  for (int64_t i = 0; i < weight->out * weight->in / 8 * bits; ++i)
    ggml::grid_byte(*weight, bits, i, codes, scales);
  return 0;
}
int plain_scales(Queue*, const StoredWeight* weight, float* scales) {
  const int64_t count = (weight->out * weight->in + weight->scale_block - 1) / weight->scale_block;
  for (int64_t i = 0; i < count; ++i) scales[i] = block_scale(*weight, i);
  return 0;
}

Functions fake_functions() {
  Functions f = {};
  f.interface = kInterface, f.architectures = "75 80 90", f.newest = 120;
  f.count = count, f.facts = facts, f.error_text = error_text, f.open = open;
  f.allocate = allocate, f.release = release, f.memory = memory, f.upload = upload;
  f.upload_rows = copy_rows, f.download_rows = copy_rows, f.copy_rows = copy_rows;
  f.finish = finish, f.look_up = look_up;
  f.grid_of_ggml = grid_of_ggml, f.plain_scales = plain_scales;
  return f;
}

}  // namespace
}  // namespace qwb::cuda

extern "C" const qwb::cuda::Functions* qwb_cuda_functions(int interface, int* theirs) {
  static const qwb::cuda::Functions functions = qwb::cuda::fake_functions();
  const bool other = qwb::cuda::mode() == "interface";
  *theirs = other ? interface + 1 : interface;
  return other ? nullptr : &functions;
}
