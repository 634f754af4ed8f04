#include "lib/base/file_hash.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "lib/base/file_state.h"
#include "lib/base/hash.h"

namespace qwb {
namespace {

// A change within the same tick of the file system's clock leaves no trace: files that changed this
// shortly before they are hashed are not remembered.
constexpr int64_t kTick = 50'000'000;  // ns

}  // namespace

std::string written_file_hash(const Path& path, const StopToken& stop) {
  static std::mutex mutex;
  static std::map<FileState, std::string>& known = *new std::map<FileState, std::string>;
  const FileState state = file_state(path);
  const bool settled = now_ns() - state.latest_ns() > kTick;
  if (settled) {
    const std::lock_guard lock(mutex);
    const auto found = known.find(state);
    if (found != known.end()) return found->second;
  }
  std::string hash = file_hash(path, stop);
  if (settled && file_state(path) == state) {
    const std::lock_guard lock(mutex);
    known.emplace(state, hash);
  }
  return hash;
}

std::string file_hash(const Path& path, const StopToken& stop) {
  constexpr size_t kPiece = size_t{1} << 19;  // in memory at a time
  const MappedFile file = MappedFile::open(path);
  Hasher hasher;
  for (size_t at = 0; at < file.bytes().size(); at += kPiece) {
    stop.check();
    const Bytes piece = file.bytes().subspan(at, std::min(kPiece, file.bytes().size() - at));
    hasher.bytes(piece);
    file.drop(piece);
  }
  return hasher.hex();
}

}  // namespace qwb
