// safetensors files: a strict reader over a mapped file and a streaming writer. Byte-exact page:
// formats/safetensors/safetensors.md.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib/base/file.h"
#include "lib/codec/weight.h"
#include "lib/tensor/tensor.h"

namespace qwb {

// Bytes of a header: the reference's cap, for readers and writers.
inline constexpr int64_t kMaxSafetensorsHeader = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  int64_t begin = 0;  // bytes [begin, end) of the data buffer
  int64_t end = 0;
};

struct SafetensorsHeader {
  int64_t data_begin = 0;                       // byte of the file at which the data buffer starts
  std::vector<SafetensorsEntry> tensors;        // in the order of their bytes
  std::map<std::string, std::string> metadata;  // "__metadata__"
};

// Checks every rule of the page on `file` (the bytes of the whole file); never reads outside of it.
// Throws `failed` for a damaged file, `unsupported` for an element type that this project cannot
// hold; both name `where`.
SafetensorsHeader parse_safetensors_header(Bytes file, const std::string& where);

// A mapped file with its checked header. Copies share it.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const Path& path);

  const SafetensorsHeader& header() const { return content_->header; }
  const MappedFile& mapped() const { return content_->file; }
  // The view lives as long as any copy of this object.
  std::optional<TensorView> find(const std::string& name) const;
  TensorView view(const SafetensorsEntry& entry) const;

 private:
  struct Content {
    MappedFile file;
    SafetensorsHeader header;
    std::unordered_map<std::string, size_t> index;  // name -> place in header.tensors
  };
  std::shared_ptr<const Content> content_;
};

// Writes one file whose tensors are all declared up front. Memory: the header and the caller's
// pieces. Not finished: the file is removed.
class SafetensorsWriter {
 public:
  // Creates `path` (it must not exist) and reserves its full size on disk. {"format": "pt"} is
  // added to `metadata`. Throws usage for duplicate or reserved names.
  SafetensorsWriter(const Path& path, const std::vector<PartSpec>& tensors,
                    std::map<std::string, std::string> metadata = {});
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // The whole tensor, or the bytes from `offset` inside it; any order, any thread. Every byte
  // exactly once, else usage.
  void put(const std::string& name, Bytes content);
  void put_part(const std::string& name, int64_t offset, Bytes content);
  // Flushes to the disk. Throws usage, naming a tensor, if a byte was not written.
  void finish();
  int64_t file_size() const { return file_size_; }

 private:
  struct Slot {
    int64_t begin = 0;  // in the file
    int64_t size = 0;
    std::map<int64_t, int64_t> written;  // disjoint, not touching: begin -> end
  };
  Slot& declared(const std::string& name);
  void claim(const std::string& name, Slot& slot, int64_t begin, int64_t end);

  Path path_;
  OutputFile file_;
  int64_t file_size_ = 0;
  bool finished_ = false;
  std::mutex mutex_;
  std::unordered_map<std::string, Slot> slots_;
};

}  // namespace qwb
