#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/quantize/demo_helper.h"
#include "tests/quantize/gptq_helper.h"

namespace qwb {
namespace {

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(Registry, NamesAreUniqueAndFound) {
  std::vector<std::string> names;
  for (const auto& method : methods()) {
    names.push_back(method->name());
    EXPECT_EQ(&find_method(method->name()), method.get());
    EXPECT_FALSE(method->summary().empty());
    EXPECT_GE(method->version(), 1);
  }
  EXPECT_THAT(names, testing::ElementsAre("none", "rtn", "int8", "nf4", "fp4", "gptq", "awq"));
}

TEST(Registry, SuggestsTheNearestName) {
  EXPECT_THAT(message_of([] { find_method("gtpq"); }), testing::HasSubstr("did you mean 'gptq'"));
  EXPECT_THAT(message_of([] { find_method("zebra"); }),
              testing::Not(testing::HasSubstr("did you mean")));
  EXPECT_THAT(message_of([] {
                resolve_settings(find_method("rtn"), {{"groupsize", 64}});
              }),
              testing::HasSubstr("did you mean 'group_size'"));
}

TEST(Registry, DefaultsAreTheirOwnFixedPointAndInOrder) {
  for (const auto& method : methods()) {
    const Settings settings = resolve_settings(*method, Json::object());
    EXPECT_EQ(resolve_settings(*method, settings).dump(), settings.dump());
    size_t at = 0;
    auto parameters = method->parameters();
    std::erase_if(parameters, [](const Parameter& parameter) { return parameter.implied; });
    ASSERT_EQ(settings.size(), parameters.size());
    for (const auto& item : settings.items()) EXPECT_EQ(item.key(), parameters[at++].name);
    for (const Parameter& parameter : parameters)
      EXPECT_FALSE(parameter.help.empty()) << parameter.name;
    EXPECT_GT(method->bits(settings), 0);
  }
}

TEST(Registry, EqualSettingsHaveEqualText) {
  const Method& rtn = find_method("rtn");
  EXPECT_EQ(resolve_settings(rtn, {{"group_size", 64.0}, {"bits", 3}}).dump(),
            resolve_settings(rtn, {{"bits", 3.0}, {"group_size", 64}}).dump());
}

TEST(Registry, RefusesWhatTheDeclarationForbids) {
  const Json wrong[] = {{{"bits", 1}},           {{"bits", 9}},         {{"bits", 4.5}},
                        {{"bits", "4"}},         {{"bits", nullptr}},   {{"group_size", 0}},
                        {{"group_size", -2}},    {{"symmetric", 1}},    {{"bits", true}},
                        {{"scale_dtype", "f8"}}, {{"scale_dtype", 16}}, {{"group_size", 1e300}}};
  for (const Json& settings : wrong) {
    const std::string message = message_of([&] { resolve_settings(find_method("rtn"), settings); });
    EXPECT_THAT(message, testing::HasSubstr(settings.begin().key()));
  }
  for (const int size : {0, 8, 48, 100, 8192})
    message_of([&] { resolve_settings(find_method("nf4"), {{"block_size", size}}); });
  message_of([] { resolve_settings(find_method("gptq"), {{"damping", -0.1}}); });
  message_of([] { resolve_settings(find_method("rtn"), Json::array({1})); });
}

// What layout() promises is what quantize() delivers, in both orientations and for odd sizes.
TEST(Registry, LayoutKeepsItsPromise) {
  std::vector<float> values(37 * 131);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(static_cast<int>(i * 7919 % 2001) - 1000) * 1e-3f;
  const Tensor weight = make_tensor(values, {37, 131});
  for (const bool in_out : {false, true}) {
    ModuleTask task = make_task("m", weight.view(), in_out);
    std::vector<float> hessian(static_cast<size_t>(task.info.in * task.info.in));
    for (int64_t i = 0; i < task.info.in; ++i)
      hessian[static_cast<size_t>(i * task.info.in + i)] = 1;
    Moments moments;
    set_hessian(moments, hessian);
    moments.tokens = 10;
    task.moments = &moments;
    for (const auto& method : methods()) {
      Json given = Json::object();
      if (method->name() == "rtn" || method->name() == "gptq" || method->name() == "awq")
        given = {{"group_size", 32}, {"symmetric", in_out}, {"bits", 3}};
      const Settings settings = resolve_settings(*method, given);
      const WeightLayout layout = method->layout(task.info, settings);
      const ModuleResult result = method->quantize(task, settings);
      EXPECT_EQ(result.tensor.codec(), layout.codec());
      EXPECT_EQ(result.tensor.orientation, layout.orientation);
      ASSERT_EQ(result.tensor.parts.size(), layout.specs().size()) << method->name();
      int64_t bytes = 0;
      for (const PartSpec& part : layout.specs()) {
        const Tensor& made = result.tensor.parts.at(part.name);
        EXPECT_EQ(made.dtype(), part.dtype);
        EXPECT_EQ(made.shape(), part.shape);
        bytes += static_cast<int64_t>(made.view().bytes.size());
      }
      EXPECT_EQ(layout.bytes(), bytes);
      EXPECT_EQ(result.tensor.view().bytes(), bytes) << method->name();
      // The stored values are near the weights, element by element in the right place.
      const auto stored = dequantize(result.tensor);
      const bool turned = layout.orientation != task.info.orientation;
      double error = 0, norm = 0;
      for (size_t k = 0; k < stored.size(); ++k) {
        const auto in = static_cast<size_t>(task.info.in), out = static_cast<size_t>(task.info.out);
        const double w = values[turned ? k % in * out + k / in : k];
        error += (w - stored[k]) * (w - stored[k]);
        norm += w * w;
      }
      EXPECT_LT(error / norm, 0.05) << method->name();
      EXPECT_NEAR(result.weight_error, error / norm, 1e-6) << method->name();
    }
  }
}

}  // namespace
}  // namespace qwb
