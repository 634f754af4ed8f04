// Which module gets what: patterns, plan files, and how they come together.
#include "lib/quantize/plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "lib/quantize/plan/module_pattern.h"
#include "tests/quantize/demo_helper.h"

namespace qwb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string usage_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(Pattern, MatchesAsPeopleWriteIt) {
  const std::string name = "model.layers.12.mlp.down_proj";
  for (const char* yes : {"model.layers.12.mlp.down_proj", "*", "*.down_proj", "down_proj",
                          "mlp.down_proj", "*down*", "model.*", "layers.12.*", "layers.1?.mlp.*",
                          "layers.[0-1][0-2].*", "layers.[!2]*.mlp.*", "*.mlp.*_proj", "*l*l*l*",
                          "12.*", "**", "model*proj", "*.[a-d]own_proj", "*.down[]_]proj"}) {
    EXPECT_TRUE(pattern_matches(yes, name)) << yes;
  }
  for (const char* no : {"", "own_proj", "down_pro", "layers.1.*", "layers.[2-9]*",
                         "model.layers.1", "mlp", "?", "*.down[x-]proj", "layers.[!1]*",
                         "Down_proj", "*.up_proj", "model.?.mlp.down_proj", "mlp.*.x"}) {
    EXPECT_FALSE(pattern_matches(no, name)) << no;
  }
  EXPECT_TRUE(pattern_matches("a[-b]c", "a-c"));
  EXPECT_FALSE(pattern_matches("a[^b-d]e", "ace"));
  // No blow-up for patterns that backtrack.
  std::string stars;
  for (int i = 0; i < 40; ++i) stars += "a*";
  EXPECT_FALSE(pattern_matches(stars + "b", std::string(5000, 'a')));
}

TEST(Pattern, BrokenOnesAreRefused) {
  for (const char* bad : {"", "a[", "[a.b", "a[]", "[!]", "ok[a]and["})
    EXPECT_THAT(usage_of([&] { check_pattern(bad, "--include"); }), HasSubstr("--include: "));
  for (const char* good : {"a", "[a]", "[]]", "[!]]", "a]"}) check_pattern(good, "x");
  EXPECT_TRUE(is_plain_pattern("lm_head"));
  EXPECT_FALSE(is_plain_pattern("lm_hea?"));
}

class PlanTest : public ::testing::Test {
 protected:
  static std::unique_ptr<Model> load(const std::string& name, bool tied = false) {
    Json config = demo_config(name);
    if (tied) config["tie_word_embeddings"] = true;
    return Model::load(std::make_shared<DemoSource>(name), config, name);
  }
  static PlanRequest request(const std::string& method, const std::string& file = "{}") {
    const PlanFile plan = parse_plan(file, "plan.json");
    PlanRequest request;
    request.method = &find_method(method);
    request.given = plan.given;
    request.output_embedding = plan.output_embedding;
    request.embeddings = plan.embeddings;
    request.rules = plan.rules;
    return request;
  }
  static const PlannedModule& find(const Plan& plan, const std::string& end) {
    for (const PlannedModule& module : plan.modules) {
      if (module.info.name.ends_with(end)) return module;
    }
    throw Error(ErrorKind::failed, end + " is not planned");
  }
  static std::string text(const PlannedModule& module) {
    return module.method->name() +
           (module.settings.contains("bits") ? module.settings["bits"].dump() : "");
  }
  const std::unique_ptr<Model> llama_ = load("llama"), gpt2_ = load("gpt2");
};

TEST_F(PlanTest, WithoutRulesEveryModuleOfTheBlocks) {
  const Plan plan = plan_modules(*llama_, request("gptq"));
  EXPECT_EQ(plan.modules.size(), 56u);
  EXPECT_THAT(plan.kept, IsEmpty());
  EXPECT_THAT(plan.notes, IsEmpty());
  EXPECT_TRUE(plan.needs_calibration());
  EXPECT_EQ(plan.method_name(), "gptq");
  EXPECT_EQ(plan.bits(), 4);
  int64_t weights = 0;
  for (const PlannedModule& module : plan.modules) weights += module.weights();
  EXPECT_EQ(plan.weights, weights);
}

TEST_F(PlanTest, LaterRulesWinAndKeepWhatTheyDoNotName) {
  const Plan plan = plan_modules(*llama_, request("gptq", R"({"rules": [
      {"match": "*.down_proj", "method": "rtn", "bits": 8},
      {"match": "layers.[01].*", "bits": 6},
      {"match": ["layers.1.mlp.*", "k_proj"], "bits": 3, "group_size": 32},
      {"match": "model.layers.7.*", "method": "skip"},
      {"match": "layers.7.mlp.up_proj", "method": "nf4", "block_size": 128}]})"));
  EXPECT_EQ(text(find(plan, "layers.2.mlp.down_proj")), "rtn8");
  EXPECT_EQ(text(find(plan, "layers.0.mlp.down_proj")), "rtn6");
  EXPECT_EQ(text(find(plan, "layers.1.mlp.down_proj")), "rtn3");
  EXPECT_EQ(find(plan, "layers.1.mlp.down_proj").settings["group_size"], 32);
  EXPECT_EQ(text(find(plan, "layers.0.self_attn.q_proj")), "gptq6");
  EXPECT_EQ(text(find(plan, "layers.0.self_attn.k_proj")), "gptq3");
  EXPECT_EQ(text(find(plan, "layers.3.self_attn.q_proj")), "gptq4");
  EXPECT_EQ(find(plan, "layers.7.mlp.up_proj").settings["block_size"], 128);
  EXPECT_EQ(plan.modules.size(), 50u);
  EXPECT_EQ(plan.kept.size(), 6u);
  EXPECT_EQ(plan.method_name(), "mixed");
  EXPECT_EQ(text(plan.typical()), "gptq4");
  EXPECT_TRUE(plan.is_typical(find(plan, "layers.3.self_attn.q_proj")));
  EXPECT_FALSE(plan.is_typical(find(plan, "layers.0.self_attn.q_proj")));
  double sum = 0;
  for (const PlannedModule& module : plan.modules)
    sum += module.method->bits(module.settings) * static_cast<double>(module.weights());
  EXPECT_DOUBLE_EQ(plan.bits(), sum / static_cast<double>(plan.weights));
}

TEST_F(PlanTest, AnotherMethodTakesOverTheParametersItShares) {
  PlanRequest asked = request("gptq", R"({"default": {"group_size": 32, "damping": 0.02},
      "rules": [{"match": "o_proj", "method": "rtn"}, {"match": "q_proj", "method": "int8", "bits": 8}]})");
  const Plan plan = plan_modules(*llama_, asked);
  EXPECT_EQ(find(plan, "0.self_attn.o_proj").settings["group_size"], 32);
  EXPECT_FALSE(find(plan, "0.self_attn.o_proj").settings.contains("damping"));
  EXPECT_EQ(text(find(plan, "0.self_attn.q_proj")), "int8");
  EXPECT_EQ(find(plan, "0.self_attn.v_proj").settings["damping"], 0.02);
}

TEST_F(PlanTest, IncludeAndExclude) {
  PlanRequest asked = request("rtn");
  asked.include = {"layers.0.*", "*.down_proj"};
  asked.exclude = {"q_proj", "layers.7.*"};
  const Plan plan = plan_modules(*llama_, asked);
  std::vector<std::string> names;
  for (const PlannedModule& module : plan.modules) names.push_back(module.info.name);
  EXPECT_EQ(names.size(), 6u + 6u);
  EXPECT_EQ(plan.kept.size(), 56u - 12u);
  for (const std::string& name : names) {
    EXPECT_TRUE(name.find("layers.0.") != std::string::npos || name.ends_with("down_proj")) << name;
    EXPECT_TRUE(name.find("q_proj") == std::string::npos &&
                name.find("layers.7.") == std::string::npos);
  }
  // An exclusion stands above the rules.
  asked = request("rtn", R"({"rules": [{"match": "layers.0.*", "method": "nf4"}]})");
  asked.exclude = {"layers.0.mlp.*"};
  EXPECT_EQ(plan_modules(*llama_, asked).modules.size(), 53u);
}

TEST_F(PlanTest, EmbeddingsOnlyWhenAskedFor) {
  const auto roles = [](const Plan& plan) {
    std::vector<std::string> names;
    for (const PlannedModule& module : plan.modules) {
      if (module.role != PlannedModule::Role::linear) names.push_back(module.info.name);
    }
    return names;
  };
  PlanRequest asked = request("rtn", R"({"rules": [{"match": "*", "bits": 8}]})");
  EXPECT_THAT(roles(plan_modules(*llama_, asked)), IsEmpty());
  asked.output_embedding = true;
  EXPECT_THAT(roles(plan_modules(*llama_, asked)), ElementsAre("lm_head"));
  asked.embeddings = true;
  const Plan both = plan_modules(*llama_, asked);
  EXPECT_THAT(roles(both), ElementsAre("model.embed_tokens", "lm_head"));
  EXPECT_EQ(both.modules.front().info.name, "model.embed_tokens");  // before all that depends on it
  EXPECT_EQ(both.modules.back().info.name, "lm_head");
  asked.exclude = {"lm_head"};
  EXPECT_THAT(roles(plan_modules(*llama_, asked)), ElementsAre("model.embed_tokens"));
  // By name, without a flag.
  asked = request("rtn", R"({"rules": [{"match": "lm_head", "method": "int8"}]})");
  EXPECT_THAT(roles(plan_modules(*llama_, asked)), ElementsAre("lm_head"));
  asked = request("rtn", R"({"rules": [{"match": "lm_head", "method": "skip"}]})");
  asked.output_embedding = true;
  EXPECT_THAT(roles(plan_modules(*llama_, asked)), IsEmpty());
  asked = request("rtn");
  asked.include = {"lm_head"};
  EXPECT_EQ(plan_modules(*llama_, asked).modules.size(), 1u);
}

TEST_F(PlanTest, ATiedMatrixIsOneModuleUnderBothNames) {
  for (const char* flags : {R"({"lm_head": true})", R"({"embeddings": true})",
                            R"({"rules": [{"match": "lm_head", "method": "rtn"}]})",
                            R"({"rules": [{"match": "wte", "method": "rtn"}]})"}) {
    const Plan plan = plan_modules(*gpt2_, request("rtn", flags));
    EXPECT_EQ(plan.modules.size(), 17u) << flags;
    EXPECT_EQ(plan.modules.front().info.name, "transformer.wte");
    EXPECT_EQ(plan.modules.front().role, PlannedModule::Role::lookup);
  }
}

TEST_F(PlanTest, ALookupNeverGetsACalibratedMethod) {
  const Plan plan = plan_modules(
      *gpt2_, request("gptq", R"({"default": {"bits": 3, "group_size": 64}, "lm_head": true})"));
  EXPECT_EQ(text(plan.modules.front()), "rtn3");
  EXPECT_EQ(plan.modules.front().settings["group_size"], 64);
  ASSERT_EQ(plan.notes.size(), 1u);
  EXPECT_THAT(plan.notes[0], HasSubstr("transformer.wte"));
  // Not tied, the output embedding is a linear module like others.
  const Plan untied = plan_modules(*llama_, request("gptq", R"({"lm_head": true})"));
  EXPECT_EQ(text(find(untied, "lm_head")), "gptq4");
  EXPECT_THAT(untied.notes, IsEmpty());
  const std::string refused = usage_of([&] {
    plan_modules(*llama_,
                 request("rtn", R"({"rules": [{"match": "embed_tokens", "method": "gptq"}]})"));
  });
  EXPECT_THAT(refused, HasSubstr("plan.json: rule 1"));
  EXPECT_THAT(refused, HasSubstr("model.embed_tokens"));
}

TEST_F(PlanTest, PatternsThatMatchNothingAreErrorsWithNames) {
  PlanRequest asked = request("rtn");
  asked.include = {"*.0.*", "*.downproj"};
  std::string error = usage_of([&] { plan_modules(*llama_, asked); });
  EXPECT_THAT(error, HasSubstr("--include: the pattern '*.downproj'"));
  EXPECT_THAT(error, HasSubstr("model.layers.0.self_attn.q_proj"));
  asked = request("rtn");
  asked.exclude = {"h.0.mlp.c_fc"};
  EXPECT_THAT(usage_of([&] { plan_modules(*llama_, asked); }), HasSubstr("--exclude: the pattern"));
  asked = request("rtn",
                  R"({"rules": [{"match": "q_proj", "bits": 3}, {"match": ["k_proj", "layers.8.*"],
                             "bits": 3}]})");
  error = usage_of([&] { plan_modules(*llama_, asked); });
  EXPECT_THAT(error, HasSubstr("plan.json: rule 2: the pattern 'layers.8.*'"));
  EXPECT_THAT(error, HasSubstr("there are model.layers.0."));
  asked = request("rtn");
  asked.exclude = {"*"};
  EXPECT_THAT(usage_of([&] { plan_modules(*llama_, asked); }), HasSubstr("nothing is left"));
}

TEST_F(PlanTest, RulesThatDoNotFitTheirModulesAreErrors) {
  const auto error = [&](const std::string& rules) {
    return usage_of([&] { plan_modules(*llama_, request("nf4", "{\"rules\": [" + rules + "]}")); });
  };
  EXPECT_THAT(error(R"({"match": "q_proj", "group_size": 64})"),
              HasSubstr("rule 1: method nf4 of model.layers.0.self_attn.q_proj has no parameter"));
  EXPECT_THAT(error(R"({"match": "*", "method": "rtn"}, {"match": "q_proj", "bits": 12})"),
              HasSubstr("rule 2: method rtn: bits must be"));
  EXPECT_THAT(error(R"({"match": "*", "method": "skip"}, {"match": "q_proj", "bits": 4})"),
              HasSubstr("rule 2"));
  EXPECT_THAT(error(R"({"match": "q_proj", "method": "rtn", "group_size": 512})"),
              HasSubstr("model.layers.0.self_attn.q_proj"));
  // What nf4 does anyway may be said.
  plan_modules(*llama_, request("nf4", R"({"rules": [{"match": "q_proj", "bits": 4}]})"));
}

TEST(PlanFile, ReadsEveryField) {
  const PlanFile plan = parse_plan(R"({"default": {"method": "gptq", "bits": 3, "group_size": 64},
      "lm_head": true, "embeddings": false, "rules": [{"match": ["a*", "b"], "method": "int8"}]})",
                                   "p");
  EXPECT_EQ(plan.method, "gptq");
  EXPECT_EQ(plan.given.dump(), R"({"bits":3,"group_size":64})");
  EXPECT_TRUE(plan.output_embedding);
  EXPECT_FALSE(plan.embeddings);
  ASSERT_EQ(plan.rules.size(), 1u);
  EXPECT_THAT(plan.rules[0].match, ElementsAre("a*", "b"));
  EXPECT_EQ(plan.rules[0].where, "p: rule 1");
}

TEST(PlanFile, IsCheckedStrictly) {
  const std::pair<const char*, const char*> wrong[] = {
      {R"([])", "p: a plan must be"},
      {R"({"rule": []})", "p: unknown field 'rule'"},
      {R"({"lm_head": 1})", "p: 'lm_head' must be"},
      {R"({"rules": {}})", "p: 'rules' must be"},
      {R"({"default": {"method": "magic"}})", "p: default: unknown method 'magic'"},
      {R"({"default": {"method": "skip"}})", "the default must be a method"},
      {R"({"default": {"method": "nf4", "bits": 3}})", "p: default: "},
      {R"({"default": {"bitz": 3}})", "p: default: unknown field 'bitz'"},
      {R"({"default": {"method": "gptq", "bits": 9}})", "p: default: "},
      {R"({"rules": [1]})", "p: rule 1: a rule must be"},
      {R"({"rules": [{"match": "a", "bits": 3}, {"bits": 3}]})",
       "p: rule 2: the rule has no 'match'"},
      {R"({"rules": [{"match": "a"}]})", "p: rule 1: the rule changes nothing"},
      {R"({"rules": [{"match": [], "bits": 3}]})", "p: rule 1: 'match' lists no pattern"},
      {R"({"rules": [{"match": 3, "bits": 3}]})", "p: rule 1: 'match' must be"},
      {R"({"rules": [{"match": "a[", "bits": 3}]})", "p: rule 1: the pattern"},
      {R"({"rules": [{"match": "a", "method": "gtpq"}]})", "did you mean 'gptq'"},
      {R"({"rules": [{"match": "a", "method": "nf4", "group_size": 3}]})", "p: rule 1: "},
      {R"({"rules": [{"match": "a", "method": "int8", "bits": 4}]})", "p: rule 1: "},
      {R"({"rules": [{"match": "a", "method": "skip", "bits": 4}]})", "p: rule 1: "},
      {R"({"rules": [{"match": "a", "group": 3}]})", "p: rule 1: unknown field 'group'"}};
  for (const auto& [text, message] : wrong)
    EXPECT_THAT(usage_of([&, text = text] { parse_plan(text, "p"); }), HasSubstr(message)) << text;
  EXPECT_THROW(parse_plan("{", "p"), Error);
  EXPECT_THROW(parse_plan(R"({"rules": [], "rules": []})", "p"), Error);
}

}  // namespace
}  // namespace qwb
