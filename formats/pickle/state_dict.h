// The tensors that a pickle describes: names, shapes, and which elements of which storage.
#pragma once

#include <string>
#include <vector>

#include "formats/pickle/pickle.h"
#include "lib/tensor/tensor.h"

namespace qwb {

// A run of bytes that tensors share. Two storages of one key are one.
struct TorchStorage {
  std::string key;
  int64_t bytes = 0;
  int64_t width = 1;  // of the elements that `bytes` was counted in
};

struct StridedTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape, strides;  // in elements
  size_t storage = 0;    // its place in StateDict::storages
  int64_t begin = 0;     // byte of the storage at which element 0 lies

  // Row-major without gaps: its bytes are those of a TensorView.
  bool contiguous() const;
  int64_t bytes() const { return element_count(shape) * dtype_size(dtype); }
};

struct StateDict {
  std::vector<TorchStorage> storages;
  std::vector<StridedTensor> tensors;  // in the order of the pickle; names are unique
  std::vector<std::string> notes;      // what was left out, a sentence each
};

// Checks that every tensor lies inside of its storage. A dict {"state_dict": {...}, ...} or
// {"model": {...}, ...} gives what is inside. Throws `unsupported` (naming the tensor) for what is
// no tensor or of a type that this project cannot hold, `failed` for damage.
StateDict read_state_dict(const PickleGraph& graph, const std::string& where);

// The elements of a strided tensor as a row-major one; `storage`: the bytes of its storage.
Tensor gather(const StridedTensor& tensor, Bytes storage);

}  // namespace qwb
