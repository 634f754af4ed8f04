// GGUF files: a strict reader over mapped files (splits included) and a streaming writer.
// Byte-exact page: formats/gguf/gguf.md.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/base/file.h"
#include "lib/codec/ggml_type.h"
#include "lib/tensor/tensor.h"

namespace qwb {

// The numbers that files carry.
enum class GgufKind : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

// Bytes of a number or boolean of this kind; 0 for strings and arrays.
int64_t gguf_size(GgufKind kind);

// A value of the metadata. Arrays hold numbers, booleans or strings, never arrays (ggml refuses
// those too).
struct GgufValue {
  GgufKind kind = GgufKind::u32;  // of an array: that of its elements
  bool is_array = false;
  std::string data;                  // numbers as little-endian bytes, a string's text
  std::vector<std::string> strings;  // of an array of strings

  int64_t count() const;
  // Element `index` (0 of a scalar, in range). Throw `failed`, naming `where`, for another kind of
  // value or one beyond int64.
  int64_t integer(const std::string& where,
                  int64_t index = 0) const;  // of any integer kind, or boolean
  double number(const std::string& where, int64_t index = 0) const;  // of any number
  const std::string& text(const std::string& where) const;

  static GgufValue of_u32(int64_t value);
  static GgufValue of_f32(double value);
  static GgufValue of_bool(bool value);
  static GgufValue of_string(std::string value);
  static GgufValue of_strings(std::vector<std::string> values);
  static GgufValue of_floats(const std::vector<float>& values);
  static GgufValue of_i32s(const std::vector<int32_t>& values);
};

// Keys and values in the order of the file; keys are unique.
class GgufMetadata {
 public:
  // False if the key is there already.
  bool add(const std::string& key, GgufValue value);
  const GgufValue* find(const std::string& key) const;
  const std::vector<std::pair<std::string, GgufValue>>& entries() const { return entries_; }

  // Required and optional values of a key; throw `failed` naming `where` and the key.
  int64_t integer(const std::string& key, const std::string& where) const;
  int64_t integer(const std::string& key, const std::string& where, int64_t fallback) const;
  double number(const std::string& key, const std::string& where) const;
  double number(const std::string& key, const std::string& where, double fallback) const;
  std::string text(const std::string& key, const std::string& where) const;
  std::string text(const std::string& key, const std::string& where,
                   const std::string& fallback) const;

 private:
  std::vector<std::pair<std::string, GgufValue>> entries_;
  std::unordered_map<std::string, size_t> index_;
};

struct GgufTensor {
  std::string name;
  Shape shape;  // as everywhere here: the last dimension is the length of a row
  GgmlType type = GgmlType::f32;
  int64_t begin = 0;  // from the start of the data
  int64_t bytes = 0;
};

struct GgufHeader {
  int64_t version = 3;
  int64_t alignment = 32;
  int64_t data_begin = 0;
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;  // in the order of their bytes
};

// Checks every rule of the page on `file` (the bytes of the whole file); never reads outside of it,
// and takes no more memory than a few times its size. Throws `failed` for damage, unsupported for
// versions and element types that this build cannot hold; both name `where`.
GgufHeader parse_gguf_header(Bytes file, const std::string& where);

// A model's file, or all its splits, mapped. Copies share it.
class GgufFile {
 public:
  // `path` may be any of the splits NAME-00001-of-0000N.gguf. Throws not_found for a missing one.
  static GgufFile open(const Path& path);

  // Of the first split.
  const GgufMetadata& metadata() const { return content_->parts.front().header.metadata; }
  const std::vector<Path>& paths() const { return content_->paths; }
  std::vector<std::string> tensor_names() const;  // in the order of the files
  const GgufTensor* find(const std::string& name) const;
  Bytes bytes(const GgufTensor& tensor) const;
  const Path& path_of(const GgufTensor& tensor) const;
  const MappedFile& mapped() const { return content_->parts.front().file; }
  int64_t file_bytes() const;

 private:
  struct Part {
    MappedFile file;
    GgufHeader header;
  };
  struct Content {
    std::vector<Path> paths;
    std::vector<Part> parts;
    std::unordered_map<std::string, std::pair<size_t, size_t>> index;  // name -> part, place in it
  };
  void add(const Path& path, Content& content) const;
  std::shared_ptr<const Content> content_;
};

// The .gguf file of a model in this folder: the only one, or the first split of the only set.
// Nothing if there is none; throws usage, naming them, if there are several models. Projectors
// ("mmproj...") do not count.
std::optional<Path> gguf_in_folder(const Path& folder);
// Whether the file begins as a GGUF does, or its name says so.
bool is_gguf_file(const Path& path);

// Writes one file whose metadata and tensors are all declared up front. Memory: the header and the
// caller's pieces. Not finished: the file is removed.
class GgufWriter {
 public:
  // Creates `path` (it must not exist) and reserves its full size on disk. begin and bytes of the
  // tensors are set here. Throws usage for names that GGUF cannot hold and rows that are not whole
  // blocks.
  GgufWriter(const Path& path, const GgufMetadata& metadata, std::vector<GgufTensor> tensors,
             int64_t alignment = 32);
  ~GgufWriter();
  GgufWriter(const GgufWriter&) = delete;
  GgufWriter& operator=(const GgufWriter&) = delete;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  int64_t file_size() const { return file_size_; }
  // Bytes from `offset` inside tensor number `index`; any order, any thread, every byte once.
  void put(size_t index, int64_t offset, Bytes content);
  // Flushes to the disk. Throws usage, naming a tensor, if not every byte was written.
  void finish();

 private:
  Path path_;
  OutputFile file_;
  std::vector<GgufTensor> tensors_;
  std::unique_ptr<std::atomic<int64_t>[]> written_;
  int64_t data_begin_ = 0;
  int64_t file_size_ = 0;
  bool finished_ = false;
};

}  // namespace qwb
