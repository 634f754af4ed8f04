// Devices, memory and copies.
#include "lib/exec/cuda/queue.cuh"

#include <cstdio>
#include <cstring>

#include "lib/exec/cuda/operations.cuh"

namespace qwb::cuda {
namespace {

constexpr int64_t kRing = 1 << 20;
constexpr int64_t kSmall = 64 << 10;    // uploads that go through the ring
constexpr int64_t kBounce = 1 << 20;    // downloads that go through it
constexpr int64_t kStaging = 16 << 20;  // of one of the two buffers

void write_uuid(const cudaUUID_t& uuid, char* text) {
  char* at = text + std::sprintf(text, "GPU-");
  for (int i = 0; i < 16; ++i) {
    const bool dash = i == 4 || i == 6 || i == 8 || i == 10;
    at += std::sprintf(at, "%s%02x", dash ? "-" : "", static_cast<unsigned char>(uuid.bytes[i]));
  }
}

// The next `bytes` of the ring, free to be written.
int take_ring(Queue& queue, int64_t bytes, unsigned char** place) {
  if (queue.ring_at + bytes > kRing) {
    if (const int code = cudaStreamSynchronize(queue.stream); code != 0) return code;
    queue.ring_at = 0;
  }
  *place = queue.ring + queue.ring_at;
  queue.ring_at += (bytes + 15) / 16 * 16;
  return 0;
}

int upload_large(Queue& queue, const unsigned char* host, unsigned char* data, int64_t bytes) {
  for (int i = 0; i < 2; ++i) {
    if (queue.staging[i] != nullptr) continue;
    void* pinned = nullptr;
    if (const int code = cudaMallocHost(&pinned, kStaging); code != 0) return code;
    queue.staging[i] = static_cast<unsigned char*>(pinned);
    const int code = cudaEventCreateWithFlags(&queue.staged[i], cudaEventDisableTiming);
    if (code != 0) return code;
  }
  for (int turn = 0; bytes > 0; turn ^= 1) {
    const int64_t count = bytes < kStaging ? bytes : kStaging;
    if (const int code = cudaEventSynchronize(queue.staged[turn]); code != 0) return code;
    std::memcpy(queue.staging[turn], host, static_cast<size_t>(count));
    int code = cudaMemcpyAsync(data, queue.staging[turn], static_cast<size_t>(count),
                               cudaMemcpyHostToDevice, queue.stream);
    if (code == 0) code = cudaEventRecord(queue.staged[turn], queue.stream);
    if (code != 0) return code;
    host += count, data += count, bytes -= count;
  }
  return 0;
}

int copy_2d(Queue& queue, ConstView from, View to, cudaMemcpyKind kind) {
  const size_t width = static_cast<size_t>(from.columns) * sizeof(float);
  if (width == 0 || from.rows == 0) return 0;
  if (dense(from) && dense(to))
    return cudaMemcpyAsync(to.data, from.data, width * static_cast<size_t>(from.rows), kind,
                           queue.stream);
  return cudaMemcpy2DAsync(to.data, static_cast<size_t>(to.stride) * sizeof(float), from.data,
                           static_cast<size_t>(from.stride) * sizeof(float), width,
                           static_cast<size_t>(from.rows), kind, queue.stream);
}

}  // namespace

int reserve(Queue& queue, int number, int64_t bytes, void** data) {
  if (queue.scratch_bytes[number] < bytes) {
    if (const int code = cudaStreamSynchronize(queue.stream); code != 0) return code;
    if (const int code = cudaFree(queue.scratch[number]); code != 0) return code;
    queue.scratch[number] = nullptr, queue.scratch_bytes[number] = 0;
    const int64_t size = (bytes + (1 << 20)) / (1 << 20) * (1 << 20);
    if (const int code = cudaMalloc(&queue.scratch[number], static_cast<size_t>(size)); code != 0) {
      cudaGetLastError();
      return code;
    }
    queue.scratch_bytes[number] = size;
  }
  *data = queue.scratch[number];
  return 0;
}

int upload_now(Queue& queue, const void* host, void* data, int64_t bytes) {
  if (bytes == 0) return 0;
  if (bytes > kSmall)
    return upload_large(queue, static_cast<const unsigned char*>(host),
                        static_cast<unsigned char*>(data), bytes);
  unsigned char* place = nullptr;
  if (const int code = take_ring(queue, bytes, &place); code != 0) return code;
  std::memcpy(place, host, static_cast<size_t>(bytes));
  return cudaMemcpyAsync(data, place, static_cast<size_t>(bytes), cudaMemcpyHostToDevice,
                         queue.stream);
}

int to_scratch(Queue& queue, int number, const void* host, int64_t bytes, void** data) {
  if (const int code = reserve(queue, number, bytes, data); code != 0) return code;
  return upload_now(queue, host, *data, bytes);
}

int count_devices(int* devices, int* driver, int* runtime) {
  cudaDriverGetVersion(driver);
  cudaRuntimeGetVersion(runtime);
  const int code = cudaGetDeviceCount(devices);
  cudaGetLastError();
  return code;
}

int device_facts(int device, DeviceFacts* facts) {
  cudaDeviceProp properties;
  if (const int code = cudaGetDeviceProperties(&properties, device); code != 0) return code;
  std::snprintf(facts->name, sizeof facts->name, "%s", properties.name);
  write_uuid(properties.uuid, facts->uuid);
  facts->major = properties.major, facts->minor = properties.minor;
  facts->processors = properties.multiProcessorCount;
  if (const int code = cudaSetDevice(device); code != 0) return code;
  size_t free = 0, total = 0;
  const int code = cudaMemGetInfo(&free, &total);
  cudaGetLastError();
  facts->free = static_cast<int64_t>(free), facts->total = static_cast<int64_t>(total);
  return code;
}

const char* error_text(int code) {
  return cudaGetErrorString(static_cast<cudaError_t>(code));
}

int open_queue(int device, Queue** queue) {
  if (const int code = cudaSetDevice(device); code != 0) return code;
  auto* made = new Queue;
  made->device = device;
  void* ring = nullptr;
  int code = cudaDeviceGetAttribute(&made->major, cudaDevAttrComputeCapabilityMajor, device);
  if (code == 0) code = cudaStreamCreateWithFlags(&made->stream, cudaStreamNonBlocking);
  if (code == 0) code = cudaMallocHost(&ring, kRing);
  if (code != 0) {
    delete made;
    cudaGetLastError();
    return code;
  }
  made->ring = static_cast<unsigned char*>(ring);
  *queue = made;
  return 0;
}

int allocate(Queue* queue, int64_t bytes, void** data) {
  if (const int code = cudaSetDevice(queue->device); code != 0) return code;
  const int code = cudaMalloc(data, static_cast<size_t>(bytes));
  cudaGetLastError();  // a full memory is no reason for the next call to fail
  return code;
}

int release(Queue* queue, void* data) {
  if (const int code = cudaSetDevice(queue->device); code != 0) return code;
  if (const int code = cudaStreamSynchronize(queue->stream); code != 0) return code;
  return cudaFree(data);
}

int memory_left(Queue* queue, int64_t* free, int64_t* total) {
  size_t left = 0, all = 0;
  cudaSetDevice(queue->device);
  const int code = cudaMemGetInfo(&left, &all);
  *free = static_cast<int64_t>(left), *total = static_cast<int64_t>(all);
  return code;
}

int upload(Queue* queue, const void* host, void* data, int64_t bytes) {
  return upload_now(*queue, host, data, bytes);
}

int upload_rows(Queue* queue, ConstView host, View to) {
  if (dense(host) && dense(to))
    return upload_now(*queue, host.data, to.data, host.rows * host.columns * 4);
  const int code = copy_2d(*queue, host, to, cudaMemcpyHostToDevice);
  return code != 0 ? code : cudaStreamSynchronize(queue->stream);
}

int download_rows(Queue* queue, ConstView from, View host) {
  const int64_t bytes = from.rows * from.columns * 4;
  const bool bounces = dense(from) && dense(host) && bytes <= kBounce;
  unsigned char* place = nullptr;
  if (bounces) {
    if (const int code = take_ring(*queue, bytes, &place); code != 0) return code;
  }
  View to = host;
  if (bounces) to = {reinterpret_cast<float*>(place), from.rows, from.columns, from.columns};
  int code = copy_2d(*queue, from, to, cudaMemcpyDeviceToHost);
  if (code == 0) code = cudaStreamSynchronize(queue->stream);
  if (code == 0 && bounces) std::memcpy(host.data, place, static_cast<size_t>(bytes));
  return code;
}

int copy_rows(Queue* queue, ConstView from, View to) {
  return copy_2d(*queue, from, to, cudaMemcpyDeviceToDevice);
}

int finish(Queue* queue) {
  return cudaStreamSynchronize(queue->stream);
}

}  // namespace qwb::cuda
