// ggml's blocks: the fast dequantizer against the definition, bit for bit, on random bytes;
// interleaved rows; and products on both executors. (Against llama.cpp itself:
// tests/formats/gguf_blocks_test.cpp.)
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "lib/base/half.h"
#include "lib/codec/dense.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/ggml_blocks.h"
#include "lib/exec/executor.h"
#include "lib/exec/reference/reference.h"
#include "tests/exec/executor_helper.h"

namespace qwb {
namespace {

// Random bytes, but with halves below 1 in the places of the scales, so that no value is NaN.
Tensor random_blocks(const GgmlTypeInfo& info, int64_t rows, int64_t columns, uint32_t seed) {
  std::mt19937 random(seed);
  Tensor blocks(DType::u8, {rows, ggml_row_bytes(info, columns)});
  for (int64_t i = 0; i < blocks.count(); ++i)
    blocks.data<uint8_t>()[i] = static_cast<uint8_t>(random());
  const std::vector<int> halves = info.name == "Q2_K"    ? std::vector{80, 82}
                                  : info.name == "Q3_K"  ? std::vector{108}
                                  : info.name == "Q6_K"  ? std::vector{208}
                                  : info.name == "MXFP4" ? std::vector<int>{}
                                                         : std::vector{0, 2};
  for (int64_t at = 0; at < blocks.count(); at += info.bytes) {
    if (info.name == "MXFP4")  // 2^(e - 128), among them numbers without a leading one
      blocks.data<uint8_t>()[at] = static_cast<uint8_t>(at % 19 == 0 ? at % 2 : 120 + random() % 8);
    for (const int half : halves) {
      if (half == 2 && (info.bytes % 4 != 0 || info.name == "IQ4_XS") && info.name != "Q4_1" &&
          info.name != "Q5_1")
        continue;
      store(blocks.bytes().data() + at + half,
            f32_to_f16(static_cast<float>(random() % 2000) * 1e-3f - 1));
    }
  }
  return blocks;
}

std::vector<GgmlTypeInfo> block_types() {
  std::vector<GgmlTypeInfo> types = ggml_types();
  std::erase_if(types, [](const GgmlTypeInfo& info) { return info.block == 1; });
  return types;
}

Weight weight_of(const GgmlTypeInfo& info, const Tensor& blocks, int64_t columns,
                 int64_t head_rows = 0) {
  GgmlBlocks storage;
  storage.type = info.type;
  storage.blocks = blocks.view();
  storage.head_rows = head_rows;
  Weight weight{blocks.shape()[0], columns, Orientation::out_in, storage};
  check_weight(weight, "test");
  return weight;
}

TEST(GgmlBlocksKernel, EqualsTheDefinition) {
  for (const GgmlTypeInfo& info : block_types()) {
    const int64_t count = 64 * info.block;
    const Tensor blocks = random_blocks(info, 1, count, 7);
    std::vector<float> fast(static_cast<size_t>(count));
    dequantize_ggml(info.type, blocks.view().bytes.data(), count, fast.data());
    for (int64_t i = 0; i < count; ++i) {
      const float expected = reference_ggml_element(
          info.type, blocks.view().bytes.data() + i / info.block * info.bytes,
          static_cast<int>(i % info.block));
      ASSERT_EQ(std::bit_cast<uint32_t>(fast[static_cast<size_t>(i)]),
                std::bit_cast<uint32_t>(expected))
          << info.name << " value " << i;
    }
  }
}

TEST(GgmlBlocksKernel, InterleavedRows) {
  const GgmlTypeInfo& info = ggml_info(GgmlType::q8_0);
  const Tensor blocks = random_blocks(info, 16, 32, 3);
  const Weight stored = weight_of(info, blocks, 32), heads = weight_of(info, blocks, 32, 8);
  std::vector<float> a(16 * 32), b(16 * 32);
  dequantize(stored, a.data());
  dequantize(heads, b.data());
  const int order[] = {0, 2, 4, 6, 1, 3, 5, 7};  // stored rows of a head of 8
  for (size_t row = 0; row < 16; ++row) {
    const size_t from = row / 8 * 8 + static_cast<size_t>(order[row % 8]);
    EXPECT_TRUE(std::equal(b.begin() + static_cast<long>(32 * row),
                           b.begin() + static_cast<long>(32 * row + 32),
                           a.begin() + static_cast<long>(32 * from)))
        << row;
  }
  GgmlBlocks odd = stored.get<GgmlBlocks>();
  odd.head_rows = 5;
  EXPECT_THROW(check_weight({16, 32, Orientation::out_in, odd}, "test"), Error);
}

// What the sum of row i % 20 and vector i / 20 would be if nothing cancelled.
double magnitude(const std::vector<float>& values, const std::vector<float>& x, size_t i) {
  double sum = 0;
  for (size_t k = 0; k < 256; ++k)
    sum += std::abs(static_cast<double>(values[i % 20 * 256 + k]) *
                    static_cast<double>(x[i / 20 * 256 + k]));
  return sum;
}

// Embeddings, products of one and of many tokens, and losses run on blocks as they do on their
// values.
TEST(GgmlBlocksKernel, RunsOnBothExecutors) {
  std::mt19937 random(5);
  for (const GgmlTypeInfo& info : block_types()) {
    const Tensor blocks = random_blocks(info, 20, 256, 11);
    const Weight weight = weight_of(info, blocks, 256);
    std::vector<float> values(20 * 256), x(9 * 256);
    dequantize(weight, values.data());
    for (float& v : x) v = static_cast<float>(random() % 2001) * 1e-3f - 1;
    const Weight dense{20, 256, Orientation::out_in,
                       DenseWeight{{DType::f32, {20, 256}, std::as_bytes(std::span(values))}}};
    for (const Executor* executor : {&reference_executor(), &fast_executor()}) {
      for (const int64_t tokens : {int64_t{1}, int64_t{9}}) {
        std::vector<float> y(static_cast<size_t>(tokens * 20)), expected(y.size());
        const In input(x.data(), tokens, 256);
        executor->linear(input, {Prepared(weight)}, rows_of(y, 20));
        executor->linear(input, {Prepared(dense)}, rows_of(expected, 20));
        const bool packed = executor == &fast_executor() && tokens == 1;
        if (!packed) {
          EXPECT_EQ(y, expected) << info.name << " " << executor->identity();
        }
        // Codes are multiplied before their scale: other roundings, a few in the last bit.
        for (size_t i = 0; i < y.size(); ++i)
          EXPECT_NEAR(y[i], expected[i], 1e-6 * magnitude(values, x, i))
              << info.name << " " << executor->identity();
      }
      // Tokens of several sequences beside each other.
      const std::vector<int64_t> pieces = {1, 1, 7};
      std::vector<float> together(9 * 20), alone(together.size());
      const Prepared stored(weight);
      executor->linear(Rows(rows_of(x, 256), pieces), {stored}, rows_of(together, 20));
      for (int64_t first = 0; first < 9; first += first < 2 ? 1 : 7) {
        const int64_t count = first < 2 ? 1 : 7;
        executor->linear(rows_of(x, 256).row_range(first, count), {stored},
                         rows_of(alone, 20).row_range(first, count));
      }
      EXPECT_EQ(together, alone) << info.name;
      const std::vector<int32_t> ids = {19, 0, 7};
      std::vector<float> rows(3 * 256);
      executor->look_up(Prepared(weight), ids, rows_of(rows, 256));
      EXPECT_TRUE(std::equal(rows.begin(), rows.begin() + 256, values.begin() + 19 * 256))
          << info.name;
      std::vector<double> a(3), b(3);
      executor->losses(In(x.data(), 3, 256), Prepared(weight), ids, {}, a);
      executor->losses(In(x.data(), 3, 256), Prepared(dense), ids, {}, b);
      EXPECT_EQ(a, b) << info.name;
    }
  }
}

}  // namespace
}  // namespace qwb
