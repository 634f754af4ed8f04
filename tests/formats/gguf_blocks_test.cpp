// ggml's blocks against llama.cpp's own (tests/golden/make_gguf.py): dequantized bit for bit,
// quantized byte for byte where that is promised and with no more error where not; and the exact
// repack of integer grids.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "formats/gguf/repack.h"
#include "formats/safetensors/safetensors.h"
#include "lib/base/half.h"
#include "lib/codec/fp4_groups.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/integer_grid.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/ggml_blocks.h"
#include "lib/quantize/encode/ggml_quants.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

const SafetensorsFile& golden() {
  static const auto file =
      SafetensorsFile::open(Path(QWB_SOURCE_DIR) / "tests/golden/gguf/blocks.safetensors");
  return file;
}

std::vector<GgmlTypeInfo> quantized_types() {
  std::vector<GgmlTypeInfo> types = ggml_types();
  std::erase_if(types, [](const GgmlTypeInfo& info) { return info.block == 1; });
  return types;
}

TEST(GgmlBlocks, DequantizeAsLlamaCpp) {
  for (const GgmlTypeInfo& info : quantized_types()) {
    const std::string name(info.name);
    const TensorView blocks = *golden().find(name + ".blocks");
    const std::vector<float> expected = read_floats(*golden().find(name + ".values"), name);
    std::vector<float> found(expected.size());
    dequantize_ggml(info.type, blocks.bytes.data(), static_cast<int64_t>(found.size()),
                    found.data());
    for (size_t i = 0; i < found.size(); ++i)
      ASSERT_EQ(std::bit_cast<uint32_t>(found[i]), std::bit_cast<uint32_t>(expected[i]))
          << name << " " << i;
  }
}

TEST(GgmlBlocks, QuantizeAsLlamaCpp) {
  const std::vector<float> x = read_floats(*golden().find("x"), "x");
  for (const char* name : {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"}) {
    const TensorView expected = *golden().find(std::string(name) + ".blocks");
    std::string found(expected.bytes.size(), '\0');
    quantize_ggml(*ggml_type_from_name(name), x.data(), static_cast<int64_t>(x.size()),
                  reinterpret_cast<std::byte*>(found.data()));
    EXPECT_TRUE(found == as_text(expected.bytes)) << name;
  }
}

// Searched as well, by equal weights: x and their values from the same blocks.
TEST(GgmlBlocks, TableTypesAreNearer) {
  const std::vector<float> x = read_floats(*golden().find("x"), "x");
  for (const char* name : {"IQ4_NL", "IQ4_XS", "MXFP4"}) {
    const GgmlTypeInfo& info = ggml_info(*ggml_type_from_name(name));
    const std::vector<float> theirs =
        read_floats(*golden().find(std::string(name) + ".values"), "values");
    std::vector<std::byte> blocks(x.size() / static_cast<size_t>(info.block) *
                                  static_cast<size_t>(info.bytes));
    std::vector<float> ours(x.size());
    quantize_ggml(info.type, x.data(), static_cast<int64_t>(x.size()), blocks.data());
    dequantize_ggml(info.type, blocks.data(), static_cast<int64_t>(x.size()), ours.data());
    double our_error = 0, their_error = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      our_error += std::pow(static_cast<double>(x[i]) - static_cast<double>(ours[i]), 2);
      their_error += std::pow(static_cast<double>(x[i]) - static_cast<double>(theirs[i]), 2);
    }
    EXPECT_LE(our_error, their_error) << name;
    EXPECT_GT(our_error, 0.5 * their_error) << name;
  }
}

// What the searches weigh e^2 by, m the magnitude as a share of the root mean square of a
// sub-block.
double weight_of(GgmlType type, double m) {
  if (type == GgmlType::q4_k) return 4 + m * m;
  return type == GgmlType::q3_k || type == GgmlType::q5_k ? 4 + m : 1;
}

double weighted_error(const GgmlTypeInfo& info, const std::vector<float>& x,
                      const std::vector<float>& y) {
  const size_t size = info.type == GgmlType::q4_k || info.type == GgmlType::q5_k ? 32 : 16;
  double sum = 0;
  for (size_t begin = 0; begin < x.size(); begin += size) {
    double squares = 0;
    for (size_t i = begin; i < begin + size; ++i)
      squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    const double deviation = std::sqrt(squares / static_cast<double>(size));
    for (size_t i = begin; i < begin + size; ++i) {
      const double v = x[i], e = v - static_cast<double>(y[i]);
      sum += e * e * weight_of(info.type, deviation > 0 ? std::abs(v) / deviation : 0);
    }
  }
  return sum;
}

std::vector<float> there_and_back(const GgmlTypeInfo& info, const std::vector<float>& x) {
  std::vector<std::byte> blocks(x.size() / 256 * static_cast<size_t>(info.bytes));
  std::vector<float> values(x.size());
  quantize_ggml(info.type, x.data(), static_cast<int64_t>(x.size()), blocks.data());
  dequantize_ggml(info.type, blocks.data(), static_cast<int64_t>(x.size()), values.data());
  return values;
}

// A wrong layout or sign would raise the error tenfold. (Row 2 of x has blocks that fit some types
// exactly.)
TEST(GgmlBlocks, KTypesAreNearer) {
  const std::vector<float> x = read_floats(*golden().find("x"), "x");
  for (const GgmlTypeInfo& info : quantized_types()) {
    if (info.block != 256) continue;
    const std::vector<float> theirs =
        read_floats(*golden().find(std::string(info.name) + ".values"), "values");
    EXPECT_LE(weighted_error(info, x, there_and_back(info, x)), weighted_error(info, x, theirs))
        << info.name;
  }
}

// Values that no type holds: what the search reaches. The bounds lie between the error with d and
// dmin settled by least squares and the one with the first guess at them.
TEST(GgmlBlocks, UnitsOfKTypesSettle) {
  std::mt19937 random(7);
  std::vector<float> x(256 * 64);
  for (float& value : x) {  // a sum of uniform values: nearly normal, and the same in every library
    value = 0;
    for (int i = 0; i < 12; ++i) value += static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f;
  }
  const std::map<std::string_view, double> bounds = {{"Q2_K", 0.0675},    {"Q3_K", 0.017608},
                                                     {"Q4_K", 0.003493},  {"Q5_K", 0.001015},
                                                     {"Q6_K", 0.0002786}, {"IQ4_XS", 0.00535}};
  const std::vector<float> zeros(x.size());
  for (const GgmlTypeInfo& info : quantized_types()) {
    if (info.block != 256) continue;
    const double share =
        weighted_error(info, x, there_and_back(info, x)) / weighted_error(info, x, zeros);
    EXPECT_LE(share, bounds.at(info.name)) << info.name;
  }
}

TEST(GgmlBlocks, TinyAndZeroBlocksOfKTypes) {
  for (const float size : {0.0f, 1e-30f, 1e-12f, 1e-7f}) {
    std::vector<float> x(256);
    for (size_t i = 0; i < 256; ++i) x[i] = size * static_cast<float>(static_cast<int>(i % 7) - 3);
    for (const GgmlTypeInfo& info : quantized_types()) {
      if (info.block != 256) continue;
      const std::vector<float> values = there_and_back(info, x);
      for (size_t i = 0; i < 256; ++i)
        ASSERT_LE(std::abs(values[i] - x[i]), 4 * size) << info.name << i;
    }
  }
}

TEST(GgmlBlocks, OverflowingScalesAreRefused) {
  std::vector<float> x(256, 1e30f);
  std::vector<std::byte> blocks(1024);
  for (const GgmlTypeInfo& info : quantized_types()) {
    if (info.type == GgmlType::mxfp4) continue;  // has powers of two as far as f32
    x[0] = -1e30f;
    expect_error(ErrorKind::failed, "overflows f16",
                 [&] { quantize_ggml(info.type, x.data(), 256, blocks.data()); });
  }
}

struct GridCase {
  int bits;
  bool symmetric;
  int64_t group;
  GgmlType type;
};

QuantizedTensor random_grid(const GridCase& c, int64_t out, int64_t in, uint32_t seed) {
  std::mt19937 random(seed);
  QuantizedTensor tensor(integer_grid_layout(
      out, in, {.bits = c.bits, .group_size = c.group, .symmetric = c.symmetric}));
  for (const PartSpec& spec : tensor.specs()) {
    Tensor& part = tensor.parts.at(spec.name);
    for (int64_t i = 0; i < part.count(); ++i) {
      // With zero points: scales whose products with them f16 still holds.
      if (spec.dtype == DType::f16)
        part.data<uint16_t>()[i] =
            f32_to_f16(static_cast<float>(1 + random() % 60) * (c.symmetric ? 0.00313f : 0x1p-9f));
      else
        part.data<uint8_t>()[i] = static_cast<uint8_t>(random());
    }
  }
  if (c.symmetric) return tensor;
  Tensor& zeros = tensor.parts.at("zeros");  // the bits after the last code are zero
  const int64_t groups = ceil_div(in, c.group);
  std::vector<uint8_t> row(static_cast<size_t>(groups));
  for (int64_t r = 0; r < out; ++r) {
    std::byte* at = zeros.bytes().data() + r * zeros.shape()[1];
    unpack_codes(at, groups, c.bits, row.data());
    pack_codes(row.data(), groups, c.bits, at);
  }
  return tensor;
}

// 4-bit floats in groups of 32 are MXFP4, byte for byte there and back.
TEST(GgufRepack, FloatsBothWays) {
  std::mt19937 random(3);
  QuantizedTensor floats(fp4_groups_layout(5, 96, kMxfp4));
  for (auto& [name, part] : floats.parts) {
    for (int64_t i = 0; i < part.count(); ++i)
      part.data<uint8_t>()[i] =
          static_cast<uint8_t>(name == "scales" ? 110 + random() % 20 : random());
  }
  const Weight weight = floats.view();
  std::string reason;
  ASSERT_EQ(exact_ggml_type(weight, reason), GgmlType::mxfp4) << reason;
  Tensor blocks(DType::u8, {5, 3 * 17});
  for (int64_t row = 0; row < 5; ++row)
    repack_mxfp4_row(weight.get<Fp4Groups>(), 96, row, blocks.bytes().data() + row * 51);
  const Weight repacked{5, 96, Orientation::out_in, GgmlBlocks{GgmlType::mxfp4, blocks.view()}};
  check_weight(repacked, "test");
  std::vector<float> before(5 * 96), after(before.size());
  dequantize(weight, before.data());
  dequantize(repacked, after.data());
  EXPECT_EQ(before, after);  // -0 is 0
  ASSERT_EQ(ggml_grid_layout(repacked)->as<Fp4Groups>()->group_size, 32);
  const QuantizedTensor back = grid_from_ggml(repacked, "test");
  for (const auto& [name, part] : floats.parts)
    EXPECT_EQ(as_text(part.view().bytes), as_text(back.parts.at(name).view().bytes)) << name;
  EXPECT_FALSE(exact_ggml_type(fp4_groups_layout(5, 96, kNvfp4), reason));
  EXPECT_THAT(reason, testing::HasSubstr("global scale"));
  EXPECT_FALSE(exact_ggml_type(fp4_groups_layout(5, 80, kMxfp4), reason));
  EXPECT_THAT(reason, testing::HasSubstr("not blocks of 32"));
}

// Grid to blocks to grid: the weights stay bit for bit, and for groups of 32 every part does.
TEST(GgufRepack, IntegerGridsBothWays) {
  for (const GridCase& c :
       {GridCase{4, true, 32, GgmlType::q4_0}, GridCase{4, true, 128, GgmlType::q4_0},
        GridCase{3, true, 64, GgmlType::q4_0}, GridCase{5, true, 32, GgmlType::q5_0},
        GridCase{8, true, 32, GgmlType::q8_0}, GridCase{7, true, 96, GgmlType::q8_0},
        GridCase{4, false, 32, GgmlType::q4_1}, GridCase{5, false, 64, GgmlType::q5_1}}) {
    for (const int64_t in : {int64_t{96}, int64_t{160}}) {
      if (c.group > in) continue;
      const QuantizedTensor grid = random_grid(c, 7, in, static_cast<uint32_t>(in));
      const Weight weight = grid.view();
      std::string reason;
      ASSERT_EQ(exact_ggml_type(weight, reason), c.type) << reason;
      Tensor blocks(DType::u8, ggml_blocks_layout(7, in, c.type).spec("blocks").shape);
      for (int64_t row = 0; row < 7; ++row)
        repack_ggml_row(weight.get<IntegerGrid>(), c.type, in, row,
                        blocks.bytes().data() + row * blocks.shape()[1]);
      GgmlBlocks storage;
      storage.type = c.type;
      storage.blocks = blocks.view();
      const Weight repacked{7, in, Orientation::out_in, storage};
      check_weight(repacked, "test");
      std::vector<float> before(static_cast<size_t>(7 * in)), after(before.size());
      dequantize(weight, before.data());
      dequantize(repacked, after.data());
      EXPECT_EQ(before, after) << c.bits << " " << c.group;
      const QuantizedTensor back = grid_from_ggml(repacked, "test");
      dequantize(back.view(), after.data());
      EXPECT_EQ(before, after) << c.bits << " " << c.group;
      if (c.group != 32) continue;
      for (const auto& [name, part] : grid.parts)
        EXPECT_EQ(as_text(part.view().bytes), as_text(back.parts.at(name).view().bytes)) << name;
    }
  }
}

TEST(GgufRepack, RefusesWithTheReason) {
  std::string reason;
  QuantizedTensor grid = random_grid({4, true, 32, GgmlType::q4_0}, 3, 64, 1);
  Tensor wide(DType::f32, {3, 2});
  for (int64_t i = 0; i < 6; ++i) wide.data<float>()[i] = 0.5f;
  wide.data<float>()[3] = 70000.0f;
  grid.parts["scales"] = std::move(wide);
  EXPECT_FALSE(exact_ggml_type(grid.view(), reason));
  EXPECT_THAT(reason, testing::HasSubstr("overflows f16 (row 1, group 1)"));
  grid.parts.at("scales").data<float>()[3] = 0.1f;
  EXPECT_FALSE(exact_ggml_type(grid.view(), reason));
  EXPECT_THAT(reason, testing::HasSubstr("more digits than f16 (row 1, group 1)"));
  EXPECT_FALSE(
      exact_ggml_type(random_grid({4, true, 48, GgmlType::q4_0}, 3, 96, 1).view(), reason));
  EXPECT_THAT(reason, testing::HasSubstr("not blocks of 32"));
  EXPECT_FALSE(
      exact_ggml_type(random_grid({8, false, 32, GgmlType::q8_0}, 3, 64, 1).view(), reason));
  EXPECT_THAT(reason, testing::HasSubstr("8-bit"));
  Tensor blocks(DType::u8, {1, 20});
  std::fill_n(blocks.data<uint8_t>(), 20, static_cast<uint8_t>(0));
  store(blocks.bytes().data(), f32_to_f16(0.5f));
  store(blocks.bytes().data() + 2, f32_to_f16(-0.75f));
  GgmlBlocks storage;
  storage.type = GgmlType::q4_1;
  storage.blocks = blocks.view();
  expect_error(ErrorKind::unsupported, "no whole multiple", [&] {
    grid_from_ggml({1, 32, Orientation::out_in, storage}, "test");
  });
}

}  // namespace
}  // namespace qwb
