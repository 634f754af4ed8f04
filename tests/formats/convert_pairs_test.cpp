// From a format to another and back: no byte of a tensor may change, for every pair of formats that
// share a grid and at shapes that divide neither into groups nor into words.
#include <gtest/gtest.h>

#include <algorithm>

#include "formats/gguf_export.h"
#include "lib/quantize/ggml_quants.h"
#include "tests/formats/convert_helper.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

const std::vector<std::string> kGridFormats = {
    "qwb", "gptq-v1", "gptq-v2", "awq", "compressed-tensors", "compressed-tensors-int"};

// The conversion was exact; false: it is refused, which a grid that the format cannot hold must be.
bool exact_or_refused(const Path& from, const std::string& to, const Path& out,
                      const std::string& where) {
  try {
    EXPECT_TRUE(convert_folder(from, to, out)) << where;
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported) << where << ": " << error.what();
    return false;
  }
}

// Every format that holds the artifact, to every other, and back. Returns the number of pairs.
int round_trips(const Path& artifact, const std::vector<std::string>& formats,
                const std::string& shape) {
  int pairs = 0;
  for (const std::string& a : formats) {
    const Path first = artifact.string() + "-" + a;
    if (!exact_or_refused(artifact, a, first, shape + " to " + a)) continue;
    for (const std::string& b : formats) {
      if (a == b) continue;
      const Path there = first.string() + "-" + b, back = there.string() + "-" + a;
      const std::string where = shape + ", " + a + " to " + b;
      if (!exact_or_refused(first, b, there, where)) continue;
      EXPECT_TRUE(convert_folder(there, a, back)) << where << " and back";
      expect_same_folders(first, back, where + " and back");
      ++pairs;
    }
  }
  return pairs;
}

// What the shapes of an artifact's modules have in common, and how many of the formats can hold
// such.
struct Family {
  int bits;
  int64_t outs, ins;     // divide the output and input channels
  int64_t group;         // 0: any size that divides the inputs
  bool partial = false;  // groups of any size, the last may be short; some act-order
  int formats = 0;
};

RandomGrid random_shape(const Family& family, Rng& rng) {
  const auto upto = [&](int64_t most) {
    return static_cast<int64_t>(1 + rng.below(static_cast<uint64_t>(most)));
  };
  RandomGrid shape{family.outs * upto(40 / family.outs + 1),
                   family.ins * upto(150 / family.ins + 1),
                   family.group,
                   family.bits,
                   rng.below(2) == 0,
                   false};
  if (shape.group == 0) {
    shape.group = upto(shape.in);
    while (!family.partial && shape.in % shape.group != 0) --shape.group;
    shape.scattered = family.partial && shape.group < shape.in && rng.below(3) == 0;
  }
  return shape;
}

// Sixteen modules in one artifact: it is writing folders that takes time.
TEST(SlowConvertPairs, IntegerGridsOfRandomShapes) {
  Rng rng(11);
  int pairs = 0, partial = 0, odd = 0;
  for (const Family& family : std::vector<Family>{{4, 8, 10, 10, false, 6},
                                                  {2, 1, 1, 0, false, 5},
                                                  {8, 1, 1, 0, false, 5},
                                                  {3, 32, 32, 0, false, 5},
                                                  {4, 1, 1, 0, true, 3},
                                                  {3, 1, 1, 0, false, 3},
                                                  {5, 1, 1, 0, false, 3},
                                                  {7, 1, 1, 0, false, 3}}) {
    const TemporaryFolder folder;
    std::vector<QuantizedTensor> grids;
    std::string shapes = std::to_string(family.bits) + " bits";
    for (uint64_t seed = 0; seed < 16; ++seed) {
      const RandomGrid shape = random_shape(family, rng);
      partial += shape.in % shape.group != 0;
      odd += shape.in * shape.bits % 32 != 0;
      grids.push_back(random_grid(shape, seed));
    }
    NamedTensors modules;
    for (size_t i = 0; i < grids.size(); ++i)
      modules.emplace_back("layers." + std::to_string(i), &grids[i]);
    write_artifact(folder.path() / "a", R"({"model_type": "golden", "torch_dtype": "float32"})",
                   modules, {{"norm.weight", DType::f32, {2}}});
    const int found = round_trips(folder.path() / "a", kGridFormats, shapes);
    EXPECT_EQ(found, family.formats * (family.formats - 1)) << shapes;
    pairs += found;
  }
  EXPECT_EQ(pairs, 30 + 3 * 20 + 4 * 6);
  EXPECT_GE(partial, 8);
  EXPECT_GE(odd, 50);
}

// GPTQ and AWQ exchange words of codes without the rows in between, in pieces of 256 outputs: the
// same bytes.
TEST(ConvertPairs, WordsMoveAsRowsDo) {
  for (const auto& [out, in, symmetric] : std::vector<std::tuple<int64_t, int64_t, bool>>{
           {560, 40, true}, {256, 72, false}, {8, 8, false}}) {
    const TemporaryFolder folder;
    const Path artifact = folder.path() / "a";
    write_artifact(artifact, random_grid({out, in, 8, 4, symmetric, false}, 5));
    for (const auto& [from, to] : {std::pair{"gptq-v2", "awq"}, std::pair{"awq", "gptq-v2"}}) {
      const Path first = folder.path() / from, words = first.string() + "-words",
                 rows = first.string() + "-rows";
      ASSERT_TRUE(convert_folder(artifact, from, first));
      ASSERT_TRUE(convert_folder(artifact, to, rows));
      ASSERT_TRUE(convert_folder(first, to, words));
      expect_same_folders(rows, words, std::string(from) + " to " + to);
      std::filesystem::remove_all(first);
    }
  }
}

TEST(ConvertPairs, BitsandbytesOfRandomShapes) {
  Rng rng(12);
  int pairs = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const auto out = static_cast<int64_t>(1 + rng.below(40)),
               in = static_cast<int64_t>(1 + rng.below(150));
    const bool int8 = rng.below(4) == 0;
    const int table = static_cast<int>(rng.below(2));
    const int64_t block = int64_t{32} << rng.below(4);
    const TemporaryFolder folder;
    write_artifact(folder.path() / "a",
                   int8 ? random_int8(out, in, seed)
                        : random_blocks(out, in, table, block, rng.below(2) == 0, seed));
    pairs += round_trips(
        folder.path() / "a", {"qwb", "bitsandbytes"},
        (int8 ? "int8 [" : "blocks [") + std::to_string(out) + ", " + std::to_string(in) + "]");
  }
  EXPECT_EQ(pairs, 20);
}

// Hidden 64 (four heads of 16, two for keys and values), inner 96, one block.
constexpr const char* kTinyLlama =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 40,
  "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
  "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 128,
  "tie_word_embeddings": false, "torch_dtype": "float32"})";

void write_llama(const Path& folder, int bits, bool symmetric) {
  const std::vector<std::pair<std::string, std::array<int64_t, 2>>> shapes = {
      {"self_attn.q_proj", {64, 64}}, {"self_attn.k_proj", {32, 64}},
      {"self_attn.v_proj", {32, 64}}, {"self_attn.o_proj", {64, 64}},
      {"mlp.gate_proj", {96, 64}},    {"mlp.up_proj", {96, 64}},
      {"mlp.down_proj", {64, 96}}};
  std::vector<QuantizedTensor> grids;
  for (const auto& [name, shape] : shapes)
    grids.push_back(
        random_grid({shape[0], shape[1], 32, bits, symmetric, false}, grids.size(), !symmetric));
  NamedTensors modules;
  for (size_t i = 0; i < shapes.size(); ++i)
    modules.emplace_back("model.layers.0." + shapes[i].first, &grids[i]);
  const std::string layer = "model.layers.0.";
  write_artifact(folder, kTinyLlama, modules,
                 {{"model.embed_tokens.weight", DType::f32, {40, 64}},
                  {"lm_head.weight", DType::f32, {40, 64}},
                  {"model.norm.weight", DType::f32, {64}},
                  {layer + "input_layernorm.weight", DType::f32, {64}},
                  {layer + "post_attention_layernorm.weight", DType::f32, {64}}});
}

// Into blocks of 32 and out of them again, heads turned and turned back. (An artifact keeps the
// blocks as they are.)
TEST(ConvertPairs, GgufWithEveryGridOfGroupsOf32) {
  int pairs = 0;
  for (const auto& [bits, symmetric] :
       std::vector<std::pair<int, bool>>{{4, true}, {5, true}, {8, true}, {4, false}, {5, false}}) {
    const TemporaryFolder folder;
    const Path artifact = folder.path() / "a";
    write_llama(artifact, bits, symmetric);
    for (const std::string& format : kGridFormats) {
      if (format == "qwb") continue;
      const std::string where =
          std::to_string(bits) + " bits" + (symmetric ? "" : " asymmetric") + ", " + format;
      const Path first = folder.path() / format, back = first.string() + "-back";
      const Path there = first.string() + ".gguf", again = first.string() + "-again.gguf";
      if (!exact_or_refused(artifact, format, first, where)) continue;
      GgufOptions options;
      options.encode = quantize_ggml;
      options.name = "same";
      const GgufReport report = write_gguf(open_model(first), there, options, Context());
      for (const GgufTensorReport& tensor : report.tensors)
        EXPECT_TRUE(tensor.exact) << where << tensor.name;
      EXPECT_TRUE(convert_folder(there, format, back)) << where;
      expect_same_folders(first, back, where);
      write_gguf(open_model(back), again, options, Context());
      EXPECT_EQ(read_text(there), read_text(again)) << where;
      ++pairs;
    }
  }
  EXPECT_EQ(pairs, 5 + 2 + 4 + 5 + 2);  // 5 bits: not GPTQ, not AWQ; 8 bits: not AWQ
}

}  // namespace
}  // namespace qwb
