// Tensors in memory: TensorView looks at bytes that somebody else keeps (a mapped file), Tensor
// owns them. All are row-major (C order) and little-endian; a view's bytes may have any alignment.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/memory_ledger.h"
#include "lib/tensor/device.h"
#include "lib/tensor/dtype.h"

namespace qwb {

using Shape = std::vector<int64_t>;

// Product of the dimensions (1 for a scalar); throws on negative dimensions or overflow, naming
// `where`.
int64_t element_count(const Shape& shape, const std::string& where = {});
// "[576, 1536]"
std::string shape_text(const Shape& shape);

// Memory aligned for SIMD (64 bytes), not initialised; told to the memory ledger under its kind.
// device: whose memory it is, null for that of the process.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(int64_t size, MemoryKind kind = MemoryKind::scratch,
                         const Device* device = nullptr);
  std::byte* data() const { return data_.get(); }
  int64_t size() const { return size_; }

 private:
  struct Free {
    const Device* device;
    Free() : device(nullptr) {}
    explicit Free(const Device* owner) : device(owner) {}
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte[], Free> data_;
  int64_t size_ = 0;
  MemoryClaim claim_;
};

// `count` floats, aligned and uninitialised: scratch and activations.
class FloatBuffer {
 public:
  FloatBuffer() = default;
  explicit FloatBuffer(int64_t count, MemoryKind kind = MemoryKind::scratch)
      : buffer_(checked_mul(count, sizeof(float), "buffer"), kind), count_(count) {}
  float* data() const { return reinterpret_cast<float*>(buffer_.data()); }
  int64_t size() const { return count_; }
  float& operator[](int64_t i) const { return data()[i]; }
  std::span<float> span() const { return {data(), static_cast<size_t>(count_)}; }

 private:
  AlignedBuffer buffer_;
  int64_t count_ = 0;
};

struct TensorView {
  DType dtype = DType::f32;
  Shape shape;
  Bytes bytes;  // element_count(shape) * dtype_size(dtype) of them

  bool empty() const { return bytes.empty(); }
  int64_t count() const { return static_cast<int64_t>(bytes.size()) / dtype_size(dtype); }
};

// Owns its bytes, weights in the memory ledger; movable.
class Tensor {
 public:
  Tensor() = default;
  // Uninitialised.
  Tensor(DType dtype, Shape shape);
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  MutableBytes bytes() { return {buffer_.data(), static_cast<size_t>(buffer_.size())}; }
  TensorView view() const {
    return {dtype_, shape_, {buffer_.data(), static_cast<size_t>(buffer_.size())}};
  }
  template <typename T>
  T* data() const {
    return reinterpret_cast<T*>(buffer_.data());
  }
  int64_t count() const { return buffer_.size() / dtype_size(dtype_); }

 private:
  DType dtype_ = DType::f32;
  Shape shape_;
  AlignedBuffer buffer_;
};

// Elements [begin, begin + count) of a float view as f32 (f64 is rounded). Scalar: for small
// tensors; lib/exec converts whole matrices. Throws unsupported for integer types.
void read_floats(const TensorView& view, int64_t begin, int64_t count, float* out,
                 const std::string& where);
std::vector<float> read_floats(const TensorView& view, const std::string& where);

}  // namespace qwb
