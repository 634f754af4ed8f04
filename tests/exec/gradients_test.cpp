// The formulas of training in f64 against central differences. With steps of 1e-5 these err by
// about 1e-10 (third derivatives of size 1) and 1e-11 (rounding): 1e-6 of the derivative leaves
// much, and a wrong factor anywhere is off by far more.
#include "lib/exec/reference/gradients.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "lib/exec/reference/activation.h"
#include "tests/exec/weights_helper.h"

namespace qwb::plain {
namespace {

Doubles random(int64_t rows, int64_t columns, uint64_t seed, float size = 1) {
  Doubles made(rows, columns);
  const std::vector<float> values = noise(rows * columns, seed, size);
  std::copy(values.begin(), values.end(), made.values.begin());
  return made;
}

double dot(const Doubles& a, const Doubles& b) {
  double sum = 0;
  for (size_t i = 0; i < a.values.size(); ++i) sum += a.values[i] * b.values[i];
  return sum;
}

// The derivative of f at x along a random direction against gradient, that of f by x.
void expect_gradient(const Doubles& x, const Doubles& gradient,
                     const std::function<double(const Doubles&)>& f) {
  constexpr double kStep = 1e-5;
  const Doubles direction = random(x.rows, x.columns, 77);
  const auto at = [&](double step) {
    Doubles moved = x;
    for (size_t i = 0; i < x.values.size(); ++i) moved.values[i] += step * direction.values[i];
    return f(moved);
  };
  const double expected = (at(kStep) - at(-kStep)) / (2 * kStep);
  const double actual = dot(gradient, direction);
  ASSERT_GT(std::abs(expected), 1e-3);
  EXPECT_NEAR(actual, expected, 1e-6 * std::abs(expected));
}

TEST(Gradients, OfNorms) {
  const Doubles x = random(3, 17, 1), dy = random(3, 17, 2), bias = random(1, 17, 4);
  const Doubles gain = random(1, 17, 3);
  const auto& gains = gain.values;
  expect_gradient(x, rms_norm_back(x, gains, 1e-3, dy),
                  [&](const Doubles& v) { return dot(rms_norm(v, gains, 1e-3), dy); });
  expect_gradient(x, layer_norm_back(x, gains, 1e-3, dy), [&](const Doubles& v) {
    return dot(layer_norm(v, gains, bias.values, 1e-3), dy);
  });
  Doubles dgain(1, 17), dbias(1, 17);
  rms_norm_back(x, gains, 1e-3, dy, &dgain.values);
  expect_gradient(gain, dgain,
                  [&](const Doubles& v) { return dot(rms_norm(x, v.values, 1e-3), dy); });
  dgain = Doubles(1, 17);
  layer_norm_gains_back(x, 1e-3, dy, dgain.values, dbias.values);
  expect_gradient(gain, dgain, [&](const Doubles& v) {
    return dot(layer_norm(x, v.values, bias.values, 1e-3), dy);
  });
  expect_gradient(bias, dbias,
                  [&](const Doubles& v) { return dot(layer_norm(x, gains, v.values, 1e-3), dy); });
}

TEST(Gradients, OfAttention) {
  const AttentionShape all{.heads = 4, .kv_heads = 2, .head_dim = 5, .scale = 0.7f};
  AttentionShape window = all, capped = all;
  window.window = 3;
  capped.soft_cap = 1.5f;
  for (const AttentionShape& shape : {all, window, capped}) {
    const Doubles q = random(9, 20, 5), k = random(9, 10, 6), v = random(9, 10, 7);
    const Doubles dy = random(9, 20, 8);
    const auto back = attention_back(q, k, v, attention(q, k, v, shape), shape, dy);
    const auto value = [&](const Doubles& a, const Doubles& b, const Doubles& c) {
      return dot(attention(a, b, c, shape).y, dy);
    };
    expect_gradient(q, back.queries, [&](const Doubles& x) { return value(x, k, v); });
    expect_gradient(k, back.keys, [&](const Doubles& x) { return value(q, x, v); });
    expect_gradient(v, back.values, [&](const Doubles& x) { return value(q, k, x); });
  }
}

TEST(Gradients, OfActivations) {
  const Doubles gate = random(3, 19, 9, 3), up = random(3, 19, 10), dy = random(3, 19, 11);
  for (const Activation activation : {Activation::silu, Activation::gelu_tanh, Activation::gelu_erf,
                                      Activation::quick_gelu, Activation::relu}) {
    const GatedBack back = gated_back(activation, gate, up, dy);
    expect_gradient(gate, back.gate,
                    [&](const Doubles& x) { return dot(gated(activation, x, up), dy); });
    expect_gradient(up, back.up,
                    [&](const Doubles& x) { return dot(gated(activation, gate, x), dy); });
    expect_gradient(gate, gated_back(activation, gate, {}, dy).gate,
                    [&](const Doubles& x) { return dot(gated(activation, x, {}), dy); });
  }
}

TEST(Gradients, OfTheLoss) {
  for (const LogitShape& shape : {LogitShape{}, LogitShape{.scale = 0.4f, .cap = 1.2f}}) {
    const Doubles logits = random(1, 13, 12, 3);
    Doubles gradient = logits;
    cross_entropy(gradient.values, 4, shape);
    expect_gradient(logits, gradient, [&](const Doubles& x) {
      Doubles copy = x;
      return cross_entropy(copy.values, 4, shape);
    });
  }
}

}  // namespace
}  // namespace qwb::plain
