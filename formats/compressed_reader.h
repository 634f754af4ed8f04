// The reading half of compressed_tensors.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/packed_format.h"
#include "formats/packing.h"

namespace qwb {

// Every module has a tensor of this ending.
inline constexpr std::string_view kCompressedScale = ".weight_scale";

// The bits of a module come from the config's groups. Names are not matched against their patterns: the
// shapes tell which of the bits that occur it can be, and the group size is inputs over scales.
struct CompressedSettings {
  std::vector<int64_t> bits;
  std::vector<int64_t> group_sizes;
  int64_t block_rows = 0, block_columns = 0;
};

// Throws unsupported for other formats and types than integers, `failed` for settings that say nothing.
CompressedSettings compressed_settings(const Json& settings);

// One module: its tensors, found and checked against each other. Throws `failed`, naming the module.
class CompressedReader {
 public:
  CompressedReader(const Checkpoint& files, const CompressedSettings& settings, std::string name);

  PackedModule module() const;
  LoadedWeight read() const;

 private:
  std::map<std::string, double> parameters() const;
  void find_packed();
  void find_bytes();
  void find_scales();
  void find_zeros();
  // The width of a row where no value straddles two words, as older versions pack.
  int64_t old_width(int64_t bits) const;
  bool is_blocked(const Shape& shape) const;
  // The row of weight_scale that belongs to an output channel.
  int64_t scale_row(int64_t o) const;
  int64_t zero_words() const;
  CodeMatrix unpack_zeros(const TensorView& words) const;
  CodeMatrix unpack_old(const TensorView& words, int64_t columns) const;
  Tensor repacked() const;
  Tensor packed_bytes_of() const;
  Tensor spread_scales() const;

  const Checkpoint& files_;
  const CompressedSettings& settings_;
  std::string name_;
  bool packed_ = false, straddling_ = true, scattered_ = false;
  int64_t out_ = 0, in_ = 0, groups_ = 0, group_size_ = 0;
  int bits_ = 0;
  TensorView codes_, scales_, index_;
  CodeMatrix zeros_;  // [out, groups]; empty: symmetric
};

}  // namespace qwb
