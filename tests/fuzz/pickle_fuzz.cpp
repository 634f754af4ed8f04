// Any bytes as a file of torch.save: refused with a qwb::Error, or every tensor lies inside of the
// file.
#include <cstdlib>

#include "formats/pickle/torch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const qwb::Bytes file(reinterpret_cast<const std::byte*>(data), size);
  try {
    const qwb::TorchContents contents = qwb::parse_torch_file(file, "fuzz");
    if (contents.places.size() != contents.dict.storages.size()) std::abort();
    for (const auto& tensor : contents.dict.tensors) {
      const qwb::StoragePlace& place = contents.places.at(tensor.storage);
      if (place.begin < 0 || place.end < place.begin || place.end > static_cast<int64_t>(size))
        std::abort();
      const qwb::Bytes storage = file.subspan(static_cast<size_t>(place.begin),
                                              static_cast<size_t>(place.end - place.begin));
      if (tensor.contiguous()) {
        if (tensor.begin < 0 || tensor.begin + tensor.bytes() > place.end - place.begin)
          std::abort();
      } else {
        qwb::gather(tensor, storage);  // the sanitizer watches its reads
      }
    }
  } catch (const qwb::Error&) {
    return 0;
  }
  return 0;
}
