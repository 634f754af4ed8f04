// From a format to another and back: no byte of a tensor may change, for every pair of formats that
// share a grid and at shapes that divide neither into groups nor into words.
#include <gtest/gtest.h>

#include <algorithm>

#include "lib/exec/cpu/dequantize.h"
#include "tests/formats/convert_helper.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

std::string place_of(const Path& from, const ModelFormat& format) {
  return from.string() + "-" + format.name + format.extension;
}

// Writes an exact conversion; false: there is none, or it is refused, as what a format cannot hold
// must be.
bool converts_exactly(const Path& from, const ModelFormat& format, const Path& out,
                      const std::string& where) {
  try {
    Conversion conversion(open_model(from), format, {});
    if (!conversion.exact() || conversion.modules().empty()) return false;
    conversion.write(out);
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported) << where << ": " << error.what();
    return false;
  }
}

std::vector<float> values_of(const OpenModel& open, const std::string& module) {
  const LoadedWeight loaded = open.source->load_quantized(module);
  std::vector<float> values(static_cast<size_t>(loaded.weight.count()));
  dequantize(loaded.weight, values.data());
  return values;
}

// The same values, bit for bit, whatever holds them.
void expect_same_models(const Path& a, const Path& b, const std::string& where) {
  const OpenModel x = open_model(a), y = open_model(b);
  ASSERT_EQ(x.source->names(), y.source->names()) << where;
  ASSERT_EQ(x.source->quantized_modules(), y.source->quantized_modules()) << where;
  for (const std::string& name : x.source->names())
    EXPECT_EQ(read_floats(*x.source->find(name), name), read_floats(*y.source->find(name), name))
        << where << ": " << name;
  for (const std::string& module : x.source->quantized_modules())
    EXPECT_EQ(values_of(x, module), values_of(y, module)) << where << ": " << module;
}

// Every format of the registry that holds the artifact, to every other, and back. Returns the
// number of formats that do. with_files: only pairs with a format of one file, which holds models
// of known architectures alone; the others have been tried without.
size_t round_trips(const Path& artifact, const std::string& shape, bool with_files = false) {
  std::vector<std::pair<const ModelFormat*, Path>> holders;
  for (const ModelFormat& format : model_formats()) {
    const Path place = place_of(artifact, format);
    if (format.writer && converts_exactly(artifact, format, place, shape + " to " + format.name))
      holders.emplace_back(&format, place);
  }
  for (const auto& [a, first] : holders) {
    for (const auto& [b, second] : holders) {
      const bool folders = a->extension.empty() && b->extension.empty();
      if (a == b || (folders && with_files)) continue;
      const Path there = place_of(first, *b), back = place_of(there, *a);
      const std::string where = shape + ", " + a->name + " to " + b->name;
      EXPECT_TRUE(converts_exactly(first, *b, there, where)) << where;
      EXPECT_TRUE(converts_exactly(there, *a, back, where)) << where << " and back";
      // An artifact keeps the blocks of a file as they are.
      folders ? expect_same_folders(first, back, where) : expect_same_models(first, back, where);
    }
  }
  return holders.size();
}

// What the shapes of an artifact's modules have in common, and how many of the formats can hold
// such.
struct Family {
  int bits;
  int64_t outs, ins;     // divide the output and input channels
  int64_t group;         // 0: any size that divides the inputs
  bool partial = false;  // groups of any size, the last may be short; some act-order
  size_t formats = 0;    // at least
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
  int partial = 0, odd = 0;
  for (const Family& family : std::vector<Family>{{4, 8, 10, 10, false, 7},
                                                  {2, 1, 1, 0, false, 6},
                                                  {8, 1, 1, 0, false, 6},
                                                  {3, 32, 32, 0, false, 6},
                                                  {4, 1, 1, 0, true, 4},
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
    EXPECT_GE(round_trips(folder.path() / "a", shapes), family.formats) << shapes;
  }
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
    const std::string shape =
        (int8 ? "int8 [" : "blocks [") + std::to_string(out) + ", " + std::to_string(in) + "]";
    EXPECT_GE(round_trips(folder.path() / "a", shape), 2u) << shape;
  }
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

// Into blocks of 32 and out of them again, heads turned and turned back.
TEST(ConvertPairs, GgufWithEveryGridOfGroupsOf32) {
  struct Case {
    int bits;
    bool symmetric;
    size_t formats;  // at least: qwb and gguf, two of compressed-tensors, three of GPTQ, AWQ
  };
  for (const Case& one :
       std::vector<Case>{{4, true, 8}, {5, true, 4}, {8, true, 7}, {4, false, 8}, {5, false, 4}}) {
    const TemporaryFolder folder;
    const Path artifact = folder.path() / "a";
    write_llama(artifact, one.bits, one.symmetric);
    const std::string where =
        std::to_string(one.bits) + " bits" + (one.symmetric ? "" : " asymmetric");
    EXPECT_GE(round_trips(artifact, where, true), one.formats) << where;
  }
}

// From GGUF to another format and back, the very file.
TEST(ConvertPairs, GgufComesBackByteForByte) {
  const TemporaryFolder folder;
  const Path artifact = folder.path() / "a";
  write_llama(artifact, 4, true);
  ConvertOptions options;
  options.name = "same";
  const Path first = folder.path() / "first.gguf", again = folder.path() / "again.gguf";
  for (const ConvertedModule& module : write_gguf(open_model(artifact), first, options))
    EXPECT_EQ(module.how, How::exact) << module.target.name;
  ASSERT_TRUE(convert_folder(first, "awq", folder.path() / "awq"));
  write_gguf(open_model(folder.path() / "awq"), again, options);
  EXPECT_EQ(read_text(first), read_text(again));
}

}  // namespace
}  // namespace qwb
