#include "formats/safetensors/sharded_writer.h"

#include <fmt/format.h>

#include "formats/hf/checkpoint.h"
#include "lib/base/parallel.h"

namespace qwb {
namespace {

constexpr int64_t kCopiedPiece = int64_t{8} << 20;  // of tensors that are copied

}  // namespace

void write_file(const Path& path, const std::string& text) {
  OutputFile file = OutputFile::create(path, static_cast<int64_t>(text.size()));
  file.write(0, as_bytes(text));
  file.finish();
}

ShardedWriter::ShardedWriter(const Path& folder, std::vector<PartSpec> tensors,
                             int64_t max_shard_bytes)
    : folder_(folder) {
  std::vector<std::vector<PartSpec>> shards(1);
  int64_t filled = 0;
  for (PartSpec& spec : tensors) {
    const int64_t bytes = part_bytes(spec);
    if (filled > 0 && filled > max_shard_bytes - bytes) {
      shards.emplace_back();
      filled = 0;
    }
    filled += bytes;
    tensor_bytes_ = checked_add(tensor_bytes_, bytes, folder.string());
    if (!shard_of_.emplace(spec.name, shards.size() - 1).second)
      throw Error(ErrorKind::usage, "two tensors would be called '" + spec.name + "'",
                  folder.string());
    shards.back().push_back(std::move(spec));
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file =
        shards.size() == 1 ? "model.safetensors"
                           : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    shards_.push_back({file, std::make_unique<SafetensorsWriter>(folder / file, shards[i])});
  }
}

void ShardedWriter::put(const std::string& name, Bytes content) {
  shards_[shard_of_.at(name)].writer->put(name, content);
}

void ShardedWriter::put_part(const std::string& name, int64_t offset, Bytes content) {
  shards_[shard_of_.at(name)].writer->put_part(name, offset, content);
}

void ShardedWriter::copy(const std::string& name, const TensorSource& source,
                         const std::function<void(const TensorView& piece)>& check,
                         const Context& context) {
  const TensorView view = *source.find(name);
  const int64_t size = dtype_size(view.dtype);
  parallel_ranges(context, view.count(), kCopiedPiece / size, [&](int64_t begin, int64_t end) {
    const TensorView piece = {view.dtype,
                              {end - begin},
                              view.bytes.subspan(static_cast<size_t>(begin * size),
                                                 static_cast<size_t>((end - begin) * size))};
    check(piece);
    put_part(name, begin * size, piece.bytes);
    source.release(piece);
  });
}

void ShardedWriter::finish() {
  for (Shard& shard : shards_) shard.writer->finish();
  if (shards_.size() == 1) return;
  nlohmann::json map = nlohmann::json::object();  // sorted: an ordered object would search linearly
                                                  // at every insertion
  for (const auto& [tensor, shard] : shard_of_) map[tensor] = shards_[shard].file;
  const nlohmann::json index = {{"metadata", {{"total_size", tensor_bytes_}}}, {"weight_map", map}};
  write_file(folder_ / "model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace qwb
