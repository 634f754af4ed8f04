// Products of bf16 operands and the backend that uses them. Where the machine has no matrix units the same
// code runs on f32 products of the rounded operands, so that the rounding and the layouts are tested
// anywhere.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/base/rng.h"
#include "lib/kernels/backend.h"
#include "lib/kernels/bf16_product.h"
#include "lib/kernels/simd.h"

namespace qwb {
namespace {

std::vector<float> uniform(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(rng.uniform()) * 2 - 1;
  return values;
}

TEST(Bf16, ConversionRoundsToNearestEvenAtAnyLength) {
  std::vector<float> values = uniform(37, 1);
  for (const float special : {0.0f, -0.0f, 1.0f, 0x1.01p0f, 0x1.03p0f, 0x1.010002p0f, -0x1.fffffep127f,
                              0x1p-130f, std::numeric_limits<float>::infinity()}) {
    values.push_back(special);
  }
  for (size_t count = 0; count <= values.size(); ++count) {
    std::vector<uint16_t> out(count + 1, 0x1234);
    simd::to_bf16(values.data(), static_cast<int64_t>(count), reinterpret_cast<std::byte*>(out.data()));
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(out[i], f32_to_bf16(values[i])) << values[i];
    EXPECT_EQ(out[count], 0x1234);
  }
}

// Sums in f32 of exact products: the difference from f64 is that of an f32 sum, k * 2^-24 of the magnitudes.
TEST(Bf16, ProductsOfEveryLayoutAgainstF64) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {7, 5, 33}, {65, 300, 129}, {257, 64, 40}}) {
    for (const bool a_transposed : {false, true}) {
      for (const bool transposed : {false, true}) {
        for (const bool add : {false, true}) {
          const int64_t stride_a = (a_transposed ? m : k) + 3, stride_b = (transposed ? k : n) + 1,
                        stride_c = n + 2;
          const auto a = uniform((a_transposed ? k : m) * stride_a, 2),
                     b = uniform((transposed ? n : k) * stride_b, 3);
          std::vector<uint16_t> narrow_a(a.size()), narrow_b(b.size());
          to_bf16(a.data(), static_cast<int64_t>(a.size()), narrow_a.data());
          to_bf16(b.data(), static_cast<int64_t>(b.size()), narrow_b.data());
          std::vector<float> c = uniform(m * stride_c, 4);
          const std::vector<float> before = c;
          bf16_product({m, n, k, a_transposed, transposed, stride_a, stride_b, stride_c, add},
                       narrow_a.data(), narrow_b.data(), c.data());
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t j = 0; j < stride_c; ++j) {
              const size_t at = static_cast<size_t>(i * stride_c + j);
              if (j >= n) {
                EXPECT_EQ(c[at], before[at]);
                continue;
              }
              double sum = add ? before[at] : 0;
              for (int64_t x = 0; x < k; ++x) {
                sum += static_cast<double>(
                           bf16_to_f32(narrow_a[a_transposed ? x * stride_a + i : i * stride_a + x])) *
                       bf16_to_f32(narrow_b[transposed ? j * stride_b + x : x * stride_b + j]);
              }
              ASSERT_NEAR(c[at], sum, static_cast<double>(k + 1) * 0x1p-23) << m << " " << n << " " << k;
            }
          }
        }
      }
    }
  }
}

// Both operands rounded: 2^-8 relative to the largest output is far above what random signs leave, and far
// below a wrong row or head.
TEST(Bf16, BackendAgreesWithTheReference) {
  const int64_t tokens = 150, in = 96, out = 80;
  for (const DType type : {DType::bf16, DType::f32}) {
    const auto values = uniform(in * out, 5), x = uniform(tokens * in, 6), bias = uniform(out, 7);
    for (const Orientation orientation : {Orientation::out_in, Orientation::in_out}) {
      Tensor stored(type, orientation == Orientation::out_in ? Shape{out, in} : Shape{in, out});
      for (int64_t i = 0; i < in * out; ++i) {
        if (type == DType::bf16) {
          stored.data<uint16_t>()[i] = f32_to_bf16(values[static_cast<size_t>(i)]);
        } else {
          stored.data<float>()[i] = values[static_cast<size_t>(i)];
        }
      }
      const Weight weight{out, in, orientation, DenseWeight{stored.view()}};
      std::vector<float> got(static_cast<size_t>(tokens * out), 1.0f), wanted = got;
      bf16_backend().linear(x.data(), tokens, weight, bias.data(), got.data(), true);
      reference_backend().linear(x.data(), tokens, weight, bias.data(), wanted.data(), true);
      float largest = 0;
      for (const float value : wanted) largest = std::max(largest, std::fabs(value));
      for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], largest * 0x1p-8);
    }
  }
  AttentionShape s;
  s.tokens = tokens;
  s.past = 9;
  s.heads = 4;
  s.kv_heads = 2;
  s.head_dim = 16;
  s.query_stride = 64;
  s.scale = 0.25f;
  const auto queries = uniform(tokens * 64, 8), keys = uniform((tokens + 9) * 32, 9),
             attended = uniform((tokens + 9) * 32, 10);
  for (const int64_t window : {int64_t{0}, int64_t{20}}) {
    s.window = window;
    std::vector<float> got(static_cast<size_t>(tokens * 64)), wanted = got;
    bf16_backend().attention(queries.data(), keys.data(), attended.data(), s, got.data());
    reference_backend().attention(queries.data(), keys.data(), attended.data(), s, wanted.data());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], 0x1p-7) << window << " " << i;
  }
}

TEST(Bf16, SameBitsForAnyNumberOfThreads) {
  const int64_t rows = 700, columns = 300;
  const auto x = uniform(rows * columns, 11);
  const int before = threads();
  std::vector<float> first;
  for (const int count : {1, 2, 7}) {
    set_threads(count);
    std::vector<float> h(static_cast<size_t>(columns * columns));
    add_moments(Operand(x.data(), rows, columns, Products::bf16), rows, h.data());
    if (first.empty()) first = h;
    EXPECT_EQ(std::memcmp(h.data(), first.data(), h.size() * sizeof(float)), 0) << count;
  }
  set_threads(before);
}

}  // namespace
}  // namespace qwb
