// A model against its config.json: what is missing, what contradicts, what is left over, what two
// embeddings that ought to be one are taken for.
#include "formats/model_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/convert.h"
#include "formats/safetensors/safetensors.h"
#include "lib/model/model.h"
#include "tests/base/context_helper.h"
#include "tests/formats/files_helper.h"
#include "tests/formats/tiny_model_helper.h"

namespace qwb {
namespace {

using testing::HasSubstr;

void expect_refused(const TinyModel& model, ErrorKind kind, const std::string& part) {
  const TemporaryFolder folder;
  expect_error(kind, part, [&] { open_model(model.write(folder.path() / "m")); });
}

// What was told while it was opened.
std::string told(const TinyModel& model) {
  const TemporaryFolder folder;
  Notes notes;
  const OpenModel open = open_model(model.write(folder.path() / "m"), context_telling(notes));
  Model::load(open.source, open.config, open.config_name());
  return notes.all;
}

TEST(ModelCheck, WholeModelsPassWithoutAWord) {
  EXPECT_EQ(told({}), "");
  TinyModel tied;
  tied.config["tie_word_embeddings"] = true;
  tied.tensors.erase("lm_head.weight");
  EXPECT_EQ(told(tied), "");
  TinyModel packed;
  packed.pack_all_gptq(0x77777777u);
  EXPECT_EQ(told(packed), "");
}

TEST(ModelCheck, EveryMissingTensorIsNamed) {
  const TinyModel whole;
  for (const auto& [name, tensor] : whole.tensors) {
    TinyModel model;
    model.tensors.erase(name);
    expect_refused(model, ErrorKind::not_found, "'" + name + "' is missing");
  }
}

TEST(ModelCheck, EverySizeIsThatOfTheConfig) {
  for (const char* key : {"vocab_size", "intermediate_size", "hidden_size"}) {
    TinyModel model;
    model.config[key] = 96;
    model.config["head_dim"] = 32;
    expect_refused(model, ErrorKind::failed, "config.json asks for");
  }
  TinyModel deeper;
  deeper.config["num_hidden_layers"] = 3;
  expect_refused(deeper, ErrorKind::not_found, "model.layers.2.");
  TinyModel shallower;
  shallower.config["num_hidden_layers"] = 1;
  expect_refused(shallower, ErrorKind::unsupported, "beyond the 1 of config.json");
  TinyModel packed;
  packed.pack_all_gptq(0x77777777u);
  packed.config["intermediate_size"] = 256;
  expect_refused(packed, ErrorKind::failed, "quantized weight of");
}

TEST(ModelCheck, TensorsThatWouldChangeTheResultAreRefused) {
  for (const char* name :
       {"model.layers.0.self_attn.q_norm.weight", "model.layers.1.self_attn.o_proj.bias",
        "model.layers.0.mlp.up_proj.bias", "model.layers.0.post_feedforward_layernorm.weight",
        "model.norm.bias", "lm_head.bias", "model.layers.7.input_layernorm.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.lora_B.weight"}) {
    TinyModel model;
    model.add(name, {64});
    expect_refused(model, ErrorKind::unsupported, name);
  }
}

TEST(ModelCheck, TensorsWithoutEffectPassInSilence) {
  TinyModel model;
  model.add("model.layers.0.self_attn.rotary_emb.inv_freq", {16}, 3);
  model.add("model.layers.0.self_attn.o_proj.bias", {64}, 0);
  model.add("model.layers.1.mlp.up_proj.bias", {128}, 0);
  EXPECT_EQ(told(model), "");
}

// Pythia's files on the Hub hold them.
TEST(ModelCheck, MasksOfOlderFilesPassInSilence) {
  const Path golden = Path(QWB_SOURCE_DIR) / "tests/golden/model/gpt_neox";
  TinyModel model;
  model.config = parse_json(read_text(golden / "config.json"), "config");
  model.tensors.clear();
  const auto file = SafetensorsFile::open(golden / "model.safetensors");
  for (const SafetensorsEntry& entry : file.header().tensors) {
    Tensor tensor(entry.dtype, entry.shape);
    const Bytes bytes = file.view(entry).bytes;
    std::copy(bytes.begin(), bytes.end(), tensor.bytes().begin());
    model.tensors.emplace(entry.name, std::move(tensor));
  }
  model.add("gpt_neox.layers.0.attention.bias", {1, 1, 8, 8}, 1);
  model.add("gpt_neox.layers.0.attention.masked_bias", {}, -1e9f);
  EXPECT_EQ(told(model), "");
  model.add("gpt_neox.layers.0.attention.bias", {8}, 1);
  expect_refused(model, ErrorKind::unsupported, "attention.bias' has no part in a gpt_neox");
}

TEST(ModelCheck, TensorsOfOtherModelsAreTold) {
  TinyModel model;
  model.add("mtp.fc.weight", {4, 4});
  model.add("vision_tower.patch.weight", {4, 4});
  EXPECT_THAT(told(model), HasSubstr("2 tensors (mtp.fc.weight, vision_tower.patch.weight)"));
}

// attention_bias decides, not what happens to lie in the file.
TEST(ModelCheck, BiasesAreThoseOfTheConfig) {
  TinyModel model;
  for (const std::string& module : tiny_linears()) {
    const Shape shape = model.tensors.at(module + ".weight").shape();
    model.add(module + ".bias", {shape[0]});
  }
  expect_refused(model, ErrorKind::unsupported, ".bias' has no part in a llama");
  model.config["attention_bias"] = true;
  expect_refused(model, ErrorKind::unsupported, "mlp.");
  model.config["mlp_bias"] = true;
  EXPECT_EQ(told(model), "");
  model.tensors.erase("model.layers.1.self_attn.k_proj.bias");
  expect_refused(model, ErrorKind::not_found, "model.layers.1.self_attn.k_proj.bias");
}

TEST(ModelCheck, EmbeddingsThatDifferAreNotTied) {
  const TemporaryFolder folder;
  TinyModel model;
  model.config["tie_word_embeddings"] = true;
  Notes notes;
  const OpenModel open = open_model(model.write(folder.path() / "differ"), context_telling(notes));
  EXPECT_THAT(notes.all, HasSubstr("lm_head"));
  EXPECT_EQ(open.config.at("tie_word_embeddings"), false);
  const auto loaded = Model::load(open.source, open.config, open.config_name());
  EXPECT_EQ(loaded->spec().output_embedding, "lm_head");
  const std::string hash = open.content_hash();
  // What is written says what was meant, so that every loader takes both.
  Conversion conversion(open, find_format("huggingface"), {});
  conversion.write(folder.path() / "copy");
  Notes silent;
  const OpenModel copy = open_model(folder.path() / "copy", context_telling(silent));
  EXPECT_EQ(silent.all, "");
  EXPECT_EQ(copy.config.at("tie_word_embeddings"), false);

  model.tensors.insert_or_assign("lm_head.weight", [&] {
    const Tensor& table = model.tensors.at("model.embed_tokens.weight");
    Tensor same(table.dtype(), table.shape());
    std::copy_n(table.data<float>(), table.count(), same.data<float>());
    return same;
  }());
  Notes none;
  const OpenModel tied = open_model(model.write(folder.path() / "same"), context_telling(none));
  EXPECT_EQ(none.all, "");
  EXPECT_EQ(tied.config.at("tie_word_embeddings"), true);
  EXPECT_NE(tied.content_hash(), hash);
}

// Of two tied embeddings either name will do, as transformers 5 loads them; without the tie one is
// missing.
TEST(ModelCheck, AHeadAloneIsTheTiedEmbeddingToo) {
  const TemporaryFolder folder;
  TinyModel model;
  model.config["tie_word_embeddings"] = true;
  model.tensors.erase("lm_head.weight");
  const std::string hash = open_model(model.write(folder.path() / "usual")).content_hash();
  auto entry = model.tensors.extract("model.embed_tokens.weight");
  entry.key() = "lm_head.weight";
  model.tensors.insert(std::move(entry));
  Notes notes;
  const OpenModel open = open_model(model.write(folder.path() / "head"), context_telling(notes));
  EXPECT_THAT(notes.all, HasSubstr("lm_head.weight is taken for model.embed_tokens.weight"));
  EXPECT_TRUE(open.source->find("model.embed_tokens.weight"));
  EXPECT_EQ(open.content_hash(), hash);
  Conversion(open, find_format("huggingface"), {}).write(folder.path() / "copy");
  Notes none;
  EXPECT_EQ(open_model(folder.path() / "copy", context_telling(none)).content_hash(), hash);
  EXPECT_EQ(none.all, "");
  model.config["tie_word_embeddings"] = false;
  expect_refused(model, ErrorKind::not_found, "'model.embed_tokens.weight' is missing");
}

TEST(ModelCheck, PartsOfQuantizedWeightsAreNotLeftOver) {
  TinyModel model;
  model.pack_all_gptq(0x77777777u);
  model.tensors.erase("model.layers.0.mlp.up_proj.qweight");
  expect_refused(model, ErrorKind::failed, "model.layers.0.mlp.up_proj.");
  for (const char* part : {".qzeros", ".scales"}) {
    TinyModel incomplete;
    incomplete.pack_all_gptq(0x77777777u);
    incomplete.tensors.erase(std::string("model.layers.1.mlp.gate_proj") + part);
    expect_refused(incomplete, ErrorKind::failed, "model.layers.1.mlp.gate_proj");
  }
  TinyModel unannounced;
  unannounced.pack_all_gptq(0x77777777u);
  unannounced.config.erase("quantization_config");
  expect_refused(unannounced, ErrorKind::unsupported, "no quantization_config");
}

// LLM.int8 codes without SCB are no weights.
TEST(ModelCheck, CodesWithoutScalesAreNamed) {
  TinyModel model;
  for (const std::string& module : tiny_linears()) {
    const Shape shape = model.tensors.at(module + ".weight").shape();
    model.tensors.insert_or_assign(module + ".weight", Tensor(DType::i8, shape));
    if (!module.ends_with("up_proj")) model.add(module + ".SCB", {shape[0]});
  }
  model.config["quantization_config"] = {{"quant_method", "bitsandbytes"}, {"load_in_8bit", true}};
  expect_refused(model, ErrorKind::failed, "SCB");
  model.config["quantization_config"]["load_in_8bit"] = false;
  model.config["quantization_config"]["load_in_4bit"] = true;
  expect_refused(model, ErrorKind::failed, "config.json says 4 bits, and the tensors have 8");
}

TEST(ModelCheck, ConversionsRefuseWhatIsIncomplete) {
  const TemporaryFolder folder;
  TinyModel model;
  model.tensors.erase("model.norm.weight");
  const Path path = model.write(folder.path() / "m");
  for (const char* target : {"huggingface", "gptq", "qwb"}) {
    expect_error(ErrorKind::not_found, "model.norm.weight",
                 [&] { Conversion(open_model(path), find_format(target), {}); });
  }
}

}  // namespace
}  // namespace qwb
