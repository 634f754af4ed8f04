// safetensors as one of the containers of a checkpoint.
#include "formats/tensor_file.h"

#include "formats/safetensors/safetensors.h"

namespace qwb {
namespace {

class SafetensorsContainer : public TensorFile {
 public:
  explicit SafetensorsContainer(const Path& path) : file_(SafetensorsFile::open(path)) {}
  const MappedFile& mapped() const override { return file_.mapped(); }
  size_t count() const override { return file_.header().tensors.size(); }
  PartSpec spec(size_t tensor) const override {
    const SafetensorsEntry& entry = file_.header().tensors[tensor];
    return {entry.name, entry.dtype, entry.shape};
  }
  TensorView view(size_t tensor) const override {
    return file_.view(file_.header().tensors[tensor]);
  }

 private:
  SafetensorsFile file_;
};

}  // namespace

std::shared_ptr<const TensorFile> open_safetensors(const Path& path) {
  return std::make_shared<SafetensorsContainer>(path);
}

}  // namespace qwb
