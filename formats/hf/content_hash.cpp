// The identity of a model, whatever its packaging, and the memo that spares reading it again.
#include <algorithm>
#include <array>
#include <atomic>

#include "formats/hf/checkpoint.h"
#include "lib/base/hash.h"
#include "lib/base/parallel.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

constexpr size_t kHashPiece = size_t{16} << 20;
constexpr int64_t kMemoVersion = 1;  // raised when the hash is computed differently
// File systems keep times in ticks (FAT: 2 s): a file changed in the tick of the memo could keep
// its times.
constexpr int64_t kSettled = 2'000'000'000;

// Keys of config.json that say where a model came from, not what it computes.
constexpr std::array<const char*, 4> kProvenance = {"_name_or_path", "transformers_version",
                                                    "_commit_hash", "_attn_implementation_autoset"};

Json files_json(const std::vector<SourceFile>& files) {
  Json list = Json::array();
  for (const auto& [path, state] : files) {
    list.push_back({{"path", path},
                    {"size", state.size},
                    {"modified_ns", state.modified_ns},
                    {"changed_ns", state.changed_ns},
                    {"inode", state.inode}});
  }
  return list;
}

Path memo_path(const Path& memo_folder, const Path& folder) {
  std::error_code error;
  const Path absolute = fs::weakly_canonical(folder, error);
  return memo_folder /
         (hash_hex(as_bytes((error ? fs::absolute(folder) : absolute).string())) + ".json");
}

// The remembered hash if the files are as they were; empty if there is none, it cannot be trusted
// or it is damaged.
std::string recall(const Path& memo, const std::vector<SourceFile>& files) {
  std::error_code ignored;
  if (!fs::exists(memo, ignored)) return {};
  try {
    const Json json = parse_json(read_text(memo, 1 << 26), memo.string());
    std::string hash = json_string(json, "hash", memo.string());
    const int64_t written = json_int(json, "written_ns", memo.string());
    if (json_int(json, "version", memo.string()) != kMemoVersion ||
        json.at("files") != files_json(files))
      return {};
    if (json_string(json, "sum", memo.string()) !=
        hash_hex(as_bytes(hash + json.at("files").dump())))
      return {};
    for (const SourceFile& file : files) {
      if (file.state.latest_ns() > written - kSettled) return {};
    }
    return hash;
  } catch (const std::exception&) {
    return {};
  }
}

std::atomic<bool> g_memos_are_kept{true};

void remember(const Path& memo, const std::vector<SourceFile>& files, const std::string& hash) {
  try {
    for (const SourceFile& file : files) {
      if (source_file(file.path) != file) return;  // changed while we read it
    }
    fs::create_directories(memo.parent_path());
    const Json list = files_json(files);
    const Json json = {{"version", kMemoVersion},
                       {"written_ns", now_ns()},
                       {"hash", hash},
                       {"files", list},
                       {"sum", hash_hex(as_bytes(hash + list.dump()))}};
    write_file_atomically(memo, as_bytes(json_text(json)));
  } catch (const std::exception&) {  // a memo is a courtesy: a read-only or full cache must not
                                     // stop the work
    return;
  }
}

}  // namespace

SourceFile source_file(const Path& path) {
  return {fs::absolute(path).lexically_normal().string(), file_state(path)};
}

std::string tensor_digest(const TensorSource& source, const TensorView& view,
                          const StopToken& stop) {
  Hasher hasher;
  for (size_t at = 0; at < view.bytes.size(); at += kHashPiece) {
    stop.check();
    const Bytes piece = view.bytes.subspan(at, std::min(kHashPiece, view.bytes.size() - at));
    hasher.bytes(piece);
    source.release({DType::u8, {static_cast<int64_t>(piece.size())}, piece});
  }
  return hasher.hex();
}

void keep_no_memos() {
  g_memos_are_kept = false;
}

std::string remembered_hash(const Path& memo_folder, const Path& path,
                            const std::vector<SourceFile>& files,
                            const std::function<std::string()>& compute) {
  if (memo_folder.empty()) return compute();
  const Path memo = memo_path(memo_folder, path);
  std::string known = recall(memo, files);
  if (!known.empty()) return known;
  std::string hash = compute();
  if (g_memos_are_kept) remember(memo, files, hash);
  return hash;
}

std::string Checkpoint::content_hash(const Path& memo_folder, const Context& context) const {
  return remembered_hash(memo_folder, folder_, source_files_,
                         [&] { return compute_hash(context); });
}

std::string Checkpoint::compute_hash(const Context& context) const {
  const auto tensors = names();
  std::vector<std::string> digests(tensors.size());
  parallel_for(context, static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    digests[at] = tensor_digest(*this, *find(tensors[at]), context.stop);
  });
  Json meaning = config_;
  for (const char* key : kProvenance) meaning.erase(key);
  Hasher hasher;
  hasher.field("qwb-model-1").field(json_canonical(meaning));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorView view = *find(tensors[i]);
    hasher.field(tensors[i])
        .field(dtype_name(view.dtype))
        .field(shape_text(view.shape))
        .field(digests[i]);
  }
  return hasher.hex();
}

}  // namespace qwb
