// The tensors of a model folder: one model.safetensors, or shards with their index (names and
// layout: formats/safetensors/safetensors.md).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/safetensors/safetensors.h"
#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/codec/source.h"
#include "lib/codec/weight.h"

namespace qwb {

// Writes a whole file in a folder that nobody sees yet.
void write_file(const Path& path, const std::string& text);

class ShardedWriter {
 public:
  // Creates the files in `folder` and reserves their bytes. Tensors lie in the order given, shards
  // hold at most max_shard_bytes (or one tensor). Throws usage for a name that appears twice.
  ShardedWriter(const Path& folder, std::vector<PartSpec> tensors, int64_t max_shard_bytes);

  // As SafetensorsWriter's: any order, any thread, every byte exactly once.
  void put(const std::string& name, Bytes content);
  void put_part(const std::string& name, int64_t offset, Bytes content);
  // Stores the source's tensor of that name in pieces whose pages are given back; `check` sees each
  // piece first, on several threads.
  void copy(const std::string& name, const TensorSource& source,
            const std::function<void(const TensorView& piece)>& check, const Context& context = {});
  // Flushes, and writes the index if there are several files.
  void finish();

  int64_t tensor_bytes() const { return tensor_bytes_; }
  size_t files() const { return shards_.size(); }

 private:
  struct Shard {
    std::string file;
    std::unique_ptr<SafetensorsWriter> writer;
  };
  Path folder_;
  std::vector<Shard> shards_;
  std::map<std::string, size_t> shard_of_;  // tensor -> shard
  int64_t tensor_bytes_ = 0;
};

}  // namespace qwb
