// Frequencies against the formulas of the papers, in f64. config_test.cpp compares every spelling
// of them in config.json with transformers.
#include "lib/model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "lib/base/error.h"

namespace qwb {
namespace {

constexpr int64_t kRopeDim = 32;

double plain_frequency(size_t k, double theta) {
  return std::pow(theta, -2.0 * static_cast<double>(k) / kRopeDim);
}

Rope rope_of(const Json& parameters, int64_t positions = 4096) {
  return parse_rope({{"rope_parameters", parameters}}, "test", kRopeDim, positions);
}

void expect_frequencies(const Rope& rope, const std::function<double(size_t)>& expected) {
  ASSERT_EQ(rope.frequencies.size(), static_cast<size_t>(kRopeDim / 2));
  for (size_t k = 0; k < rope.frequencies.size(); ++k)
    EXPECT_NEAR(rope.frequencies[k], expected(k), 1e-6 * expected(k)) << k;
}

TEST(Rope, FallsFromOneByPowersOfTheta) {
  expect_frequencies(rope_of({{"rope_theta", 500.0}}),
                     [](size_t k) { return plain_frequency(k, 500); });
  // The family's own base, where config.json has none.
  expect_frequencies(parse_rope(Json::object(), "test", kRopeDim, 4096),
                     [](size_t k) { return plain_frequency(k, 1e4); });
  expect_frequencies(parse_rope(Json::object(), "test", kRopeDim, 4096, 1e6),
                     [](size_t k) { return plain_frequency(k, 1e6); });
  expect_frequencies(parse_rope({{"rope_theta", 70.0}}, "test", kRopeDim, 4096, 1e6),
                     [](size_t k) { return plain_frequency(k, 70); });
}

TEST(Rope, LinearDividesAll) {
  expect_frequencies(rope_of({{"rope_type", "linear"}, {"factor", 3.0}}),
                     [](size_t k) { return plain_frequency(k, 1e4) / 3; });
}

// Wavelengths below trained / high stay, those above trained / low are divided, between them the
// share of the plain frequency rises linearly with trained / wavelength.
TEST(Rope, Llama3ScalesLongWaves) {
  const double factor = 8, low = 1, high = 4, trained = 512;
  size_t between = 0;
  expect_frequencies(rope_of({{"rope_type", "llama3"},
                              {"factor", factor},
                              {"low_freq_factor", low},
                              {"high_freq_factor", high},
                              {"original_max_position_embeddings", 512}}),
                     [&](size_t k) {
                       const double f = plain_frequency(k, 1e4);
                       const double turns = trained * f / (2 * std::numbers::pi);
                       const double share = std::clamp((turns - low) / (high - low), 0.0, 1.0);
                       if (share > 0 && share < 1) ++between;
                       return f * (share + (1 - share) / factor);
                     });
  EXPECT_GT(between, 0u);
}

// YaRN: dimensions that turn more than 32 times in the trained length stay, those below one turn
// are divided, a ramp over the dimension between; attention is scaled by 0.1 ln(factor) + 1.
TEST(Rope, YarnRampsOverDimensions) {
  const double factor = 4, trained = 1024, theta = 1e4;
  const Rope rope = rope_of(
      {{"rope_type", "yarn"}, {"factor", factor}, {"original_max_position_embeddings", 1024}});
  const auto dimension_of = [&](double turns) {
    return kRopeDim / 2.0 * std::log(trained / (2 * std::numbers::pi * turns)) / std::log(theta);
  };
  const double first = std::floor(dimension_of(32)), last = std::ceil(dimension_of(1));
  expect_frequencies(rope, [&](size_t k) {
    const double divided = std::clamp((static_cast<double>(k) - first) / (last - first), 0.0, 1.0);
    return plain_frequency(k, theta) * (1 - divided + divided / factor);
  });
  EXPECT_NEAR(rope.attention_factor, 0.1 * std::log(factor) + 1, 1e-6);
  EXPECT_EQ(rope_of({{"rope_type", "linear"}, {"factor", 3.0}}).attention_factor, 1);
}

// What other formats are written from.
TEST(Rope, KeepsItsParametersFilledIn) {
  const Rope rope = rope_of({{"type", "yarn"}, {"factor", 2.0}}, 777);
  EXPECT_EQ(rope.parameters.at("rope_type"), "yarn");
  EXPECT_EQ(rope.parameters.at("rope_theta"), 1e4);
  EXPECT_EQ(rope.parameters.at("original_max_position_embeddings"), 777);
}

TEST(Rope, RefusesWhatItDoesNotKnow) {
  const auto kind = [](const Json& parameters) {
    try {
      rope_of(parameters);
    } catch (const Error& error) {
      return error.kind();
    }
    ADD_FAILURE() << parameters << " was not refused";
    return ErrorKind::usage;
  };
  EXPECT_EQ(kind({{"rope_type", "longrope"}, {"factor", 2.0}}), ErrorKind::unsupported);
  EXPECT_EQ(kind({{"rope_type", "linear"}, {"factor", 2.0}, {"partial_rotary_factor", 0.5}}),
            ErrorKind::unsupported);
  EXPECT_EQ(kind({{"rope_theta", 1.0}}), ErrorKind::failed);
  EXPECT_EQ(kind({{"rope_type", "linear"}, {"factor", 0.0}}), ErrorKind::failed);
  EXPECT_EQ(kind({{"rope_type", 3}}), ErrorKind::failed);
  EXPECT_EQ(kind("linear"), ErrorKind::failed);
}

// Phi-3's: divided by the short factors up to the trained length, where the table ends.
TEST(Rope, LongropeDividesByTheShortFactors) {
  const RopeRules rules = {.partial = 1, .longrope_from = 4096};
  Json scaling = {
      {"type", "su"}, {"short_factor", {1.0, 2.0}}, {"long_factor", Json::array({3.0, 4.0})}};
  const auto parsed = [&](const Json& config) { return parse_rope(config, "test", 4, 128, rules); };
  const Rope rope = parsed({{"rope_scaling", scaling}, {"original_max_position_embeddings", 32}});
  ASSERT_EQ(rope.frequencies.size(), 2u);
  EXPECT_FLOAT_EQ(rope.frequencies[0], 1);
  EXPECT_FLOAT_EQ(rope.frequencies[1], 0.01f / 2);
  EXPECT_NEAR(rope.attention_factor, std::sqrt(1 + std::log(4.0) / std::log(32.0)), 1e-6);
  EXPECT_EQ(rope.end, 32);
  EXPECT_EQ(parsed({{"rope_scaling", scaling}}).end, 4096);
  scaling["long_factor"] = scaling["short_factor"];
  EXPECT_EQ(parsed({{"rope_scaling", scaling}}).end, 0);
  scaling["short_factor"] = {1.0, 2.0, 3.0};
  EXPECT_THROW(parsed({{"rope_scaling", scaling}}), Error);
  EXPECT_THROW(parsed({{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}), Error);
  EXPECT_THROW(parse_rope({{"rope_scaling", scaling}}, "test", 4, 128), Error);
}

TEST(Rope, TurnsAPartOfAHeadWhereTheFamilyDoes) {
  const auto count = [](const Json& config, const RopeRules& rules) {
    return parse_rope(config, "test", 16, 128, rules).frequencies.size();
  };
  const RopeRules quarter = {.partial = 0.25};
  EXPECT_EQ(count(Json::object(), quarter), 2u);
  EXPECT_EQ(count({{"partial_rotary_factor", 0.5}}, quarter), 4u);
  EXPECT_EQ(count({{"rope_parameters", {{"partial_rotary_factor", 1.0}}}}, quarter), 8u);
  EXPECT_EQ(count({{"partial_rotary_factor", 0.5}}, {}), 8u);
  EXPECT_THROW(count({{"partial_rotary_factor", 0.05}}, quarter), Error);
  EXPECT_THROW(count({{"partial_rotary_factor", nullptr},
                      {"rope_parameters", {{"partial_rotary_factor", nullptr}}}},
                     quarter),
               Error);
  const Rope rope = parse_rope(Json::object(), "test", 16, 128, quarter);
  EXPECT_FLOAT_EQ(rope.frequencies[1], 0.01f);
}

}  // namespace
}  // namespace qwb
