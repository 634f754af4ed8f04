// config.json as transformers reads it: every family, every key that could change a result, absent,
// null, in its old and new spelling and both (tests/golden/make_config_defaults.py).
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/model/config.h"

namespace qwb {
namespace {

Json config_golden(const char* name) {
  return parse_json(read_text(Path(QWB_SOURCE_DIR) / "tests/golden" / name), name);
}

// A case is what differs from its family's first one.
Json changed(const Json& first, const Json& difference) {
  Json result = first;
  if (difference.contains("-")) {
    for (const Json& key : difference["-"]) result.erase(key.get<std::string>());
  }
  if (difference.contains("+")) {
    for (const auto& [key, value] : difference["+"].items()) result[key] = value;
  }
  return result;
}

std::string activation_name(Activation activation) {
  switch (activation) {
    case Activation::silu:
      return "silu";
    case Activation::gelu_tanh:
      return "tanh";
    case Activation::gelu_erf:
      return "gelu";
    case Activation::quick_gelu:
      return "quick";
    case Activation::relu:
      return "relu";
  }
  return "";
}

Json read_sizes(const ModelConfig& c) {
  Json result = {{"vocab", c.vocab},
                 {"hidden", c.hidden},
                 {"layers", c.layers},
                 {"heads", c.heads},
                 {"positions", c.max_positions},
                 {"activation", activation_name(c.activation)},
                 {"tied", c.tied_embeddings},
                 {"bos", c.bos < 0 ? Json(nullptr) : Json(c.bos)},
                 {"intermediate", c.intermediate},
                 {"kv_heads", c.kv_heads},
                 {"head_dim", c.head_dim},
                 {"windows", c.window}};
  return result;
}

void expect_numbers(const Json& expected, const std::vector<double>& found,
                    const std::string& what) {
  ASSERT_EQ(expected.size(), found.size()) << what;
  for (size_t i = 0; i < found.size(); ++i) {
    const auto value = expected[i].get<double>();
    EXPECT_NEAR(found[i], value, 2e-6 * std::abs(value)) << what;
  }
}

// Kinds of rotary embeddings, and multipliers.
void expect_layers(const ModelConfig& c, const Json& expected, const std::string& what) {
  if (expected.contains("layer_ropes")) {
    const std::vector<LayerRope> kinds =
        c.rope.layers.empty()
            ? std::vector<LayerRope>(static_cast<size_t>(c.layers), LayerRope::whole)
            : c.rope.layers;
    Json names = Json::array();
    for (const LayerRope kind : kinds)
      names.push_back(kind == LayerRope::none    ? "none"
                      : kind == LayerRope::whole ? "whole"
                                                 : "local");
    EXPECT_EQ(names, expected["layer_ropes"]) << what;
  }
  const std::vector<float>& local = c.rope.local_frequencies;
  if (expected.contains("local"))
    expect_numbers(expected["local"], {local.begin(), local.end()}, what);
  const std::vector<double> multipliers = {static_cast<double>(c.embedding_scale),
                                           static_cast<double>(c.residual_scale),
                                           static_cast<double>(c.logit_scale)};
  if (expected.contains("multipliers")) expect_numbers(expected["multipliers"], multipliers, what);
}

void expect_config(const Json& raw, const Json& expected) {
  const std::string what = raw.dump();
  const ModelConfig c = parse_config(raw, what);
  const Json sizes = read_sizes(c);
  for (const auto& [key, value] : sizes.items())
    EXPECT_EQ(value, expected[key]) << key << " " << what;
  const Json& eos = expected["eos"];
  EXPECT_EQ(Json(c.eos), eos.is_null()    ? Json::array()
                         : eos.is_array() ? eos
                                          : Json::array({eos}))
      << what;
  EXPECT_NEAR(c.norm_eps, expected["eps"].get<double>(), 1e-12) << what;
  EXPECT_NEAR(c.rope.attention_factor, expected["attention_factor"].get<double>(), 1e-6) << what;
  expect_numbers(expected["frequencies"], {c.rope.frequencies.begin(), c.rope.frequencies.end()},
                 what);
  expect_layers(c, expected, what);
  if (expected.contains("experts")) {
    EXPECT_EQ(c.experts, expected["experts"]) << what;
    EXPECT_EQ(c.experts_used, expected["used"]) << what;
  }
  if (expected.contains("caps"))
    expect_numbers(
        expected["caps"],
        {static_cast<double>(c.attention_soft_cap), static_cast<double>(c.logit_soft_cap)}, what);
  if (expected["scales"].empty()) return;  // too large a model to make
  std::vector<double> scales;
  for (size_t i = 0; i < c.window.size(); ++i)
    scales.push_back(static_cast<double>(c.attention_scale) *
                     (c.layer_scale.empty() ? 1 : static_cast<double>(c.layer_scale[i])));
  expect_numbers(expected["scales"], scales, what);
  if (expected.contains("mlp_bias")) {
    if (c.architecture != "qwen2") {
      EXPECT_EQ(c.attention_bias, expected["attention_bias"]) << what;
    }
    EXPECT_EQ(c.mlp_bias, expected["mlp_bias"]) << what;
  }
}

// SmolLM3's sliding layers with use_sliding_window off: transformers' attentions differ about them.
bool slides_by_name_only(const Json& raw) {
  return raw["model_type"] == "smollm3" && !raw.value("use_sliding_window", false) &&
         json_has(raw, "layer_types") && raw["layer_types"][0] == "sliding_attention";
}

// Taken for nothing there: Gemma 3's parameters are by kind of layer.
bool flat_rope_of_gemma3(const Json& raw) {
  return raw["model_type"] == "gemma3_text" && json_has(raw, "rope_parameters") &&
         (raw["rope_parameters"].contains("rope_type") || raw["rope_parameters"].contains("type"));
}

// What transformers runs and this build refuses by name; all else must be equal.
bool may_be_refused(const Json& raw, const Json& expected) {
  const Json scaling = json_has(raw, "rope_scaling") ? raw["rope_scaling"] : Json::object();
  const Json parameters =
      json_has(raw, "rope_parameters") ? raw["rope_parameters"] : Json::object();
  for (const Json& rope : {scaling, parameters}) {
    for (const char* key : {"rope_type", "type"}) {
      for (const char* kind : {"dynamic", "longrope", "proportional"}) {
        if (rope.is_object() && rope.contains(key) && rope[key] == kind) return true;
      }
    }
  }
  const std::set<std::string> known = {"silu", "gelu", "quick", "relu", "tanh"};
  if (raw.contains("is_causal") && raw["is_causal"] != true) return true;
  if (slides_by_name_only(raw) || flat_rope_of_gemma3(raw)) return true;
  if (expected.contains("bidirectional") || expected.contains("refused") ||
      (raw["model_type"].get<std::string>().starts_with("gemma") &&
       expected.value("attention_bias", false)))
    return true;
  for (const char* key : {"final_logit_softcapping", "attn_logit_softcapping"}) {
    if (raw.contains(key) && raw[key] == 0.0) return true;  // the logits are no numbers there
  }
  if (raw.contains("head_dim") && raw["head_dim"] == 0) return true;  // counts as absent there
  return expected["positions"] == 0 || expected["head_dim"].get<int64_t>() % 2 != 0 ||
         !known.contains(expected["activation"].get<std::string>());
}

// What only transformers refuses, though it has one meaning: values of another type, and (a slip)
// yarn for Mixtral without a head_dim; and Mixtral's grouped products want sizes that torch can
// align.
bool only_too_strict(const Json& raw) {
  if (raw["model_type"] == "mixtral" && !json_has(raw, "head_dim") &&
      raw.dump().find("\"yarn\"") != std::string::npos)
    return true;
  if (raw["model_type"] == "mixtral" && raw.contains("hidden_size") && raw["hidden_size"] == 30)
    return true;
  // "su", the old name of longrope, fails for want of a length that its new name gets.
  if (raw["model_type"] == "phi3" && raw.dump().find("\"su\"") != std::string::npos) return true;
  if (raw.contains("logit_scale") && raw["logit_scale"].is_number_integer()) return true;
  const auto null = [&](const char* key) { return raw.contains(key) && raw[key].is_null(); };
  // A ministral without a window cannot be run even where no layer slides.
  if (raw["model_type"] == "mistral" && raw.contains("layer_types") && null("sliding_window"))
    return true;
  return (raw.contains("rms_norm_eps") && raw["rms_norm_eps"] == 1) || null("attention_dropout") ||
         null("head_dim") || null("max_window_layers") ||
         (raw.contains("query_pre_attn_scalar") &&
          raw["query_pre_attn_scalar"].is_number_float()) ||
         null("resid_pdrop") || (raw.contains("sliding_window") && raw["sliding_window"] == 0);
}

void compare_config(const Json& raw, const Json& expected) {
  try {
    expect_config(raw, expected);
  } catch (const Error& error) {
    EXPECT_TRUE(may_be_refused(raw, expected)) << raw.dump() << ": " << error.what();
  }
}

TEST(ConfigDefaults, AreThoseOfTransformers) {
  for (const char* name : {"config_defaults.json", "config_families.json"}) {
    const Json golden = config_golden(name);
    for (const Json& c : golden["cases"]) {
      const Json& first = golden["firsts"][c[0].get<std::string>()];
      const Json raw = changed(first[0], c[1]);
      if (!c[2].is_null()) {
        compare_config(raw, changed(first[1], c[2]));
      } else if (!only_too_strict(raw)) {
        EXPECT_THROW(parse_config(raw, ""), Error) << raw.dump();
      }
    }
  }
}

// transformers then makes attention see both ways; null and 0 are false in Python.
TEST(ConfigDefaults, AttentionInBothDirectionsIsRefused) {
  Json config = {{"model_type", "llama"}, {"hidden_size", 64}, {"num_attention_heads", 4}};
  EXPECT_NO_THROW(parse_config(config, "config.json"));
  for (const Json& no : {Json(false), Json(nullptr), Json(0), Json("")}) {
    config["is_causal"] = no;
    EXPECT_THROW(parse_config(config, "config.json"), Error) << no;
  }
  config["is_causal"] = true;
  EXPECT_NO_THROW(parse_config(config, "config.json"));
}

// AutoConfig takes a mistral with layer_types for a ministral.
TEST(ConfigDefaults, LayersOfAMistralThatNamesThem) {
  const Json config = {{"model_type", "mistral"},  {"hidden_size", 64},
                       {"num_hidden_layers", 3},   {"num_attention_heads", 4},
                       {"num_key_value_heads", 2}, {"sliding_window", 16}};
  const auto windows = [&](const Json& types) {
    Json named = config;
    if (!types.is_null()) named["layer_types"] = types;
    return parse_config(named, "config.json").window;
  };
  const char *full = "full_attention", *slides = "sliding_attention";
  EXPECT_EQ(windows(nullptr), (std::vector<int64_t>{16, 16, 16}));
  EXPECT_EQ(windows({full, slides, full}), (std::vector<int64_t>{0, 16, 0}));
  EXPECT_EQ(windows({full, full, full}), (std::vector<int64_t>{0, 0, 0}));
  EXPECT_THROW(windows({full, slides}), Error);
}

}  // namespace
}  // namespace qwb
