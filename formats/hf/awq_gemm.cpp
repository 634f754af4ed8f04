// AWQ checkpoints in the GEMM layout, as AutoAWQ and GPTQModel write them. Byte-exact page:
// formats/hf/awq_gemm.md.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "formats/hf/packed_format.h"
#include "formats/hf/packing.h"
#include "formats/hf/quantization_settings.h"
#include "formats/model_format.h"
#include "lib/base/parallel.h"
#include "lib/codec/integer_grid.h"

namespace qwb {
namespace {

constexpr std::string_view kAwqWeight = ".qweight";
constexpr int64_t kWordsAtOnce = int64_t{1} << 14;  // by one item
constexpr std::array<int, 8> kColumnOfNibble = {0, 2, 4, 6, 1, 3, 5, 7};

[[noreturn]] void damaged_awq(const std::string& what, const std::string& module) {
  throw Error(ErrorKind::failed, what, "AWQ module '" + module + "'", "the checkpoint is damaged");
}

constexpr char kAwqWhere[] = "quantization_config (AWQ)";

constexpr SettingRule kAwqRules[] = {
    {"quant_method", ""}, {"method", "awq"},
    {"bits", ""},         {"w_bit", ""},
    {"group_size", ""},   {"q_group_size", ""},
    {"version", ""},      {"checkpoint_format", ""},
    {"format", ""},       {"zero_point", ""},
    {"sym", "-"},         {"modules_to_not_convert", ""},
    {"desc_act", "-"},    {"act_order", "-"},
    {"dynamic", "-"},     {"backend", "auto|autoawq|legacy_awq|gptqmodel"},
};

struct AwqSettings {
  int64_t group_size = 0;  // -1: the row
};

AwqSettings awq_settings(const Json& settings) {
  const std::string where = kAwqWhere;
  const auto either = [&](const char* key, const char* synonym, int64_t fallback) {
    return json_int(settings, key, where, json_int(settings, synonym, where, fallback));
  };
  const int64_t bits = either("bits", "w_bit", 4);
  if (bits != 4)
    throw Error(ErrorKind::unsupported, fmt::format("AWQ with {} bits", bits), where,
                "only 4 bits are read");
  // GPTQModel calls the layout "checkpoint_format" or "format", AutoAWQ "version".
  for (const char* key : {"version", "checkpoint_format", "format"}) {
    std::string version = json_string(settings, key, where, "gemm");
    std::transform(version.begin(), version.end(), version.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (version == "gemm") continue;
    throw Error(ErrorKind::unsupported, "AWQ layout '" + version.substr(0, 40) + "'", where,
                "only gemm is read; convert it with the library that wrote it");
  }
  return {either("group_size", "q_group_size", 128)};
}

// Words I32 [rows, columns / 8] to codes [rows, columns] and back.
CodeMatrix unpack_awq(const TensorView& words, const Context& context) {
  CodeMatrix codes(words.shape.at(0), words.shape.at(1) * 8);
  parallel_ranges(context, words.count(), kWordsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto word = load<uint32_t>(words.bytes.data() + 4 * i);
      for (size_t j = 0; j < 8; ++j)
        codes.codes[8 * i + kColumnOfNibble[j]] = static_cast<uint8_t>(word >> (4 * j) & 15u);
    }
  });
  return codes;
}

Tensor pack_awq(const CodeMatrix& codes, const Context& context) {
  Tensor words(DType::i32, {codes.rows, codes.columns / 8});
  parallel_ranges(context, words.count(), kWordsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      uint32_t word = 0;
      for (size_t j = 0; j < 8; ++j)
        word |= uint32_t{codes.codes[8 * i + kColumnOfNibble[j]]} << (4 * j);
      words.data<uint32_t>()[i] = word;
    }
  });
  return words;
}

// A square of 8 words by 8 nibbles, of kSpan columns of words at once: nibble j of word k and
// nibble k of word j change places, by halves, quarters and eighths of a word. Compilers turn the
// inner loops into vectors.
constexpr int64_t kSpan = 32;  // columns of words that an item takes, two cache lines: 256 rows
constexpr int64_t kDepth =
    128;  // inputs that it turns at a time: 64 bytes, a cache line, of every row

using NibbleSquares = std::array<std::array<uint32_t, kSpan>, 8>;

template <size_t Distance>
void exchange_nibbles(NibbleSquares& words, uint32_t mask) {
  constexpr int shift = 4 * static_cast<int>(Distance);
  for (size_t k = 0; k < 8; ++k) {
    if ((k & Distance) != 0) continue;
    auto &low = words[k], &high = words[k + Distance];
    for (size_t c = 0; c < kSpan; ++c) {
      const uint32_t moved = (low[c] >> shift ^ high[c]) & mask;
      high[c] ^= moved;
      low[c] ^= moved << shift;
    }
  }
}

void transpose_nibbles(NibbleSquares& words) {
  exchange_nibbles<4>(words, 0x0000ffffu);
  exchange_nibbles<2>(words, 0x00ff00ffu);
  exchange_nibbles<1>(words, 0x0f0f0f0fu);
}

// `width` words from `line` on, and of the `lines` - 1 lines of `columns` words after it; the rest
// is zero.
void load_lines(const std::byte* line, int64_t columns, int64_t lines, int64_t width,
                NibbleSquares& squares) {
  for (auto& words : squares) words.fill(0);
  for (int64_t k = 0; k < lines; ++k)
    std::memcpy(squares[k].data(), line + 4 * k * columns, static_cast<size_t>(4 * width));
}

void store_lines(const NibbleSquares& squares, int64_t columns, int64_t lines, int64_t width,
                 std::byte* line) {
  for (int64_t k = 0; k < lines; ++k)
    std::memcpy(line + 4 * k * columns, squares[k].data(), static_cast<size_t>(4 * width));
}

// qweight [in, out / 8] and the rows of an integer grid [out, in / 2]. One item: kSpan columns of
// words, that is 8 * kSpan rows, through a piece of each row that stays in the L1 cache.
struct AwqPiece {
  std::array<std::array<std::byte, kDepth / 2>, 8 * kSpan> rows;
  NibbleSquares words;

  // Where the words of these eight inputs lie in the piece: nibble j of column c belongs to row 8 c
  // + kColumnOfNibble[j].
  std::byte* at(size_t j, size_t c, int64_t i) {
    return rows[8 * c + static_cast<size_t>(kColumnOfNibble[j])].data() + i / 2;
  }
};

// Calls body(column, columns of words, input, inputs) for all pieces, on all threads.
template <typename Body>
void each_awq_piece(const Context& context, int64_t in, int64_t columns, Body body) {
  parallel_ranges(context, columns, kSpan, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < in; i += kDepth) body(begin, end - begin, i, std::min(kDepth, in - i));
  });
}

Tensor awq_to_rows(const TensorView& words, const Context& context) {
  const int64_t in = words.shape.at(0), columns = words.shape.at(1), stride = packed_bytes(in, 4);
  Tensor rows(DType::u8, {8 * columns, stride});
  std::byte* out = rows.bytes().data();
  each_awq_piece(context, in, columns,
                 [&](int64_t column, int64_t width, int64_t first, int64_t depth) {
                   AwqPiece piece;
                   for (int64_t i = 0; i < depth; i += 8) {
                     load_lines(words.bytes.data() + 4 * ((first + i) * columns + column), columns,
                                std::min<int64_t>(8, depth - i), width, piece.words);
                     transpose_nibbles(piece.words);
                     for (size_t j = 0; j < 8; ++j) {
                       for (size_t c = 0; c < kSpan; ++c)
                         store(piece.at(j, c, i), piece.words[j][c]);
                     }
                   }
                   for (int64_t r = 0; r < 8 * width; ++r)
                     std::memcpy(out + (8 * column + r) * stride + first / 2, piece.rows[r].data(),
                                 static_cast<size_t>(packed_bytes(depth, 4)));
                 });
  return rows;
}

Tensor rows_to_awq(const TensorView& rows, int64_t in, const Context& context) {
  const int64_t columns = rows.shape.at(0) / 8, stride = rows.shape.at(1);
  Tensor words(DType::i32, {in, columns});
  std::byte* out = words.bytes().data();
  each_awq_piece(context, in, columns,
                 [&](int64_t column, int64_t width, int64_t first, int64_t depth) {
                   AwqPiece piece{};
                   for (int64_t r = 0; r < 8 * width; ++r)
                     std::memcpy(piece.rows[r].data(),
                                 rows.bytes.data() + (8 * column + r) * stride + first / 2,
                                 static_cast<size_t>(packed_bytes(depth, 4)));
                   for (int64_t i = 0; i < depth; i += 8) {
                     for (size_t j = 0; j < 8; ++j) {
                       for (size_t c = 0; c < kSpan; ++c)
                         piece.words[j][c] = load<uint32_t>(piece.at(j, c, i));
                     }
                     transpose_nibbles(piece.words);
                     store_lines(piece.words, columns, std::min<int64_t>(8, depth - i), width,
                                 out + 4 * ((first + i) * columns + column));
                   }
                 });
  return words;
}

// qweight [in, out / 8] and words of eight inputs [in / 8, out]: squares alone. Calls body(row of
// words, first column, columns) for all of them, on all threads.
template <typename Body>
void each_awq_square(const Context& context, int64_t rows, int64_t columns, Body body) {
  parallel_ranges(context, rows, ceil_div(kWordsAtOnce, 8 * columns),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t row = begin; row < end; ++row) {
                      for (int64_t column = 0; column < columns; column += kSpan)
                        body(row, column, std::min(kSpan, columns - column));
                    }
                  });
}

Tensor awq_to_words(const TensorView& words, const Context& context) {
  const int64_t rows = words.shape.at(0) / 8, columns = words.shape.at(1);
  Tensor result(DType::i32, {rows, 8 * columns});
  auto* out = result.data<uint32_t>();
  each_awq_square(context, rows, columns, [&](int64_t row, int64_t column, int64_t width) {
    NibbleSquares squares;
    load_lines(words.bytes.data() + 4 * (8 * row * columns + column), columns, 8, width, squares);
    transpose_nibbles(squares);
    uint32_t* to = out + 8 * (row * columns + column);
    for (int64_t c = 0; c < width; ++c) {
      for (size_t j = 0; j < 8; ++j) to[8 * c + kColumnOfNibble[j]] = squares[j][c];
    }
  });
  return result;
}

Tensor words_to_awq(const TensorView& words, const Context& context) {
  const int64_t rows = words.shape.at(0), columns = words.shape.at(1) / 8;
  Tensor result(DType::i32, {8 * rows, columns});
  std::byte* out = result.bytes().data();
  each_awq_square(context, rows, columns, [&](int64_t row, int64_t column, int64_t width) {
    NibbleSquares squares{};
    const std::byte* from = words.bytes.data() + 32 * (row * columns + column);
    for (int64_t c = 0; c < width; ++c) {
      for (size_t j = 0; j < 8; ++j)
        squares[j][c] = load<uint32_t>(from + 4 * (8 * c + kColumnOfNibble[j]));
    }
    transpose_nibbles(squares);
    store_lines(squares, columns, 8, width, out + 4 * (8 * row * columns + column));
  });
  return result;
}

struct AwqModule {
  int64_t out = 0, in = 0, group_size = 0;
  TensorView qweight, qzeros, scales;
  CodeMatrix zeros;  // [groups, out]
  bool symmetric = false;
};

AwqModule find_awq(const Checkpoint& files, const AwqSettings& settings, const std::string& name,
                   const Context& context) {
  AwqModule module;
  module.qweight = packed_tensor_of(files, name + ".qweight", DType::i32, 2);
  module.in = module.qweight.shape[0];
  module.out = checked_mul(module.qweight.shape[1], 8, name);
  module.group_size = settings.group_size == -1 ? module.in : settings.group_size;
  if (module.group_size < 1 || module.in % module.group_size != 0) {
    damaged_awq(fmt::format("group size {} does not divide {} input channels", module.group_size,
                            module.in),
                name);
  }
  const int64_t groups = module.in / module.group_size;
  module.scales = packed_scales(files, name + ".scales", {groups, module.out});
  module.qzeros = packed_tensor(files, name + ".qzeros", DType::i32, {groups, module.out / 8});
  module.zeros = unpack_awq(module.qzeros, context);
  module.symmetric = module.zeros.all(8);
  return module;
}

LoadedWeight awq_weight(const AwqModule& module, Tensor codes, const Context& context) {
  LoadedWeight result;
  const auto own = [&](Tensor tensor) {
    result.owned.push_back(std::move(tensor));
    return result.owned.back().view();
  };
  IntegerGrid grid{4, module.group_size, own(std::move(codes)),
                   own(transposed(module.scales, context))};
  if (!module.symmetric) grid.zeros = own(pack_rows(module.zeros.transpose(context), 4, context));
  result.weight = {module.out, module.in, Orientation::out_in, grid};
  return result;
}

PackedTensors awq_tensors(const TargetModule& module, const Weight& weight, Tensor qweight,
                          const Context& context) {
  const auto& grid = weight.get<IntegerGrid>();
  PackedTensors tensors;
  tensors.add(module.name + ".qweight", std::move(qweight));
  tensors.add(module.name + ".qzeros",
              pack_awq(grid_zeros(grid, weight.out, context).transpose(context), context));
  tensors.add(module.name + ".scales", transposed(grid.scales, context));
  return tensors;
}

class AwqReading : public PackedReader {
 public:
  std::string name() const override { return "awq"; }
  bool matches(const Json& settings) const override {
    return json_string(settings, "quant_method", kAwqWhere, "") == "awq";
  }
  void check(const Json& settings) const override {
    check_settings(settings, kAwqRules, kAwqWhere, kGridRules);
    refuse_different(settings, {"bits", "w_bit"}, kAwqWhere);
    refuse_different(settings, {"group_size", "q_group_size"}, kAwqWhere);
    awq_settings(settings);
  }
  std::optional<bool> quantizes(const Json& settings, const std::string& module) const override {
    if (!json_has(settings, "modules_to_not_convert")) return true;
    return !skips_module(settings.at("modules_to_not_convert"), module, kAwqWhere);
  }
  std::vector<PackedModule> modules(const Checkpoint& files, const Json& settings,
                                    const Context& context) const override {
    const AwqSettings known = awq_settings(settings);
    std::vector<PackedModule> result;
    for (const std::string& tensor : files.names()) {
      if (!tensor.ends_with(kAwqWeight)) continue;
      const std::string module_name = tensor.substr(0, tensor.size() - kAwqWeight.size());
      const AwqModule found = find_awq(files, known, module_name, context);
      PackedModule module{
          module_name,
          integer_grid_layout(found.out, found.in,
                              {4, found.group_size, found.symmetric, found.scales.dtype}),
          {module_name + ".qweight", module_name + ".qzeros", module_name + ".scales"}};
      result.push_back(std::move(module));
    }
    return result;
  }
  LoadedWeight read(const Checkpoint& files, const Json& settings, const PackedModule& module,
                    const Context& context) const override {
    const AwqModule found = find_awq(files, awq_settings(settings), module.name, context);
    LoadedWeight result = awq_weight(found, awq_to_rows(found.qweight, context), context);
    check_weight(result.weight, module.name);
    return result;
  }
  bool moves_words() const override { return true; }
  LoadedWeight read_words(const Checkpoint& files, const Json& settings, const PackedModule& module,
                          const Context& context) const override {
    const AwqModule found = find_awq(files, awq_settings(settings), module.name, context);
    return awq_weight(found, awq_to_words(found.qweight, context), context);
  }
};

class AwqWriting : public PackedWriter {
 public:
  bool moves_words() const override { return true; }
  Fit fit(const TargetModule& module, const WeightReader& read) const override;
  std::optional<DType> scale_dtype() const override { return DType::f16; }
  std::vector<PartSpec> layout(const TargetModule& module) const override {
    const WeightLayout& form = module.layout;
    const int64_t groups = form.spec("scales").shape.at(1);
    return {{module.name + ".qweight", DType::i32, {form.in, form.out / 8}},
            {module.name + ".qzeros", DType::i32, {groups, form.out / 8}},
            {module.name + ".scales", DType::f16, {groups, form.out}}};
  }
  PackedTensors write(const TargetModule& module, const Weight& weight, const Json& /*settings*/,
                      const Context& context) const override {
    return awq_tensors(module, weight,
                       rows_to_awq(weight.get<IntegerGrid>().codes, weight.in, context), context);
  }
  PackedTensors write_words(const TargetModule& module, const Weight& weight,
                            const Json& /*settings*/, const Context& context) const override {
    return awq_tensors(module, weight, words_to_awq(weight.get<IntegerGrid>().codes, context),
                       context);
  }
  Json quantization_config(const std::vector<TargetModule>& modules,
                           const std::vector<TargetModule>& plain) const override;
};

Fit AwqWriting::fit(const TargetModule& module, const WeightReader& read) const {
  const WeightLayout& form = module.layout;
  const auto* grid = form.as<IntegerGrid>();
  if (grid == nullptr) return Fit::no("is stored as " + form.codec() + ", not on an integer grid");
  if (grid->bits != 4) return Fit::no(fmt::format("has {} bits; AWQ has 4", grid->bits));
  if (module.role != TargetModule::Role::linear)
    return Fit::no("is an embedding, which AWQ leaves unquantized");
  if (!grid->in_order()) return Fit::no("has groups that are not runs of columns (act-order)");
  if (form.out % 8 != 0)
    return Fit::no(fmt::format("has {} output channels, which 8 does not divide", form.out));
  const int64_t group = grid->group_size;
  if (form.in % group != 0)
    return Fit::no(
        fmt::format("has groups of {}, which do not divide its {} inputs", group, form.in));
  return fit_scales(module, DType::f16, read);
}

Json AwqWriting::quantization_config(const std::vector<TargetModule>& modules,
                                     const std::vector<TargetModule>& plain) const {
  // One number for all modules: -1 if every group is a row.
  std::map<int64_t, std::string> sizes;
  bool rows = true;
  for (const TargetModule& module : modules) {
    const int64_t group = module.layout.get<IntegerGrid>().group_size;
    sizes.emplace(group, module.name);
    rows = rows && group == module.layout.in;
  }
  if (!rows && sizes.size() > 1) {
    throw Error(ErrorKind::unsupported,
                fmt::format("awq has one group size for all modules, and {} has {}, {} has {}",
                            sizes.begin()->second, sizes.begin()->first, sizes.rbegin()->second,
                            sizes.rbegin()->first),
                {}, "gptq and compressed-tensors hold mixed models");
  }
  Json config = {{"quant_method", "awq"},
                 {"bits", 4},
                 {"group_size", rows || sizes.empty() ? -1 : sizes.begin()->first},
                 {"zero_point", true},
                 {"version", "gemm"}};
  Json kept = Json::array();
  for (const TargetModule& module : plain) kept.push_back(module.name);
  config["modules_to_not_convert"] = kept.empty() ? Json(nullptr) : kept;
  return config;
}

}  // namespace

std::vector<ModelFormat> awq_formats() {
  return {packed_format("awq", "AWQ, GEMM layout: 4 bits, one group size that divides every row",
                        std::make_shared<AwqReading>(), std::make_shared<AwqWriting>())};
}

}  // namespace qwb
