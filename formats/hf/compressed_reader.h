// The reading half of compressed_tensors.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/hf/packed_format.h"
#include "formats/hf/packing.h"

namespace qwb {

// Every module has a tensor of this ending.
inline constexpr std::string_view kCompressedScale = ".weight_scale";

inline constexpr char kCompressedWhere[] = "quantization_config (compressed-tensors)";

// One group of the config: which modules it means, and how they are stored.
struct CompressedScheme {
  std::string group;
  std::vector<std::string> targets;
  bool floats = false;  // read by compressed_floats.h
  int64_t bits = 8;
  bool symmetric = true;
  std::string strategy;    // "tensor", "channel", "group", "block", of floats "tensor_group";
                           // empty: group_size tells
  int64_t group_size = 0;  // 0: none told
  int64_t block_rows = 0, block_columns = 0;
};

struct CompressedSettings {
  std::vector<CompressedScheme> schemes;
  std::vector<std::string> ignored;
  bool quantizes_activations = false;

  bool ignores(const std::string& module) const;
  // The scheme of a module: exact names come before patterns ("re:..."), these before classes
  // ("Linear"). Throws `failed` if there is none.
  const CompressedScheme& scheme(const std::string& module) const;
};

// Throws unsupported for formats and grids that this build does not read, and for what would
// change the results beside the weights (transforms, a quantized KV cache, sparsity); `failed` for
// settings that say nothing.
CompressedSettings compressed_settings(const Json& settings);

// One module: its tensors, found and checked against each other. Throws `failed`, naming the
// module.
class CompressedReader {
 public:
  CompressedReader(const Checkpoint& files, const CompressedSettings& settings, std::string name,
                   Context context);

  PackedModule module() const;
  LoadedWeight read() const;

 private:
  WeightLayout layout() const;
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
  const CompressedScheme& scheme_;
  std::string name_;
  Context context_;
  bool packed_ = false, straddling_ = true, scattered_ = false;
  int64_t out_ = 0, in_ = 0, groups_ = 0, group_size_ = 0;
  int bits_ = 0;
  TensorView codes_, scales_, index_;
  CodeMatrix zeros_;  // [out, groups]; empty: symmetric
};

}  // namespace qwb
