// compressed-tensors as older versions and other schemes store it, packed here bit by bit and read
// to the values that the layout's own formula gives: words that no value straddles, scales of
// blocks, orders that were never set.
#include <gtest/gtest.h>

#include "formats/registry.h"
#include "lib/exec/cpu/dequantize.h"
#include "tests/formats/convert_helper.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

using Parts = std::vector<std::pair<std::string, Tensor>>;

// `weights`: one scheme, or an array of them; each for all linear modules, or for its "targets".
Path compressed_folder(const TemporaryFolder& folder, const char* format, const Json& weights,
                       const Parts& parts) {
  static int number = 0;
  const Path path = folder.path() / std::to_string(++number);
  std::filesystem::create_directory(path);
  Json groups = Json::object();
  for (Json scheme : weights.is_array() ? weights : Json::array({weights})) {
    const Json targets = scheme.value("targets", Json::array({"Linear"}));
    scheme.erase("targets");
    groups["group_" + std::to_string(groups.size())] = {{"targets", targets}, {"weights", scheme}};
  }
  const Json settings = {
      {"quant_method", "compressed-tensors"}, {"format", format}, {"config_groups", groups}};
  write(path / "config.json", json_text({{"model_type", "golden"},
                                         {"torch_dtype", "float32"},
                                         {"quantization_config", settings}}));
  std::vector<PartSpec> specs;
  for (const auto& [name, tensor] : parts)
    specs.push_back({kModule + name, tensor.dtype(), tensor.shape()});
  SafetensorsWriter writer(path / "model.safetensors", specs);
  for (const auto& [name, tensor] : parts) writer.put(kModule + name, tensor.view().bytes);
  writer.finish();
  return path;
}

// Values of [rows, columns], the element at (r, c) from a formula.
template <typename T, typename Formula>
Tensor made(DType type, int64_t rows, int64_t columns, Formula formula) {
  Tensor tensor(type, {rows, columns});
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c)
      tensor.data<T>()[r * columns + c] = static_cast<T>(formula(r, c));
  }
  return tensor;
}

template <typename Formula>
void expect_values(const Path& folder, int64_t out, int64_t in, Formula formula) {
  const OpenModel model = open_model(folder);
  const Weight weight = *model.source->quantized(kModule);
  ASSERT_EQ(weight.out, out);
  ASSERT_EQ(weight.in, in);
  FloatBuffer values(out * in);
  dequantize(weight, values.data());
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t i = 0; i < in; ++i) ASSERT_EQ(values[o * in + i], formula(o, i)) << o << ", " << i;
  }
}

Tensor shape_of(int64_t out, int64_t in) {
  Tensor shape(DType::i64, {2});
  shape.data<int64_t>()[0] = out;
  shape.data<int64_t>()[1] = in;
  return shape;
}

// floor(32 / bits) values in a word, none in two.
template <typename Formula>
Tensor unstraddled(int64_t rows, int64_t columns, int bits, Formula code) {
  const int64_t per_word = 32 / bits;
  return made<uint32_t>(
      DType::i32, rows, ceil_div(columns, per_word), [&](int64_t r, int64_t word) {
        uint32_t value = 0;
        for (int64_t k = 0; k < per_word && word * per_word + k < columns; ++k)
          value |= static_cast<uint32_t>(code(r, word * per_word + k)) << (k * bits);
        return value;
      });
}

TEST(CompressedLayouts, OldWordsThatNoValueStraddles) {
  const TemporaryFolder folder;
  for (const int bits : {3, 5, 6}) {
    const int64_t out = 13, in = 320, group = 64;
    const auto code = [&](int64_t o, int64_t i) { return (7 * o + 3 * i + i / 9) % (1 << bits); };
    const auto zero = [&](int64_t o, int64_t g) { return (2 * o + 3 * g + 1) % (1 << bits); };
    const auto scale = [](int64_t o, int64_t g) {
      return static_cast<float>(1 + (o + 2 * g) % 7) / 8;
    };
    Tensor zeros =
        unstraddled(in / group, out, bits, [&](int64_t g, int64_t o) { return zero(o, g); });
    Parts parts;
    parts.emplace_back(".weight_packed", unstraddled(out, in, bits, code));
    parts.emplace_back(".weight_shape", shape_of(out, in));
    parts.emplace_back(".weight_scale", made<float>(DType::f32, out, in / group, scale));
    const int64_t words = zeros.shape()[1];
    parts.emplace_back(".weight_zero_point",
                       made<uint32_t>(DType::i32, words, in / group, [&](int64_t w, int64_t g) {
                         return zeros.data<uint32_t>()[g * words + w];
                       }));
    const Json weights = {
        {"num_bits", bits}, {"symmetric", false}, {"strategy", "group"}, {"group_size", group}};
    expect_values(compressed_folder(folder, "pack-quantized", weights, parts), out, in,
                  [&](int64_t o, int64_t i) {
                    return static_cast<float>(code(o, i) - zero(o, i / group)) *
                           scale(o, i / group);
                  });
  }
}

TEST(CompressedLayouts, ScalesOfBlocks) {
  const TemporaryFolder folder;
  const int64_t out = 11, in = 70, rows = 4, columns = 32;
  const auto code = [](int64_t o, int64_t i) { return (37 * o + 11 * i) % 256 - 128; };
  const auto scale = [](int64_t r, int64_t c) { return static_cast<float>(1 + 3 * r + c) / 64; };
  const auto zero = [](int64_t r, int64_t c) { return 5 * r - 3 * c; };
  for (const bool symmetric : {true, false}) {
    const Json weights = {{"num_bits", 8},
                          {"symmetric", symmetric},
                          {"strategy", "block"},
                          {"block_structure", {rows, columns}}};
    Parts parts;
    parts.emplace_back(".weight", made<int8_t>(DType::i8, out, in, code));
    parts.emplace_back(".weight_scale", made<float>(DType::f32, 3, 3, scale));
    if (!symmetric) parts.emplace_back(".weight_zero_point", made<int8_t>(DType::i8, 3, 3, zero));
    expect_values(compressed_folder(folder, "int-quantized", weights, parts), out, in,
                  [&](int64_t o, int64_t i) {
                    const int64_t r = o / rows, c = i / columns;
                    return static_cast<float>(code(o, i) - (symmetric ? 0 : zero(r, c))) *
                           scale(r, c);
                  });
  }
}

TEST(CompressedLayouts, BlocksThatAreNoSizes) {
  const TemporaryFolder folder;
  for (const char* block : {"[0, 32]", "[-1, 32]", "[\"4\", 32]", "[32]", "[32, 32, 1]",
                            "[1099511627776, 32]", "7", "{}"}) {
    Json weights = {{"num_bits", 8}, {"strategy", "block"}};
    weights["block_structure"] = parse_json(block, "test");
    Parts parts;
    parts.emplace_back(".weight",
                       made<int8_t>(DType::i8, 2, 32, [](int64_t, int64_t i) { return i; }));
    parts.emplace_back(".weight_scale",
                       made<float>(DType::f32, 2, 1, [](int64_t, int64_t) { return 1; }));
    const Path path = compressed_folder(folder, "int-quantized", weights, parts);
    expect_error(ErrorKind::failed, "block_structure must be two sizes", [&] { open_model(path); });
  }
}

// Older versions always stored weight_g_idx, filled with -1 where there is no order.
TEST(CompressedLayouts, OrderOfColumnsSetOrNot) {
  const TemporaryFolder folder;
  const int64_t out = 6, in = 96, group = 32;
  const auto code = [](int64_t o, int64_t i) { return (5 * o + 7 * i) % 16; };
  const auto scale = [](int64_t o, int64_t g) { return static_cast<float>(1 + o + 4 * g) / 32; };
  const Json weights = {
      {"num_bits", 4}, {"symmetric", true}, {"strategy", "group"}, {"group_size", group}};
  for (const bool ordered : {false, true}) {
    const auto group_of = [&](int64_t i) { return ordered ? i * 5 % 3 : i / group; };
    Parts parts;
    parts.emplace_back(".weight_packed", unstraddled(out, in, 4, code));
    parts.emplace_back(".weight_shape", shape_of(out, in));
    parts.emplace_back(".weight_scale", made<float>(DType::f32, out, in / group, scale));
    Tensor index(DType::i32, {in});
    for (int64_t i = 0; i < in; ++i)
      index.data<int32_t>()[i] = ordered ? static_cast<int32_t>(group_of(i)) : -1;
    parts.emplace_back(".weight_g_idx", std::move(index));
    expect_values(compressed_folder(folder, "pack-quantized", weights, parts), out, in,
                  [&](int64_t o, int64_t i) {
                    return static_cast<float>(code(o, i) - 8) * scale(o, group_of(i));
                  });
  }
}

// Groups of 48 cover 80 inputs in two as well, the last one short: the targets tell which scheme is
// meant.
TEST(CompressedLayouts, GroupSizeOfSeveralSchemes) {
  const TemporaryFolder folder;
  const int64_t out = 5, in = 80;
  const auto code = [](int64_t o, int64_t i) { return (3 * o + 5 * i) % 16; };
  const auto scale = [](int64_t o, int64_t g) { return static_cast<float>(1 + o + 6 * g) / 16; };
  const auto scheme = [](int64_t group) {
    return Json{{"num_bits", 4}, {"symmetric", true}, {"strategy", "group"}, {"group_size", group}};
  };
  Json named = scheme(40), matched = scheme(40), other = scheme(48);
  named["targets"] = {kModule};
  matched["targets"] = {"re:.*proj"};
  other["targets"] = {"re:.*other$"};
  for (const Json& schemes : {Json::array({scheme(48), named}), Json::array({matched, scheme(48)}),
                              Json::array({other, scheme(40)}), Json::array({scheme(40)})}) {
    Parts parts;
    parts.emplace_back(".weight_packed", unstraddled(out, in, 4, code));
    parts.emplace_back(".weight_shape", shape_of(out, in));
    parts.emplace_back(".weight_scale", made<float>(DType::f32, out, 2, scale));
    expect_values(compressed_folder(folder, "pack-quantized", schemes, parts), out, in,
                  [&](int64_t o, int64_t i) {
                    return static_cast<float>(code(o, i) - 8) * scale(o, i / 40);
                  });
  }
}

// A byte holds more values than the config's bits give codes.
TEST(CompressedLayouts, BytesBeyondTheBits) {
  const TemporaryFolder folder;
  const Json weights = {{"num_bits", 4}, {"symmetric", false}, {"strategy", "channel"}};
  const auto with = [&](int code, int zero) {
    Parts parts;
    parts.emplace_back(".weight", made<int8_t>(DType::i8, 3, 8, [&](int64_t o, int64_t i) {
                         return o + i == 9 ? code : 1;
                       }));
    parts.emplace_back(".weight_scale",
                       made<float>(DType::f32, 3, 1, [](int64_t, int64_t) { return 0.5f; }));
    parts.emplace_back(".weight_zero_point", made<int8_t>(DType::i8, 3, 1, [&](int64_t o, int64_t) {
                         return o == 2 ? zero : 1;
                       }));
    return compressed_folder(folder, "int-quantized", weights, parts);
  };
  for (const int least : {-8, 7}) {
    expect_values(with(least, least), 3, 8, [&](int64_t o, int64_t i) {
      return static_cast<float>((o + i == 9 ? least : 1) - (o == 2 ? least : 1)) * 0.5f;
    });
  }
  for (const int beyond : {-9, 8, 127}) {
    expect_error(ErrorKind::failed, "a code is out of range",
                 [&] { open_model(with(beyond, 0)).source->quantized(kModule); });
    expect_error(ErrorKind::failed, "a zero point is out of range",
                 [&] { open_model(with(0, beyond)).source->quantized(kModule); });
  }
}

}  // namespace
}  // namespace qwb
