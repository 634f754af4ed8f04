// Any bytes as a safetensors file: refused with a qwb::Error, or every tensor lies inside the file.
#include <cstdlib>

#include "formats/safetensors/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const qwb::Bytes file(reinterpret_cast<const std::byte*>(data), size);
  try {
    const auto header = qwb::parse_safetensors_header(file, "fuzz");
    for (const auto& tensor : header.tensors) {
      const int64_t bytes = qwb::element_count(tensor.shape) * qwb::dtype_size(tensor.dtype);
      if (tensor.begin < 0 || tensor.end - tensor.begin != bytes) std::abort();
      if (header.data_begin + tensor.end > static_cast<int64_t>(size)) std::abort();
    }
  } catch (const qwb::Error&) {
    return 0;
  }
  return 0;
}
