// What torch.save writes: the ZIP form of PyTorch 1.6 and later, and the stream of before.
// Byte-exact page: formats/pickle/pickle.md.
#pragma once

#include <string>
#include <vector>

#include "formats/pickle/state_dict.h"
#include "formats/pickle/zip_index.h"
#include "lib/base/bytes.h"

namespace qwb {

// Where the bytes of a storage lie in the file.
struct StoragePlace {
  int64_t begin = 0, end = 0;
  std::string member;  // of the archive; empty in a stream, which has no sums
  uint32_t sum = 0;
};

struct TorchContents {
  StateDict dict;
  std::vector<StoragePlace> places;  // of dict.storages
};

// Reads descriptions only: no storage. Throws `unsupported` for other forms (TorchScript, tar,
// big-endian, ...) by name and for all that read_state_dict refuses, `failed` for damage.
TorchContents parse_torch_file(Bytes file, const std::string& where);

}  // namespace qwb
