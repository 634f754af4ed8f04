#include "formats/compressed_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "formats/packing.h"
#include "lib/base/parallel.h"

namespace qwb {
namespace {

constexpr std::string_view kPacked = ".weight_packed";
constexpr std::string_view kScale = ".weight_scale";

[[noreturn]] void damaged_ct(const std::string& what, const std::string& module) {
  throw Error(ErrorKind::failed, what, "compressed-tensors module '" + module + "'",
              "the checkpoint is damaged");
}

// The bits of a module come from the config's groups. Names are not matched against their patterns: the
// shapes tell which of the bits that occur it can be, and the group size is inputs over scales.
struct CompressedSettings {
  std::vector<int64_t> bits;
  std::vector<int64_t> group_sizes;
  int64_t block_rows = 0, block_columns = 0;
};

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
    if (!block.is_array() || block.size() != 2 || !block[0].is_number_unsigned() ||
        !block[1].is_number_unsigned())
      throw Error(ErrorKind::failed, "block_structure must be two sizes", where);
    settings.block_rows = static_cast<int64_t>(block[0].get<uint64_t>());
    settings.block_columns = static_cast<int64_t>(block[1].get<uint64_t>());
  }
}

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

class CompressedReader {
 public:
  CompressedReader(const Checkpoint& files, const CompressedSettings& settings, std::string name)
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

  PackedModule module() const {
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

  LoadedWeight read() const {
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

 private:
  std::map<std::string, double> parameters() const {
    return {{"bits", bits_}, {"group_size", static_cast<double>(group_size_)}};
  }
  // Older versions let no value straddle two words.
  int64_t old_width(int64_t bits) const { return ceil_div(in_, 32 / bits); }
  void find_packed() {
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
  void find_bytes() {
    codes_ = packed_tensor_of(files_, name_ + ".weight", DType::i8, 2);
    out_ = codes_.shape[0];
    in_ = codes_.shape[1];
    bits_ = static_cast<int>(*std::max_element(settings_.bits.begin(), settings_.bits.end()));
  }
  void find_scales() {
    const auto scale = files_.find(name_ + std::string(kScale));
    if (!scale || scale->empty()) damaged_ct("weight_scale is missing", name_);
    scales_ = packed_scales(files_, name_ + std::string(kScale), scale->shape);
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
    sizes.push_back(ceil_div(in_, groups_));
    for (const int64_t size : sizes) {
      if (group_size_ == 0 && size > 0 && size <= in_ && ceil_div(in_, size) == groups_) group_size_ = size;
    }
    if (group_size_ == 0) damaged_ct(fmt::format("{} groups do not cover {} inputs", groups_, in_), name_);
  }
  bool is_blocked(const Shape& shape) const {
    return settings_.block_rows > 0 && settings_.block_columns > 0 &&
           shape[0] == ceil_div(out_, settings_.block_rows) &&
           shape[1] == ceil_div(in_, settings_.block_columns);
  }
  // The row of weight_scale that belongs to an output channel.
  int64_t scale_row(int64_t o) const {
    if (scales_.count() == 1) return 0;
    return scales_.shape[0] == out_ ? o : o / settings_.block_rows;
  }
  void find_zeros() {
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
  int64_t zero_words() const { return straddling_ ? ceil_div(out_ * bits_, 32) : ceil_div(out_, 32 / bits_); }
  CodeMatrix unpack_zeros(const TensorView& words) const {
    const Tensor rows = transposed(words);  // [groups, words]
    const CodeMatrix codes =
        straddling_ ? unpack_words(rows.view(), out_, bits_) : unpack_old(rows.view(), out_);
    return codes.transpose();
  }
  CodeMatrix unpack_old(const TensorView& words, int64_t columns) const {
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
  Tensor repacked() const {
    return pack_rows(straddling_ ? unpack_words(codes_, in_, bits_) : unpack_old(codes_, in_), bits_);
  }
  // Signed bytes become unsigned codes of as many bits as the config says.
  Tensor packed_bytes_of() const {
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
  Tensor spread_scales() const {
    Tensor scales(scales_.dtype, {out_, groups_});
    const int64_t row = groups_ * dtype_size(scales_.dtype);
    for (int64_t o = 0; o < out_; ++o)
      std::memcpy(scales.bytes().data() + o * row, scales_.bytes.data() + scale_row(o) * row,
                  static_cast<size_t>(row));
    return scales;
  }

  const Checkpoint& files_;
  const CompressedSettings& settings_;
  std::string name_;
  bool packed_ = false, straddling_ = true, scattered_ = false;
  int64_t out_ = 0, in_ = 0, groups_ = 0, group_size_ = 0;
  int bits_ = 0;
  TensorView codes_, scales_, index_;
  CodeMatrix zeros_;  // [out, groups]; empty: symmetric
};

class CompressedTensors : public PackedFormat {
 public:
  explicit CompressedTensors(CompressedLayout layout) : layout_(layout) {}
  bool packed() const { return layout_ == CompressedLayout::packed; }
  std::string name() const override { return packed() ? "compressed-tensors" : "compressed-tensors-int"; }
  std::string summary() const override {
    return packed() ? "compressed-tensors, pack-quantized: 2 to 8 bits"
                    : "compressed-tensors, int-quantized: a signed byte for each code";
  }
  bool matches(const Json& settings) const override {
    return packed() && json_string(settings, "quant_method", "settings", "") == "compressed-tensors";
  }
  std::vector<PackedModule> modules(const Checkpoint& files, const Json& settings) const override {
    const CompressedSettings known = compressed_settings(settings);
    std::vector<PackedModule> result;
    for (const std::string& tensor : files.names()) {
      if (!tensor.ends_with(kScale)) continue;
      const std::string module_name = tensor.substr(0, tensor.size() - kScale.size());
      result.push_back(CompressedReader(files, known, module_name).module());
    }
    return result;
  }
  LoadedWeight read(const Checkpoint& files, const Json& settings,
                    const PackedModule& module) const override {
    const CompressedSettings known = compressed_settings(settings);
    return CompressedReader(files, known, module.name).read();
  }

  std::optional<std::string> mismatch(const TargetModule& module) const override;
  std::vector<PartSpec> layout(const TargetModule& module) const override;
  PackedTensors write(const TargetModule& module, const Weight& weight, const Json& settings) const override;
  Json quantization_config(const std::vector<TargetModule>& modules,
                           const std::vector<TargetModule>& plain) const override;

 private:
  CompressedLayout layout_;
};

int compressed_bits(const WeightForm& form) {
  return static_cast<int>(form.parameters.at("bits"));
}

std::optional<std::string> CompressedTensors::mismatch(const TargetModule& module) const {
  const WeightForm& form = module.form;
  if (form.codec != "integer-grid") return "is stored as " + form.codec + ", not on an integer grid";
  if (module.role == TargetModule::Role::embedding)
    return std::string("is the token embedding, which stays unquantized here");
  if (form.has("group_index"))
    return std::string(
        "has groups that are not runs of columns, which compressed-tensors 0.20 no longer loads");
  const auto group = static_cast<int64_t>(form.parameters.at("group_size"));
  if (form.in % group != 0)
    return fmt::format("has groups of {}, which do not divide its {} inputs", group, form.in);
  return std::nullopt;
}

std::vector<PartSpec> CompressedTensors::layout(const TargetModule& module) const {
  const WeightForm& form = module.form;
  const int bits = compressed_bits(form);
  const PartSpec& scales = form.part("scales");
  const int64_t groups = scales.shape.at(1);
  const std::string weight = module.name + ".weight";
  std::vector<PartSpec> parts = {{weight + "_scale", scales.dtype, scales.shape}};
  if (packed()) {
    parts.push_back({weight + "_packed", DType::i32, {form.out, ceil_div(form.in * bits, 32)}});
    parts.push_back({weight + "_shape", DType::i64, {2}});
    if (form.has("zeros"))
      parts.push_back({weight + "_zero_point", DType::i32, {ceil_div(form.out * bits, 32), groups}});
  } else {
    parts.push_back({weight, DType::i8, {form.out, form.in}});
    if (form.has("zeros")) parts.push_back({weight + "_zero_point", DType::i8, {form.out, groups}});
  }
  return parts;
}

// Unsigned codes of `bits` bits to signed bytes.
Tensor signed_bytes(const TensorView& rows, int64_t columns, int bits) {
  Tensor bytes(DType::i8, {rows.shape.at(0), columns});
  const int64_t stride = rows.shape.at(1);
  parallel_ranges(rows.shape[0], 16, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      auto* line = bytes.data<uint8_t>() + o * columns;
      unpack_codes(rows.bytes.data() + o * stride, columns, bits, line);
      for (int64_t i = 0; i < columns; ++i) line[i] = static_cast<uint8_t>(line[i] - (1 << (bits - 1)));
    }
  });
  return bytes;
}

PackedTensors CompressedTensors::write(const TargetModule& module, const Weight& weight,
                                       const Json& /*settings*/) const {
  const auto& grid = std::get<IntegerGrid>(weight.storage);
  const std::string name = module.name + ".weight";
  PackedTensors tensors;
  tensors.views[name + "_scale"] = grid.scales;
  if (!packed()) {
    tensors.add(name, signed_bytes(grid.codes, weight.in, grid.bits));
    if (!grid.zeros.empty())
      tensors.add(name + "_zero_point", signed_bytes(grid.zeros, grid.scales.shape[1], grid.bits));
    return tensors;
  }
  const int64_t row = grid.codes.shape[1], words = ceil_div(row, 4);
  if (row == 4 * words) {
    tensors.views[name + "_packed"] = grid.codes;
  } else {
    Tensor padded(DType::i32, {weight.out, words});
    std::byte* to = padded.bytes().data();
    std::fill(to, to + padded.bytes().size(), std::byte{0});
    for (int64_t o = 0; o < weight.out; ++o)
      std::memcpy(to + o * 4 * words, grid.codes.bytes.data() + o * row, static_cast<size_t>(row));
    tensors.add(name + "_packed", std::move(padded));
  }
  Tensor shape(DType::i64, {2});
  shape.data<int64_t>()[0] = weight.out;
  shape.data<int64_t>()[1] = weight.in;
  tensors.add(name + "_shape", std::move(shape));
  if (!grid.zeros.empty()) {
    const Tensor rows = pack_words(grid_zeros(grid, weight.out).transpose(), grid.bits);  // [groups, words]
    tensors.add(name + "_zero_point", transposed(rows.view()));
  }
  return tensors;
}

// Bits, group size (-1: the row) and symmetry: one config group each.
using CompressedKind = std::tuple<int, int64_t, bool>;

CompressedKind compressed_kind(const WeightForm& form) {
  const auto group = static_cast<int64_t>(form.parameters.at("group_size"));
  return {compressed_bits(form), group == form.in ? -1 : group, !form.has("zeros")};
}

Json CompressedTensors::quantization_config(const std::vector<TargetModule>& modules,
                                            const std::vector<TargetModule>& plain) const {
  std::map<CompressedKind, Json> targets;
  for (const TargetModule& module : modules) {
    Json& names = targets[compressed_kind(module.form)];
    if (names.is_null()) names = Json::array();
    names.push_back(module.name);
  }
  const std::string format = packed() ? "pack-quantized" : "int-quantized";
  Json groups = Json::object();
  for (const auto& [kind, names] : targets) {
    const auto& [bits, group, symmetric] = kind;
    Json weights = {{"num_bits", bits},
                    {"type", "int"},
                    {"symmetric", symmetric},
                    {"strategy", group == -1 ? "channel" : "group"},
                    {"group_size", group == -1 ? Json(nullptr) : Json(group)},
                    {"block_structure", nullptr},
                    {"dynamic", false},
                    {"actorder", nullptr},
                    {"observer", "minmax"},
                    {"observer_kwargs", Json::object()}};
    groups["group_" + std::to_string(groups.size())] = {
        {"targets", targets.size() == 1 ? Json::array({"Linear"}) : names},
        {"weights", weights},
        {"input_activations", nullptr},
        {"output_activations", nullptr},
        {"format", format}};
  }
  Json ignore = Json::array();
  for (const TargetModule& module : plain) ignore.push_back(module.name);
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"quantization_status", "compressed"},
          {"global_compression_ratio", nullptr},
          {"kv_cache_scheme", nullptr},
          {"ignore", ignore},
          {"config_groups", groups}};
}

}  // namespace

std::unique_ptr<PackedFormat> make_compressed_tensors(CompressedLayout layout) {
  return std::make_unique<CompressedTensors>(layout);
}

}  // namespace qwb
