// Settings of GPT-NeoX and the families around it, and of mixtures of experts, that would change a
// result and that this build does not know: refused by name. Slopes of ALiBi as transformers has
// them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/model/architectures/plain_family.h"
#include "lib/model/config.h"

namespace qwb {
namespace {

using testing::HasSubstr;

Json family_config(const std::string& golden) {
  const Path file = Path(QWB_SOURCE_DIR) / "tests/golden/model" / golden / "config.json";
  return parse_json(read_text(file), golden);
}

struct Refusal {
  const char *golden, *change, *said;
  ErrorKind kind = ErrorKind::unsupported;
};

TEST(FamilyConfig, SettingsThatAreNotKnownAreRefused) {
  const Refusal cases[] = {
      {"gpt_neox", R"({"rope_theta": 500.0, "rotary_emb_base": 300})", "'rope_theta' of GPT-NeoX"},
      {"gpt_neox", R"({"partial_rotary_factor": 1.0})", "'partial_rotary_factor' of GPT-NeoX"},
      {"gpt_neox", R"({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}})", "'dynamic'"},
      {"gpt_neox", R"({"hidden_act": "swish9"})", "swish9"},
      {"gptj", R"({"rotary_dim": 5})", "'rotary_dim'", ErrorKind::failed},
      {"gptj", R"({"rotary_dim": 10})", "'rotary_dim'", ErrorKind::failed},
      {"opt", R"({"do_layer_norm_before": false})", "'do_layer_norm_before'"},
      {"opt", R"({"word_embed_proj_dim": 8})", "'word_embed_proj_dim'"},
      {"opt", R"({"_remove_final_layer_norm": true})", "'_remove_final_layer_norm'"},
      {"opt", R"({"layer_norm_elementwise_affine": false})", "'layer_norm_elementwise_affine'"},
      {"bloom", R"({"apply_residual_connection_post_layernorm": true})", "post_layernorm"},
      {"bloom", R"({"slow_but_exact": true, "pretraining_tp": 2})", "'slow_but_exact'"},
      {"falcon_7b", R"({"alibi": true})", "'alibi' of Falcon"},
      {"falcon_7b", R"({"num_ln_in_parallel_attn": 2})", "norms"},
      {"falcon_7b", R"({"multi_query": false, "num_kv_heads": 1})", "'num_kv_heads'"},
      {"falcon_40b", R"({"parallel_attn": false})", "norms"},
      {"falcon_40b", R"({"num_kv_heads": 4})", "'num_kv_heads'", ErrorKind::failed},
      {"mpt", R"({"attn_config": {"alibi": false}})", "'alibi'"},
      {"mpt", R"({"attn_config": {"alibi_bias_max": 16}})", "'alibi_bias_max'"},
      {"mpt", R"({"attn_config": {"clip_qkv": 6}})", "'clip_qkv'"},
      {"mpt", R"({"attn_config": {"qk_ln": true}})", "'qk_ln'"},
      {"mpt", R"({"attn_config": {"prefix_lm": true}})", "'prefix_lm'"},
      {"mpt", R"({"attn_config": {"attn_type": "multiquery_attention"}})", "'attn_type'"},
      {"mpt", R"({"expansion_ratio": 2})", "'expansion_ratio'"},
      {"mpt", R"({"norm_type": "rmsnorm"})", "'norm_type'"},
      {"mpt", R"({"no_bias": false})", "'no_bias'"},
      {"mpt", R"({"logit_scale": "inv_sqrt_d_model"})", "'logit_scale'"},
      {"qwen2_moe", R"({"use_sliding_window": true})", "'use_sliding_window'"},
      {"qwen2_moe", R"({"mlp_only_layers": [7]})", "'mlp_only_layers'", ErrorKind::failed},
      {"qwen3_moe", R"({"use_sliding_window": true})", "'use_sliding_window'"},
      {"qwen3_moe", R"({"num_experts_per_tok": 6})", "'num_experts_per_tok'", ErrorKind::failed},
      {"olmoe", R"({"clip_qkv": 8.0})", "'clip_qkv'"},
  };
  for (const Refusal& test : cases) {
    SCOPED_TRACE(std::string(test.golden) + " " + test.change);
    Json config = family_config(test.golden);
    EXPECT_NO_THROW(parse_config(config, "config"));
    config.merge_patch(parse_json(test.change, "change"));
    try {
      parse_config(config, "config");
      ADD_FAILURE() << "parsed";
    } catch (const Error& error) {
      EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(test.kind)) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(test.said));
    }
  }
}

// Old names beside new ones that say the same, and keys that are null for nothing.
TEST(FamilyConfig, OlderSpellingsAreRead) {
  Json neox = family_config("gpt_neox");
  neox.erase("rope_parameters");
  neox.merge_patch({{"rotary_pct", 0.5}, {"rotary_emb_base", 300}, {"rope_theta", 300.0}});
  const ModelConfig c = parse_config(neox, "config");
  ASSERT_EQ(c.rope.frequencies.size(), 2U);  // half of heads of 8
  EXPECT_NEAR(c.rope.frequencies[1], 1 / std::sqrt(300.0), 1e-7);
  Json bloom = family_config("bloom");
  bloom["n_embed"] = nullptr;
  EXPECT_EQ(parse_config(bloom, "config").hidden, 12);
  bloom["n_embed"] = 24;
  EXPECT_EQ(parse_config(bloom, "config").hidden, 24);
}

// build_alibi_tensor of BLOOM and build_mpt_alibi_tensor of transformers 5.24, as exponents of 1/2.
TEST(FamilyConfig, SlopesForAnyNumberOfHeads) {
  const auto exponents = [](const std::vector<float>& slopes) {
    std::vector<float> list;
    for (const float slope : slopes) list.push_back(-std::log2(slope));
    return list;
  };
  using testing::ElementsAre;
  EXPECT_THAT(exponents(alibi_slopes(4)), ElementsAre(2, 4, 6, 8));
  EXPECT_THAT(exponents(alibi_slopes(6)), ElementsAre(2, 4, 6, 8, 1, 3));
  EXPECT_THAT(exponents(mpt_slopes(4)), ElementsAre(2, 4, 6, 8));
  EXPECT_THAT(exponents(mpt_slopes(6)), ElementsAre(2, 4, 6, 8, 1, 3));
  EXPECT_THAT(exponents(mpt_slopes(3)), ElementsAre(4, 8, 2));
  EXPECT_THAT(exponents(alibi_slopes(3)), ElementsAre(4, 8, 2));
  EXPECT_THAT(exponents(alibi_slopes(1)), ElementsAre(8));
  EXPECT_THAT(exponents(mpt_slopes(1)), ElementsAre(8));
}

}  // namespace
}  // namespace qwb
