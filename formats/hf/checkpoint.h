// A Hugging Face checkpoint folder: config.json and model.safetensors, or the shards of
// model.safetensors.index.json; without either, pytorch_model.bin or its shards. Layout and naming
// rules: formats/safetensors/safetensors.md, formats/pickle/pickle.md.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/model_source.h"
#include "formats/safetensors/safetensors.h"
#include "formats/tensor_file.h"
#include "lib/base/context.h"
#include "lib/base/file_state.h"
#include "lib/base/json.h"
#include "lib/codec/source.h"

namespace qwb {

// The index of a sharded checkpoint: tensor name -> file name. Throws `failed` for damage and for
// file names that leave the folder.
std::map<std::string, std::string> parse_shard_index(std::string_view text,
                                                     const std::string& where);

// How a folder's weights are named: one file, or shards with an index.
struct WeightNames {
  const char *single, *index, *shard_begin, *shard_end;
  std::shared_ptr<const TensorFile> (*open)(const Path& file);

  bool in(const Path& folder) const;
};
// Those that the folder has, safetensors before PyTorch's as transformers takes them; null: none.
const WeightNames* weight_names(const Path& folder);

// A file that a model was read from.
struct SourceFile {
  std::string path;  // absolute
  FileState state;
  bool operator==(const SourceFile&) const = default;
};
SourceFile source_file(const Path& path);

// The hash that `compute` gives, or what the memo folder (if any) remembers of it for the model at
// `path`; `files`: its files, looked at before they were opened.
// From now on hashes are looked up in memos, but none is written: for a --dry-run, which leaves
// nothing behind.
void keep_no_memos();

std::string remembered_hash(const Path& memo_folder, const Path& path,
                            const std::vector<SourceFile>& files,
                            const std::function<std::string()>& compute);
// XXH3-128 (hex) of a tensor's bytes, read in pieces whose pages are given back.
std::string tensor_digest(const TensorSource& source, const TensorView& view,
                          const StopToken& stop = {});

class Checkpoint : public ModelSource {
 public:
  // Maps the files and checks their headers; reads no tensor. An index may name tensors that no
  // shard has and leave shards unnamed: notes() tells. Throws not_found (no such folder, no
  // config.json, a missing shard), unsupported (weights in another format, by name) or `failed`
  // (damage).
  static std::shared_ptr<const Checkpoint> open(const Path& folder);

  std::optional<TensorView> find(const std::string& name) const override;
  std::optional<PartSpec> describe(const std::string& name) const override;
  std::vector<std::string> names() const override;  // sorted
  void release(const TensorView& view) const override;
  void prefetch(const TensorView& view) const override;

  // The same with one of its tensors under another name, which notes() tells.
  std::shared_ptr<const Checkpoint> renamed(const std::string& tensor, const std::string& name,
                                            const std::string& note) const;

  const Path& folder() const { return folder_; }
  const Json& config() const { return config_; }
  int64_t weight_bytes() const override;
  std::vector<StoredTensor> stored_tensors() const override;
  std::vector<std::string> notes() const override { return notes_; }
  const std::vector<std::shared_ptr<const TensorFile>>& files() const { return files_; }

  // XXH3-128 (hex) of what the model is: config.json's meaning and every tensor's name, type, shape
  // and bytes. Independent of sharding, file names, path and header order. Reads everything; with a
  // memo folder the answer is kept there and reused while the files are provably the same (size,
  // inode and times unchanged, and last changed well before the memo was written).
  std::string content_hash(const Path& memo_folder = {},
                           const Context& context = {}) const override;

 private:
  std::string compute_hash(const Context& context) const;
  void add_file(const std::string& name, const WeightNames& names);
  void note_stale_entries(const std::map<std::string, std::string>& listed,
                          const WeightNames& names);
  void note_extra_shards(const std::set<std::string>& shards, const WeightNames& names);

  Path folder_;
  Json config_;
  std::vector<SourceFile> source_files_;  // looked at before they were opened
  std::vector<std::shared_ptr<const TensorFile>> files_;
  std::map<std::string, std::pair<size_t, size_t>> index_;  // tensor -> file, entry
  std::vector<std::string> notes_;
};

// "a tensor (x)", "5 tensors (x, y, z, ...)".
std::string named_tensors(const std::vector<std::string>& names);

// Files beside the weights that an artifact and every converted folder take over unchanged
// (tokenizer, chat templates, also those of additional_chat_templates/, generation settings,
// licences), sorted names.
std::vector<std::string> companion_files(const Path& folder);
// Those of them that are about rights: LICENSE, NOTICE, USE_POLICY and the like.
std::vector<std::string> legal_files(const Path& folder);
// Turns a folder that this reader cannot open into the clearest error about what is there instead.
[[noreturn]] void refuse_folder(const Path& folder);

}  // namespace qwb
