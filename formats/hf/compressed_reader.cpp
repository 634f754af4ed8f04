#include "formats/hf/compressed_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "formats/hf/compressed_floats.h"
#include "formats/hf/quantization_settings.h"
#include "lib/base/parallel.h"
#include "lib/codec/integer_grid.h"

namespace qwb {
namespace {

constexpr std::string_view kPacked = ".weight_packed";
constexpr uint64_t kLargestBlock = uint64_t{1} << 31;

[[noreturn]] void damaged_ct(const std::string& what, const std::string& module) {
  throw Error(ErrorKind::failed, what, "compressed-tensors module '" + module + "'",
              "the checkpoint is damaged");
}

constexpr char kCompressedFormats[] =
    "pack-quantized|int-quantized|naive-quantized|float-quantized|nvfp4-pack-quantized|"
    "mxfp4-pack-quantized|mixed-precision";
constexpr SettingRule kCompressedRules[] = {
    {"quant_method", "compressed-tensors"},
    {"format", kCompressedFormats},
    {"config_groups", ""},
    {"ignore", ""},
    {"quantization_status", "compressed|frozen"},
    {"version", ""},
    {"kv_cache_scheme", "-"},
    {"transform_config", ""},
    {"sparsity_config", ""},
};
constexpr SettingRule kSchemeRules[] = {
    {"targets", ""},
    {"weights", ""},
    {"input_activations", ""},
    {"output_activations", "-"},
    {"format", kCompressedFormats},
};
constexpr SettingRule kWeightRules[] = {
    {"num_bits", ""},   {"type", "int|float"},
    {"symmetric", ""},  {"strategy", "tensor|channel|group|block|tensor_group"},
    {"group_size", ""}, {"block_structure", ""},
    {"dynamic", "-"},   {"actorder", "group|weight|static|dynamic|true"},
    {"observer", ""},   {"observer_kwargs", ""},
    {"is_mse", ""},
};

void read_block(const Json& weights, CompressedScheme& scheme) {
  if (!json_has(weights, "block_structure")) return;
  const Json& block = weights.at("block_structure");
  const auto is_size = [](const Json& size) {
    return size.is_number_unsigned() && size.get<uint64_t>() >= 1 &&
           size.get<uint64_t>() <= kLargestBlock;
  };
  if (!block.is_array() || block.size() != 2 || !is_size(block[0]) || !is_size(block[1]))
    throw Error(ErrorKind::failed, "block_structure must be two sizes", kCompressedWhere);
  scheme.block_rows = block[0].get<int64_t>();
  scheme.block_columns = block[1].get<int64_t>();
}

std::vector<std::string> name_list(const Json& settings, const char* key) {
  std::vector<std::string> names;
  if (!json_has(settings, key)) return names;
  const Json& list = settings.at(key);
  const auto is_text = [](const Json& entry) { return entry.is_string(); };
  if (!list.is_array() || !std::all_of(list.begin(), list.end(), is_text))
    throw Error(ErrorKind::failed, std::string("'") + key + "' must be a list of names",
                kCompressedWhere);
  for (const Json& entry : list) names.push_back(entry.get<std::string>());
  return names;
}

void add_scheme(const std::string& name, const Json& group, CompressedSettings& settings) {
  const std::string where = std::string(kCompressedWhere) + ": " + name;
  check_settings(group, kSchemeRules, where);
  settings.quantizes_activations =
      settings.quantizes_activations || json_has(group, "input_activations");
  if (!json_has(group, "weights")) return;
  const Json& weights = group.at("weights");
  check_settings(weights, kWeightRules, where + ": weights");
  CompressedScheme scheme;
  scheme.group = name;
  scheme.targets = name_list(group, "targets");
  scheme.bits = json_int(weights, "num_bits", where, 8);
  if (scheme.bits < 2 || scheme.bits > 8)
    throw Error(ErrorKind::unsupported, fmt::format("{} bits", scheme.bits), where);
  scheme.symmetric = json_bool(weights, "symmetric", where, true);
  scheme.strategy = json_string(weights, "strategy", where, "");
  scheme.group_size = json_int(weights, "group_size", where, 0);
  scheme.floats = json_string(weights, "type", where, "int") == "float";
  read_block(weights, scheme);
  if (scheme.floats) check_float_scheme(scheme, where);
  if (!scheme.floats && scheme.strategy == "tensor_group")
    throw Error(ErrorKind::unsupported, "integers with the strategy 'tensor_group'", where);
  settings.schemes.push_back(std::move(scheme));
}

// {} and an object whose only content is the name of a dense format mean nothing.
void refuse_beside_weights(const Json& settings) {
  if (json_has(settings, "transform_config") && !is_unset(settings.at("transform_config"))) {
    const Json& transforms = settings.at("transform_config");
    if (!json_has(transforms, "config_groups") || !is_unset(transforms.at("config_groups"))) {
      throw Error(ErrorKind::unsupported,
                  "transform_config: the inputs of modules are transformed at run time, which this "
                  "build does not do",
                  kCompressedWhere, "take a model without transforms, or the original");
    }
  }
  if (!json_has(settings, "sparsity_config") || is_unset(settings.at("sparsity_config"))) return;
  const std::string format =
      json_string(settings.at("sparsity_config"), "format", kCompressedWhere, "of no known format");
  if (format != "dense")
    throw Error(ErrorKind::unsupported,
                "sparsity_config: weights are stored sparse (" + format + ")", kCompressedWhere,
                "take a model that is stored dense");
}

bool targets_module(const std::string& target, const std::string& module) {
  if (target.starts_with("re:")) return python_match(target.substr(3), module, kCompressedWhere);
  return target == module;
}

}  // namespace

bool CompressedSettings::ignores(const std::string& module) const {
  return std::any_of(ignored.begin(), ignored.end(),
                     [&](const std::string& target) { return targets_module(target, module); });
}

namespace {

bool same_grid(const CompressedScheme& a, const CompressedScheme& b) {
  return a.floats == b.floats && a.bits == b.bits && a.symmetric == b.symmetric &&
         a.strategy == b.strategy && a.group_size == b.group_size && a.block_rows == b.block_rows &&
         a.block_columns == b.block_columns;
}

}  // namespace

const CompressedScheme& CompressedSettings::scheme(const std::string& module) const {
  // Loaders disagree which of several groups counts.
  const auto with = [&](auto means) -> const CompressedScheme* {
    const CompressedScheme* found = nullptr;
    for (const CompressedScheme& scheme : schemes) {
      if (std::none_of(scheme.targets.begin(), scheme.targets.end(), means)) continue;
      if (found != nullptr && !same_grid(*found, scheme))
        throw Error(ErrorKind::unsupported,
                    "is meant by the groups '" + found->group + "' and '" + scheme.group +
                        "' of the quantization_config, which differ",
                    module, "leave the one out that does not fit the tensors");
      if (found == nullptr) found = &scheme;
    }
    return found;
  };
  if (const auto* named = with([&](const std::string& target) { return target == module; }))
    return *named;
  if (const auto* matched = with([&](const std::string& target) {
        return target.starts_with("re:") && targets_module(target, module);
      }))
    return *matched;
  if (const auto* classes = with(
          [](const std::string& target) { return target == "Linear" || target == "LinearBase"; }))
    return *classes;
  if (const auto* embeddings =
          with([&](const std::string& target) { return target == "Embedding"; });
      embeddings != nullptr && module.find("embed") != std::string::npos)
    return *embeddings;
  throw Error(ErrorKind::failed, "is quantized, and no group of the quantization_config means it",
              module, "config.json does not belong to these tensors");
}

CompressedSettings compressed_settings(const Json& settings) {
  CompressedSettings result;
  check_settings(settings, kCompressedRules, kCompressedWhere);
  refuse_beside_weights(settings);
  if (!json_has(settings, "config_groups") || !settings.at("config_groups").is_object())
    throw Error(ErrorKind::failed, "no config_groups", kCompressedWhere);
  for (const auto& [name, group] : settings.at("config_groups").items()) {
    if (!group.is_object()) {
      throw Error(ErrorKind::unsupported,
                  "the group '" + name.substr(0, 40) + "' is a list of targets of a preset scheme",
                  kCompressedWhere, "save the model anew with a current compressed-tensors");
    }
    add_scheme(name, group, result);
  }
  if (result.schemes.empty())
    throw Error(ErrorKind::unsupported, "no group with weights", kCompressedWhere);
  result.ignored = name_list(settings, "ignore");
  return result;
}

CompressedReader::CompressedReader(const Checkpoint& files, const CompressedSettings& settings,
                                   std::string name, Context context)
    : files_(files),
      scheme_(settings.scheme(name)),
      name_(std::move(name)),
      context_(std::move(context)) {
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
  PackedModule module{name_, layout(), {}};
  for (const char* part : {".weight_packed", ".weight_shape", ".weight_scale", ".weight_zero_point",
                           ".weight_g_idx", ".input_scale", ".input_zero_point"}) {
    if (files_.find(name_ + part)) module.tensors.push_back(name_ + part);
  }
  if (!packed_) module.tensors.push_back(name_ + ".weight");
  return module;
}

LoadedWeight CompressedReader::read() const {
  LoadedWeight result;
  PartViews parts;
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
  if (!zeros_.codes.empty()) own("zeros", pack_rows(zeros_, bits_, context_));
  if (scattered_) parts["group_index"] = index_;
  result.weight = attach(layout(), parts, name_);
  return result;
}

WeightLayout CompressedReader::layout() const {
  return integer_grid_layout(out_, in_,
                             {bits_, group_size_, zeros_.codes.empty(), scales_.dtype, scattered_});
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
  const bool dense = ceil_div(in_ * scheme_.bits, 32) == codes_.shape[1];
  if (!dense && old_width(scheme_.bits) != codes_.shape[1]) {
    damaged_ct(fmt::format("weight_packed has {} words a row, and {} inputs of {} bits, as "
                           "config.json says, need {}",
                           codes_.shape[1], in_, scheme_.bits, ceil_div(in_ * scheme_.bits, 32)),
               name_);
  }
  bits_ = static_cast<int>(scheme_.bits);
  straddling_ = dense;
}

void CompressedReader::find_bytes() {
  codes_ = packed_tensor_of(files_, name_ + ".weight", DType::i8, 2);
  out_ = codes_.shape[0];
  in_ = codes_.shape[1];
  bits_ = static_cast<int>(scheme_.bits);
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
  const bool blocked =
      scheme_.strategy == "block" || (scheme_.strategy.empty() && scheme_.block_columns > 0);
  const bool by_row = scheme_.strategy == "tensor" || scheme_.strategy == "channel";
  const int64_t told = by_row ? 0 : blocked ? scheme_.block_columns : scheme_.group_size;
  group_size_ = told < 1 ? in_ : std::min(told, in_);
  if (ceil_div(in_, group_size_) != groups_) {
    damaged_ct(
        fmt::format("config.json says groups of {}, and weight_scale has {} groups over {} inputs",
                    group_size_, groups_, in_),
        name_);
  }
}

bool CompressedReader::is_blocked(const Shape& shape) const {
  return scheme_.block_rows > 0 && scheme_.block_columns > 0 &&
         shape[0] == ceil_div(out_, scheme_.block_rows) &&
         shape[1] == ceil_div(in_, scheme_.block_columns);
}

int64_t CompressedReader::scale_row(int64_t o) const {
  if (scales_.count() == 1) return 0;
  return scales_.shape[0] == out_ ? o : o / scheme_.block_rows;
}

void CompressedReader::find_zeros() {
  const std::string name = name_ + ".weight_zero_point";
  const auto stored = files_.find(name);
  if (!stored && !scheme_.symmetric)
    damaged_ct("weight_zero_point is missing, and config.json says asymmetric", name_);
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
        const int zero = static_cast<int8_t>(bytes.bytes[scale_row(o) * groups_ + g]) + middle;
        if (zero < 0 || zero >= 2 * middle) damaged_ct("a zero point is out of range", name_);
        zeros.at(o, g) = static_cast<uint8_t>(zero);
      }
    }
  }
  if (zeros.all(static_cast<uint8_t>(middle))) return;
  if (scheme_.symmetric)
    damaged_ct("config.json says symmetric, and the zero points are not in the middle of the grid",
               name_);
  zeros_ = std::move(zeros);
}

int64_t CompressedReader::zero_words() const {
  return straddling_ ? ceil_div(out_ * bits_, 32) : ceil_div(out_, 32 / bits_);
}

CodeMatrix CompressedReader::unpack_zeros(const TensorView& words) const {
  const Tensor rows = transposed(words, context_);  // [groups, words]
  const CodeMatrix codes = straddling_ ? unpack_words(rows.view(), out_, bits_, context_)
                                       : unpack_old(rows.view(), out_);
  return codes.transpose(context_);
}

CodeMatrix CompressedReader::unpack_old(const TensorView& words, int64_t columns) const {
  CodeMatrix codes(words.shape[0], columns);
  const int64_t per_word = 32 / bits_;
  for (int64_t r = 0; r < codes.rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const auto word =
          load<uint32_t>(words.bytes.data() + 4 * (r * words.shape[1] + c / per_word));
      codes.at(r, c) = static_cast<uint8_t>(word >> (c % per_word * bits_) & ((1u << bits_) - 1));
    }
  }
  return codes;
}

Tensor CompressedReader::repacked() const {
  return pack_rows(
      straddling_ ? unpack_words(codes_, in_, bits_, context_) : unpack_old(codes_, in_), bits_,
      context_);
}

// Signed bytes become unsigned codes of as many bits as the config says.
Tensor CompressedReader::packed_bytes_of() const {
  const int64_t row = packed_bytes(in_, bits_);
  const int middle = 1 << (bits_ - 1);
  Tensor codes(DType::u8, {out_, row});
  parallel_ranges(context_, out_, 16, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> line(static_cast<size_t>(in_));
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t i = 0; i < in_; ++i) {
        const int code = static_cast<int8_t>(codes_.bytes[o * in_ + i]) + middle;
        if (code < 0 || code >= 2 * middle) damaged_ct("a code is out of range", name_);
        line[i] = static_cast<uint8_t>(code);
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
