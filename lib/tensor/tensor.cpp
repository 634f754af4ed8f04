#include "lib/tensor/tensor.h"

#include "lib/base/half.h"
#include "lib/tensor/large_buffers.h"

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

AlignedBuffer::AlignedBuffer(int64_t size, MemoryKind kind, const Device* device)
    : data_(nullptr, Free{device}), size_(size) {
  if (size == 0) return;
  data_.reset(device != nullptr
                  ? device->take(size)
                  : static_cast<std::byte*>(allocate_buffer(static_cast<size_t>(size))));
  claim_ = MemoryClaim(kind, size);
}

void AlignedBuffer::Free::operator()(std::byte* data) const {
  if (device != nullptr) {
    device->give_back(data);
  } else {
    free_buffer(data);
  }
}

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype),
      shape_(std::move(shape)),
      buffer_(checked_mul(element_count(shape_), dtype_size(dtype), "tensor"),
              MemoryKind::weights) {}

void read_floats(const TensorView& view, int64_t begin, int64_t count, float* out,
                 const std::string& where) {
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
                  "expected floating-point values, found " + std::string(dtype_name(view.dtype)),
                  where);
  }
}

std::vector<float> read_floats(const TensorView& view, const std::string& where) {
  std::vector<float> values(static_cast<size_t>(view.count()));
  read_floats(view, 0, view.count(), values.data(), where);
  return values;
}

}  // namespace qwb
