#include "lib/tensor/tensor.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "lib/base/half.h"
#include "lib/tensor/buffer_reuse.h"

namespace qwb {

int64_t element_count(const Shape& shape, const std::string& where) {
  int64_t count = 1;
  for (const int64_t extent : shape) count = checked_mul(count, extent, where);
  return count;
}

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

namespace {

// Freed buffers by their usable size.
class KeptBuffers {
 public:
  void start() { on_ = true; }
  // One of that size or up to an eighth more; null if there is none.
  void* take(size_t size) {
    if (!on_ || size < kLarge) return nullptr;
    const std::lock_guard lock(mutex_);
    const auto it = buffers_.lower_bound(size);
    if (it == buffers_.end() || it->first > size + size / 8) return nullptr;
    void* buffer = it->second;
    bytes_ -= it->first;
    buffers_.erase(it);
    return buffer;
  }
  void put(void* buffer) {
    const size_t size = on_ ? ::malloc_usable_size(buffer) : 0;
    if (size < kLarge) return std::free(buffer);
    const std::lock_guard lock(mutex_);
    largest_ = std::max(largest_, size);
    while (!buffers_.empty() && bytes_ + size > 2 * largest_) {
      bytes_ -= buffers_.begin()->first;
      std::free(buffers_.begin()->second);
      buffers_.erase(buffers_.begin());
    }
    buffers_.emplace(size, buffer);
    bytes_ += size;
  }

 private:
  static constexpr size_t kLarge = size_t{1} << 20;
  std::atomic<bool> on_{false};
  std::mutex mutex_;
  std::multimap<size_t, void*> buffers_;
  size_t bytes_ = 0, largest_ = 0;
};

KeptBuffers& kept_buffers() {
  static KeptBuffers& kept = *new KeptBuffers;  // never destroyed: static objects may free buffers after it
  return kept;
}

}  // namespace

void reuse_large_buffers() {
  kept_buffers().start();
}

AlignedBuffer::AlignedBuffer(int64_t size, MemoryKind kind) : size_(size) {
  if (size == 0) return;
  const auto padded = static_cast<size_t>(ceil_div(size, 64) * 64);
  void* kept = kept_buffers().take(padded);
  data_.reset(static_cast<std::byte*>(kept != nullptr ? kept : std::aligned_alloc(64, padded)));
  if (!data_) throw std::bad_alloc();
  claim_ = MemoryClaim(kind, size);
}

void AlignedBuffer::Free::operator()(std::byte* data) const {
  kept_buffers().put(data);
}

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype),
      shape_(std::move(shape)),
      buffer_(checked_mul(element_count(shape_), dtype_size(dtype), "tensor"), MemoryKind::weights) {}

void read_floats(const TensorView& view, int64_t begin, int64_t count, float* out, const std::string& where) {
  if (begin < 0 || count < 0 || begin > view.count() - count) {
    throw Error(ErrorKind::failed, "elements beyond the tensor were asked for", where);
  }
  const std::byte* at = view.bytes.data() + begin * dtype_size(view.dtype);
  switch (view.dtype) {
    case DType::f32:
      std::memcpy(out, at, static_cast<size_t>(count) * sizeof(float));
      return;
    case DType::f64:
      for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(load<double>(at + 8 * i));
      return;
    case DType::f16:
      for (int64_t i = 0; i < count; ++i) out[i] = f16_to_f32(load<uint16_t>(at + 2 * i));
      return;
    case DType::bf16:
      for (int64_t i = 0; i < count; ++i) out[i] = bf16_to_f32(load<uint16_t>(at + 2 * i));
      return;
    default:
      throw Error(ErrorKind::unsupported,
                  "expected floating-point values, found " + std::string(dtype_name(view.dtype)), where);
  }
}

std::vector<float> read_floats(const TensorView& view, const std::string& where) {
  std::vector<float> values(static_cast<size_t>(view.count()));
  read_floats(view, 0, view.count(), values.data(), where);
  return values;
}

}  // namespace qwb
