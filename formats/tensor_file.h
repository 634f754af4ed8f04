// A file of named tensors, in whatever container: safetensors, or what torch.save writes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/codec/encoding.h"
#include "lib/tensor/tensor.h"

namespace qwb {

class TensorFile {
 public:
  virtual ~TensorFile() = default;
  virtual const MappedFile& mapped() const = 0;
  // Name, type and shape of every tensor; names are unique.
  virtual size_t count() const = 0;
  virtual PartSpec spec(size_t tensor) const = 0;
  // Lives as long as the file. Throws `failed` if the bytes are not those that their sum says.
  virtual TensorView view(size_t tensor) const = 0;
  // What was left out, a sentence each.
  virtual std::vector<std::string> notes() const { return {}; }
};

std::shared_ptr<const TensorFile> open_safetensors(const Path& path);
// formats/pickle/pickle.md
std::shared_ptr<const TensorFile> open_torch_file(const Path& path);

}  // namespace qwb
