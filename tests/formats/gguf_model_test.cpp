// Models as GGUF: files of the Python package gguf against the checkpoints they were made from
// (tests/golden/make_gguf.py), and our own files read back.
#include <gtest/gtest.h>

#include <random>

#include "formats/companions.h"
#include "formats/gguf/model.h"
#include "formats/gguf/tokenizer.h"
#include "formats/registry.h"
#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/model/config.h"
#include "lib/quantize/encode/ggml_quants.h"
#include "tests/base/context_helper.h"
#include "tests/formats/convert_helper.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

const Path kGgufGolden = Path(QWB_SOURCE_DIR) / "tests/golden";
const Path kGgufDemo = Path(QWB_SOURCE_DIR) / "recipes/demo";

class Notes : public Progress {
 public:
  void note(const std::string& text) override { all += text + "\n"; }
  std::string all;
};

OpenModel exported(const OpenModel& open, const Path& target, const ConvertOptions& options) {
  write_gguf(open, target, options);
  return open_model(target);
}

std::string without_prefix(const std::string& name) {
  return name.starts_with("transformer.") ? name.substr(12) : name;
}

// Same tensors, by names and bits.
void expect_same_tensors(const OpenModel& a, const OpenModel& b) {
  std::map<std::string, std::string> names;
  for (const std::string& name : b.source->names()) names.emplace(without_prefix(name), name);
  size_t compared = 0;
  for (const std::string& name : a.source->names()) {
    const TensorView view = *a.source->find(name);
    ASSERT_TRUE(names.contains(without_prefix(name))) << name;
    const TensorView other = *b.source->find(names.at(without_prefix(name)));
    EXPECT_EQ(view.shape, other.shape) << name;
    EXPECT_EQ(read_floats(view, name), read_floats(other, name)) << name;
    ++compared;
  }
  EXPECT_EQ(compared, names.size());
}

void expect_same_config(const OpenModel& a, const OpenModel& b) {
  const ModelConfig x = parse_config(a.config, "a"), y = parse_config(b.config, "b");
  EXPECT_EQ(x.architecture, y.architecture);
  EXPECT_EQ((std::vector{x.vocab, x.hidden, x.intermediate, x.layers, x.heads, x.kv_heads,
                         x.head_dim, x.max_positions}),
            (std::vector{y.vocab, y.hidden, y.intermediate, y.layers, y.heads, y.kv_heads,
                         y.head_dim, y.max_positions}));
  EXPECT_EQ(x.norm_eps, y.norm_eps);
  EXPECT_EQ(x.activation, y.activation);
  EXPECT_EQ(x.tied_embeddings, y.tied_embeddings);
  EXPECT_EQ(x.window, y.window);
  EXPECT_FLOAT_EQ(x.rope.attention_factor, y.rope.attention_factor);
  ASSERT_EQ(x.rope.frequencies.size(), y.rope.frequencies.size());
  for (size_t i = 0; i < x.rope.frequencies.size(); ++i)
    EXPECT_NEAR(x.rope.frequencies[i], y.rope.frequencies[i],
                2e-5 * static_cast<double>(x.rope.frequencies[i]));
}

class GgufGolden : public testing::TestWithParam<std::string> {};

// Names, shapes, row orders and settings are those of the checkpoint that another program
// converted.
TEST_P(GgufGolden, IsTheCheckpoint) {
  const OpenModel original = open_model(kGgufGolden / "model" / GetParam());
  const OpenModel gguf = open_model(kGgufGolden / "gguf" / (GetParam() + ".gguf"));
  EXPECT_EQ(gguf.format, "gguf");
  expect_same_tensors(original, gguf);
  expect_same_config(original, gguf);
}

INSTANTIATE_TEST_SUITE_P(Models, GgufGolden, testing::Values("llama_llama3", "qwen3", "gpt2"),
                         [](const auto& case_) { return case_.param; });

class GgufRoundTrip : public testing::TestWithParam<std::string> {};

TEST_P(GgufRoundTrip, KeepsEverything) {
  const TemporaryFolder folder;
  const OpenModel original = open_model(kGgufGolden / "model" / GetParam());
  const OpenModel gguf = exported(original, folder.path() / "m.gguf", gguf_type(std::nullopt));
  expect_same_tensors(original, gguf);
  expect_same_config(original, gguf);
  // From GGUF to GGUF the bytes stay.
  write_gguf(gguf, folder.path() / "again.gguf", gguf_type(std::nullopt));
  const GgufFile first = GgufFile::open(folder.path() / "m.gguf");
  const GgufFile second = GgufFile::open(folder.path() / "again.gguf");
  EXPECT_EQ(first.tensor_names(), second.tensor_names());
  for (const std::string& name : first.tensor_names())
    EXPECT_EQ(as_text(first.bytes(*first.find(name))), as_text(second.bytes(*second.find(name))))
        << name;
}

INSTANTIATE_TEST_SUITE_P(Models, GgufRoundTrip,
                         testing::Values("llama", "llama_tied_head_dim", "llama_linear",
                                         "llama_llama3", "llama_yarn", "mistral", "qwen2", "qwen3",
                                         "gpt2"),
                         [](const auto& case_) { return case_.param; });

TEST(GgufExport, MatchesThePackageByteForByte) {
  const TemporaryFolder folder;
  const OpenModel original = open_model(kGgufGolden / "model/llama_llama3");
  write_gguf(original, folder.path() / "m.gguf", gguf_type(GgmlType::f32));
  const GgufFile ours = GgufFile::open(folder.path() / "m.gguf");
  const GgufFile theirs = GgufFile::open(kGgufGolden / "gguf/llama_llama3.gguf");
  EXPECT_EQ(ours.tensor_names().size(), theirs.tensor_names().size());
  for (const std::string& name : theirs.tensor_names()) {
    const GgufTensor* tensor = ours.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(tensor->shape, theirs.find(name)->shape) << name;
    if (name == "rope_freqs.weight") continue;  // computed in another precision there
    EXPECT_EQ(as_text(ours.bytes(*tensor)), as_text(theirs.bytes(*theirs.find(name)))) << name;
  }
}

TEST(GgufExport, RefusesAndTells) {
  const TemporaryFolder folder;
  const OpenModel scaled = open_model(kGgufGolden / "model/gpt2_scaled");
  expect_error(ErrorKind::unsupported, "no place in GGUF",
               [&] { write_gguf(scaled, folder.path() / "m.gguf", gguf_type(GgmlType::f32)); });
  Notes notes;
  const OpenModel mistral = open_model(kGgufGolden / "model/mistral");
  const auto modules = write_gguf(mistral, folder.path() / "m.gguf", gguf_type(GgmlType::q4_k),
                                  context_telling(notes));
  EXPECT_THAT(notes.all, testing::HasSubstr("sliding window of 9"));
  EXPECT_THAT(notes.all, testing::HasSubstr("no tokenizer"));
  // Rows of 32 fall back to Q5_0; rows of 56 have no blocks at all.
  EXPECT_THAT(notes.all, testing::HasSubstr(
                             "blk.0.attn_q.weight: rows of 32 are not whole blocks of Q4_K: Q5_0"));
  EXPECT_THAT(
      notes.all,
      testing::HasSubstr("blk.0.ffn_down.weight: rows of 56 are not whole blocks of Q4_K: F16"));
  for (const ConvertedModule& module : modules) EXPECT_NE(module.how, How::exact) << module.tensor;
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "m.gguf"));
}

// Quantized rows are the quantizer's own, in Hugging Face order, at any number of threads.
TEST(GgufExport, QuantizedDemo) {
  const TemporaryFolder folder;
  const OpenModel original = open_model(kGgufDemo / "llama");
  ConvertOptions options = gguf_type(GgmlType::q4_0);
  options.types.embedding = GgmlType::q6_k;
  const OpenModel gguf = exported(original, folder.path() / "m.gguf", options);
  EXPECT_EQ(gguf.source->quantized_modules().size(), 58u);
  for (const std::string name :
       {"model.layers.3.self_attn.q_proj", "model.layers.3.self_attn.k_proj",
        "model.layers.3.mlp.down_proj", "model.embed_tokens", "lm_head"}) {
    const Weight weight = gguf.source->quantized(name).value();
    const std::vector<float> values = read_floats(*original.source->find(name + ".weight"), name);
    const GgmlType type = name == "model.embed_tokens" ? GgmlType::q6_k : GgmlType::q4_0;
    std::vector<std::byte> blocks(static_cast<size_t>(weight.bytes()));
    quantize_ggml(type, values.data(), weight.out * weight.in, blocks.data());
    GgmlBlocks plain;
    plain.type = type;
    plain.blocks = {DType::u8, {weight.out, weight.bytes() / weight.out}, blocks};
    std::vector<float> expected(values.size()), found(values.size());
    dequantize({weight.out, weight.in, Orientation::out_in, plain}, expected.data());
    dequantize(weight, found.data());
    EXPECT_EQ(found, expected) << name;
  }
  write_gguf(original, folder.path() / "other.gguf", options,
             context_on(Threads().count() == 1 ? 3 : 1));
  // The name in the metadata is the folder's, so that whole files can be compared.
  EXPECT_EQ(read_text(folder.path() / "m.gguf"), read_text(folder.path() / "other.gguf"));
  write_gguf(gguf, folder.path() / "again.gguf", gguf_type(std::nullopt));
  const GgufFile first = GgufFile::open(folder.path() / "m.gguf");
  const GgufFile second = GgufFile::open(folder.path() / "again.gguf");
  for (const std::string& name : first.tensor_names())
    EXPECT_EQ(as_text(first.bytes(*first.find(name))), as_text(second.bytes(*second.find(name))))
        << name;
}

class GgufTokenizer : public testing::TestWithParam<std::string> {};

// The tokenizer in the file gives the ids and texts of the one beside the checkpoint.
TEST_P(GgufTokenizer, IsTheSame) {
  const TemporaryFolder folder;
  const OpenModel original = open_model(kGgufDemo / GetParam());
  const OpenModel gguf = exported(original, folder.path() / "m.gguf", gguf_type(GgmlType::q8_0));
  const Tokenizer a = open_tokenizer(original), b = open_tokenizer(gguf);
  EXPECT_EQ(a.bos_id(), b.bos_id());
  EXPECT_EQ(a.eos_id(), b.eos_id());
  std::string text = read_text(kGgufDemo / "text/eval.txt").substr(0, 200000);
  for (const std::string& piece : {text, std::string(), std::string("  a\n\tb  "),
                                   std::string("Gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"),
                                   std::string("x<s>y</s>z<|endoftext|>")}) {
    const auto ids = a.encode(piece, true);
    EXPECT_EQ(ids, b.encode(piece, true));
    EXPECT_EQ(a.decode(ids, true), b.decode(ids, true));
  }
}

INSTANTIATE_TEST_SUITE_P(Demos, GgufTokenizer, testing::Values("llama", "gpt2"),
                         [](const auto& case_) { return case_.param; });

TEST(GgufTokenizerKeys, ChatTemplateAndFrame) {
  const GgufFile file = GgufFile::open(kGgufGolden / "gguf/tokens-gpt2.gguf");
  const auto texts = gguf_companions(file.metadata(), "test");
  const Json config = parse_json(texts.at("tokenizer_config.json"), "test");
  EXPECT_EQ(config.at("chat_template"), "{{ messages[0].content }}");
  const Tokenizer bytes =
      Tokenizer::from_json(texts.at("tokenizer.json"), texts.at("tokenizer_config.json"), "test");
  EXPECT_EQ(bytes.encode("ab ab<|end|>", true),
            (std::vector<int32_t>{0, 3, 5, 0}));  // llama-bpe begins with BOS
  const auto pieces =
      gguf_companions(GgufFile::open(kGgufGolden / "gguf/tokens-llama.gguf").metadata(), "test");
  const Tokenizer spm =
      Tokenizer::from_json(pieces.at("tokenizer.json"), pieces.at("tokenizer_config.json"), "test");
  // U+2581 and a join first, by their score; then both with b.
  EXPECT_EQ(spm.encode("ab\n", true), (std::vector<int32_t>{1, 9, 3}));
}

TEST(GgufOpen, FoldersAndErrors) {
  const TemporaryFolder folder;
  std::filesystem::copy_file(kGgufGolden / "gguf/qwen3.gguf", folder.path() / "model-F32.gguf");
  write(folder.path() / "config.json", "{}");  // as Hub folders of GGUF files have
  EXPECT_TRUE(detect_model(folder.path()));
  const OpenModel open = open_model(folder.path());
  EXPECT_EQ(open.format, "gguf");
  EXPECT_EQ(open.content_hash(), open_model(kGgufGolden / "gguf/qwen3.gguf").content_hash());
  expect_error(ErrorKind::not_found, "no tokenizer", [&] { open_tokenizer(open); });
  expect_error(ErrorKind::not_found, "", [] { open_model("/nowhere/x.gguf"); });
  flip_byte(folder.path() / "model-F32.gguf", 24 + 8 + 3);  // inside "general.architecture"
  expect_error(ErrorKind::failed, "general.architecture", [&] { open_model(folder.path()); });
}

}  // namespace
}  // namespace qwb
