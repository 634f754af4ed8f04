#include "formats/compressed_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "lib/base/parallel.h"

namespace qwb {
namespace {

constexpr std::string_view kPacked = ".weight_packed";
constexpr uint64_t kLargestBlock = uint64_t{1} << 31;

[[noreturn]] void damaged_ct(const std::string& what, const std::string& module) {
  throw Error(ErrorKind::failed, what, "compressed-tensors module '" + module + "'",
              "the checkpoint is damaged");
}

void add_scheme(const Json& weights, CompressedSettings& settings) {
  const std::string where = "compressed-tensors weights";
  if (json_string(weights, "type", where, "int") != "int") {
    throw Error(ErrorKind::unsupported, "weights of type '" + json_string(weights, "type", where) + "'",
                where, "integers are read");
  }
  const int64_t bits = json_int(weights, "num_bits", where, 8);
  if (bits < 2 || bits > 8) throw Error(ErrorKind::unsupported, fmt::format("{} bits", bits), where);
  settings.bits.push_back(bits);
  if (json_has(weights, "group_size")) settings.group_sizes.push_back(json_int(weights, "group_size", where));
  if (json_has(weights, "block_structure")) {
    const Json& block = weights.at("block_structure");
    const auto is_size = [](const Json& size) {
      return size.is_number_unsigned() && size.get<uint64_t>() >= 1 && size.get<uint64_t>() <= kLargestBlock;
    };
    if (!block.is_array() || block.size() != 2 || !is_size(block[0]) || !is_size(block[1]))
      throw Error(ErrorKind::failed, "block_structure must be two sizes", where);
    settings.block_rows = block[0].get<int64_t>();
    settings.block_columns = block[1].get<int64_t>();
  }
}

}  // namespace

CompressedSettings compressed_settings(const Json& settings) {
  const std::string where = "compressed-tensors settings";
  static constexpr std::array<std::string_view, 4> kRead = {"pack-quantized", "int-quantized",
                                                            "naive-quantized", "mixed-precision"};
  const std::string format = json_string(settings, "format", where, "pack-quantized");
  if (std::find(kRead.begin(), kRead.end(), format) == kRead.end()) {
    throw Error(ErrorKind::unsupported, "compressed-tensors format '" + format.substr(0, 40) + "'", where,
                "pack-quantized, int-quantized and naive-quantized are read");
  }
  CompressedSettings result;
  if (!json_has(settings, "config_groups") || !settings.at("config_groups").is_object())
    throw Error(ErrorKind::failed, "no config_groups", where);
  for (const auto& [name, group] : settings.at("config_groups").items()) {
    if (group.is_object() && json_has(group, "weights")) add_scheme(group.at("weights"), result);
  }
  if (result.bits.empty()) throw Error(ErrorKind::unsupported, "no group with weights", where);
  return result;
}

CompressedReader::CompressedReader(const Checkpoint& files, const CompressedSettings& settings,
                                   std::string name)
    : files_(files), settings_(settings), name_(std::move(name)) {
  packed_ = files.find(name_ + std::string(kPacked)).has_value();
  packed_ ? find_packed() : find_bytes();
  find_scales();
  find_zeros();
  const auto index = files.find(name_ + ".weight_g_idx");
  if (!index) return;
  index_ = packed_tensor(files, name_ + ".weight_g_idx", DType::i32, Shape{in_});
  // Filled with -1 where the order was never set.
  const bool unset = load<int32_t>(index_.bytes.data()) == -1;
  scattered_ = !unset && !is_plain_group_index(index_, group_size_);
}

PackedModule CompressedReader::module() const {
  PackedModule module{name_, {out_, in_, Orientation::out_in, "integer-grid", parameters(), {}}, {}};
  module.form.parts =
      integer_grid_parts(out_, in_, bits_, group_size_, zeros_.codes.empty(), scales_.dtype, scattered_);
  for (const char* part : {".weight_packed", ".weight_shape", ".weight_scale", ".weight_zero_point",
                           ".weight_g_idx", ".input_scale", ".input_zero_point"}) {
    if (files_.find(name_ + part)) module.tensors.push_back(name_ + part);
  }
  if (!packed_) module.tensors.push_back(name_ + ".weight");
  return module;
}

LoadedWeight CompressedReader::read() const {
  LoadedWeight result;
  std::map<std::string, TensorView> parts;
  const auto own = [&](const char* part, Tensor tensor) {
    result.owned.push_back(std::move(tensor));
    parts[part] = result.owned.back().view();
  };
  const int64_t row = packed_bytes(in_, bits_);
  if (packed_ && codes_.shape[1] * 4 == row) {
    parts["codes"] = {DType::u8, {out_, row}, codes_.bytes};  // as they lie
  } else {
    own("codes", packed_ ? repacked() : packed_bytes_of());
  }
  if (scales_.shape == Shape{out_, groups_}) {
    parts["scales"] = scales_;
  } else {
    own("scales", spread_scales());
  }
  if (!zeros_.codes.empty()) own("zeros", pack_rows(zeros_, bits_));
  if (scattered_) parts["group_index"] = index_;
  result.weight =
      weight_from_parts(out_, in_, Orientation::out_in, "integer-grid", parameters(), parts, name_);
  return result;
}

std::map<std::string, double> CompressedReader::parameters() const {
  return {{"bits", bits_}, {"group_size", static_cast<double>(group_size_)}};
}

int64_t CompressedReader::old_width(int64_t bits) const {
  return ceil_div(in_, 32 / bits);
}

void CompressedReader::find_packed() {
  codes_ = packed_tensor_of(files_, name_ + ".weight_packed", DType::i32, 2);
  const TensorView shape = packed_tensor(files_, name_ + ".weight_shape", DType::i64, Shape{2});
  out_ = load<int64_t>(shape.bytes.data());
  in_ = load<int64_t>(shape.bytes.data() + 8);
  if (in_ < 1 || in_ > int64_t{1} << 31 || out_ != codes_.shape[0])
    damaged_ct("weight_shape does not fit weight_packed", name_);
  for (const int64_t bits : settings_.bits) {
    const bool dense = ceil_div(in_ * bits, 32) == codes_.shape[1];
    if (!dense && old_width(bits) != codes_.shape[1]) continue;
    bits_ = static_cast<int>(bits);
    straddling_ = dense;
    return;
  }
  damaged_ct("weight_packed has another width than its shape and the config's bits give", name_);
}

void CompressedReader::find_bytes() {
  codes_ = packed_tensor_of(files_, name_ + ".weight", DType::i8, 2);
  out_ = codes_.shape[0];
  in_ = codes_.shape[1];
  bits_ = static_cast<int>(*std::max_element(settings_.bits.begin(), settings_.bits.end()));
}

void CompressedReader::find_scales() {
  const auto scale = files_.find(name_ + std::string(kCompressedScale));
  if (!scale || scale->empty()) damaged_ct("weight_scale is missing", name_);
  scales_ = packed_scales(files_, name_ + std::string(kCompressedScale), scale->shape);
  const Shape& shape = scale->shape;
  if (scale->count() == 1) {
    groups_ = 1;
  } else if (shape.size() == 1 && shape[0] == out_) {
    groups_ = 1;
    scales_.shape = {out_, 1};
  } else if (shape.size() == 2 && (shape[0] == out_ || is_blocked(shape))) {
    groups_ = shape[1];
  } else {
    damaged_ct("weight_scale has the shape " + shape_text(shape), name_);
  }
  group_size_ = groups_ == 1 ? in_ : 0;
  std::vector<int64_t> sizes = settings_.group_sizes;
  if (settings_.block_columns > 0) sizes.push_back(settings_.block_columns);
  // Of several sizes in the config that give this number of groups the one that divides the row.
  std::stable_partition(sizes.begin(), sizes.end(),
                        [&](int64_t size) { return size > 0 && in_ % size == 0; });
  sizes.push_back(ceil_div(in_, groups_));
  for (const int64_t size : sizes) {
    if (group_size_ == 0 && size > 0 && size <= in_ && ceil_div(in_, size) == groups_) group_size_ = size;
  }
  if (group_size_ == 0) damaged_ct(fmt::format("{} groups do not cover {} inputs", groups_, in_), name_);
}

bool CompressedReader::is_blocked(const Shape& shape) const {
  return settings_.block_rows > 0 && settings_.block_columns > 0 &&
         shape[0] == ceil_div(out_, settings_.block_rows) &&
         shape[1] == ceil_div(in_, settings_.block_columns);
}

int64_t CompressedReader::scale_row(int64_t o) const {
  if (scales_.count() == 1) return 0;
  return scales_.shape[0] == out_ ? o : o / settings_.block_rows;
}

void CompressedReader::find_zeros() {
  const std::string name = name_ + ".weight_zero_point";
  const auto stored = files_.find(name);
  if (!stored) return;
  const int middle = 1 << (bits_ - 1);
  CodeMatrix zeros(out_, groups_);
  if (stored->dtype == DType::i32) {
    const TensorView words = packed_tensor(files_, name, DType::i32, Shape{zero_words(), groups_});
    zeros = unpack_zeros(words);
  } else {
    const TensorView bytes = packed_tensor(files_, name, DType::i8, stored->shape);
    if (bytes.count() != scales_.count())
      damaged_ct("weight_zero_point and weight_scale differ in shape", name_);
    for (int64_t o = 0; o < out_; ++o) {
      for (int64_t g = 0; g < groups_; ++g) {
        const int zero =
            static_cast<int8_t>(bytes.bytes[static_cast<size_t>(scale_row(o) * groups_ + g)]) + middle;
        if (zero < 0 || zero >= 2 * middle) damaged_ct("a zero point is out of range", name_);
        zeros.at(o, g) = static_cast<uint8_t>(zero);
      }
    }
  }
  if (!zeros.all(static_cast<uint8_t>(middle))) zeros_ = std::move(zeros);
}

int64_t CompressedReader::zero_words() const {
  return straddling_ ? ceil_div(out_ * bits_, 32) : ceil_div(out_, 32 / bits_);
}

CodeMatrix CompressedReader::unpack_zeros(const TensorView& words) const {
  const Tensor rows = transposed(words);  // [groups, words]
  const CodeMatrix codes =
      straddling_ ? unpack_words(rows.view(), out_, bits_) : unpack_old(rows.view(), out_);
  return codes.transpose();
}

CodeMatrix CompressedReader::unpack_old(const TensorView& words, int64_t columns) const {
  CodeMatrix codes(words.shape[0], columns);
  const int64_t per_word = 32 / bits_;
  for (int64_t r = 0; r < codes.rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const auto word = load<uint32_t>(words.bytes.data() + 4 * (r * words.shape[1] + c / per_word));
      codes.at(r, c) = static_cast<uint8_t>(word >> (c % per_word * bits_) & ((1u << bits_) - 1));
    }
  }
  return codes;
}

Tensor CompressedReader::repacked() const {
  return pack_rows(straddling_ ? unpack_words(codes_, in_, bits_) : unpack_old(codes_, in_), bits_);
}

// Signed bytes become unsigned codes of as many bits as the config says.
Tensor CompressedReader::packed_bytes_of() const {
  const int64_t row = packed_bytes(in_, bits_);
  const int middle = 1 << (bits_ - 1);
  Tensor codes(DType::u8, {out_, row});
  parallel_ranges(out_, 16, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> line(static_cast<size_t>(in_));
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t i = 0; i < in_; ++i) {
        const int code = static_cast<int8_t>(codes_.bytes[static_cast<size_t>(o * in_ + i)]) + middle;
        if (code < 0 || code >= 2 * middle) damaged_ct("a code is out of range", name_);
        line[static_cast<size_t>(i)] = static_cast<uint8_t>(code);
      }
      pack_codes(line.data(), in_, bits_, codes.bytes().data() + o * row);
    }
  });
  return codes;
}

Tensor CompressedReader::spread_scales() const {
  Tensor scales(scales_.dtype, {out_, groups_});
  const int64_t row = groups_ * dtype_size(scales_.dtype);
  for (int64_t o = 0; o < out_; ++o)
    std::memcpy(scales.bytes().data() + o * row, scales_.bytes.data() + scale_row(o) * row,
                static_cast<size_t>(row));
  return scales;
}

}  // namespace qwb
