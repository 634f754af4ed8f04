#include "lib/base/file_hash.h"

#include <algorithm>

#include "lib/base/hash.h"
#include "lib/base/interrupt.h"

namespace qwb {

std::string file_hash(const Path& path) {
  constexpr size_t kPiece = size_t{16} << 20;
  const MappedFile file = MappedFile::open(path);
  Hasher hasher;
  for (size_t at = 0; at < file.bytes().size(); at += kPiece) {
    check_interrupt();
    const Bytes piece = file.bytes().subspan(at, std::min(kPiece, file.bytes().size() - at));
    hasher.bytes(piece);
    file.drop(piece);
  }
  return hasher.hex();
}

}  // namespace qwb
