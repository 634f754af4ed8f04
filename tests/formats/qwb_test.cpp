// The artifact: what is written comes back, what was left alone is unchanged, and damage has a
// name.
#include "formats/qwb/artifact.h"

#include <gtest/gtest.h>

#include <thread>

#include "formats/registry.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/codec/float_blocks.h"
#include "lib/codec/int8_rows.h"
#include "lib/codec/integer_grid.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;

const Path kLlama = Path(QWB_SOURCE_DIR) / "recipes/demo/llama";
const Path kGpt2 = Path(QWB_SOURCE_DIR) / "recipes/demo/gpt2";

// A tensor with random bytes in every part, except that scales need not mean anything here.
QuantizedTensor random_tensor(const NamedLayout& module, uint64_t seed) {
  Rng rng(seed);
  QuantizedTensor tensor(module.layout);
  for (const PartSpec& spec : tensor.specs()) {
    for (std::byte& byte : tensor.parts.at(spec.name).bytes())
      byte = static_cast<std::byte>(rng.next());
  }
  return tensor;
}

WeightLayout nested_blocks(const WeightShape& shape, float offset) {
  WeightLayout layout = float_blocks_layout(shape, {.table = FloatBlocks::Table::fp4});
  FloatBlocks blocks = layout.get<FloatBlocks>();
  blocks.nested_offset = offset;
  layout.set(std::move(blocks));
  return layout;
}

// One module of every codec, on the demo llama (hidden 256, intermediate 640).
std::vector<NamedLayout> llama_modules() {
  const std::string layer = "model.layers.0.";
  return {
      {layer + "mlp.up_proj",
       integer_grid_layout(640, 256, {.bits = 3, .group_size = 100, .symmetric = false})},
      {layer + "mlp.gate_proj",
       integer_grid_layout(640, 256, {.group_size = 64, .scale_dtype = DType::bf16})},
      {layer + "mlp.down_proj", int8_rows_layout(256, 640)},
      {layer + "self_attn.q_proj", float_blocks_layout({256, 256}, {.double_quantization = false})},
      {layer + "self_attn.o_proj", nested_blocks({256, 256}, 0.1f)},
      {layer + "self_attn.k_proj", dense_layout({128, 256}, DType::f32)}};
}

Provenance told() {
  return {.source = {{"name", "demo"}, {"hash", "00"}},
          .method = "rtn",
          .settings = {{"bits", 4}, {"group_size", 64}},
          .isa = "AVX2",
          .seconds = 1.5,
          .peak_memory = 1000};
}

void make_artifact(const Path& target, const Path& source, const std::vector<NamedLayout>& modules,
                   int64_t max_shard = 5'000'000'000) {
  ArtifactWriter writer(target, open_model(source), modules, max_shard);
  std::vector<std::thread> threads;
  for (size_t i = modules.size(); i-- > 0;) {
    threads.emplace_back([&writer, &module = modules[i], i] {
      writer.put(module.name, random_tensor(module, i), {{"weight_error", 0.25}, {"seconds", 0.5}});
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_FALSE(fs::exists(target)) << "nothing is visible before finish";
  EXPECT_TRUE(writer.finish(told()));
}

void expect_comes_back(const Path& folder, const Path& source,
                       const std::vector<NamedLayout>& modules) {
  const OpenModel model = open_model(folder);
  const OpenModel before = open_model(source);
  EXPECT_EQ(model.format, "qwb");
  std::set<std::string> gone;
  for (size_t i = 0; i < modules.size(); ++i) {
    const NamedLayout& module = modules[i];
    const QuantizedTensor tensor = random_tensor(module, i);
    gone.insert(module.name + ".weight");
    if (module.layout.is_dense()) {
      EXPECT_FALSE(model.source->quantized(module.name).has_value());
      EXPECT_EQ(as_text(model.source->find(module.name + ".weight")->bytes),
                as_text(tensor.parts.at("weight").view().bytes));
      continue;
    }
    const auto weight = model.source->quantized(module.name);
    ASSERT_TRUE(weight.has_value()) << module.name;
    const Weight expected = tensor.view();
    EXPECT_EQ(weight->bytes(), expected.bytes());
    EXPECT_EQ(weight->codec(), expected.codec());
    if (const auto* blocks = weight->as<FloatBlocks>()) {
      const auto& wanted = expected.get<FloatBlocks>();
      EXPECT_EQ(blocks->table, wanted.table);
      EXPECT_EQ(blocks->nested_offset, wanted.nested_offset);
      EXPECT_EQ(as_text(blocks->codes.bytes), as_text(wanted.codes.bytes));
      EXPECT_EQ(as_text(blocks->nested_map.bytes), as_text(wanted.nested_map.bytes));
    }
    if (const auto* grid = weight->as<IntegerGrid>()) {
      const auto& wanted = expected.get<IntegerGrid>();
      EXPECT_EQ(grid->bits, wanted.bits);
      EXPECT_EQ(grid->group_size, wanted.group_size);
      EXPECT_EQ(as_text(grid->codes.bytes), as_text(wanted.codes.bytes));
      EXPECT_EQ(as_text(grid->scales.bytes), as_text(wanted.scales.bytes));
      EXPECT_EQ(as_text(grid->zeros.bytes), as_text(wanted.zeros.bytes));
    }
    EXPECT_FALSE(model.source->find(module.name + ".weight").has_value());
    EXPECT_FALSE(model.source->find(module.name + ".codes").has_value());
  }
  for (const std::string& name : before.source->names()) {
    if (gone.contains(name)) continue;
    const auto view = model.source->find(name);
    ASSERT_TRUE(view.has_value()) << name;
    EXPECT_EQ(view->dtype, before.source->find(name)->dtype);
    EXPECT_EQ(view->shape, before.source->find(name)->shape);
    EXPECT_EQ(as_text(view->bytes), as_text(before.source->find(name)->bytes)) << name;
  }
}

TEST(Artifact, ComesBack) {
  TemporaryFolder folder;
  const Path target = folder.path() / "a";
  make_artifact(target, kLlama, llama_modules());
  expect_comes_back(target, kLlama, llama_modules());
  const OpenModel model = open_model(target);
  for (const char* file : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    EXPECT_EQ(read_text(target / file), read_text(kLlama / file));
  }
  EXPECT_EQ(model.config.at("quantization_config").dump(),
            R"({"quant_method":"qwb","format_version":1,"method":"rtn","bits":4,"group_size":64})");
  const Json& up = model.manifest.at("modules").at(0);
  EXPECT_EQ(up.at("bits"), 3);
  EXPECT_EQ(up.at("bytes"), 640 * 96 + 640 * 3 * 2 + 640 * 2);
  EXPECT_DOUBLE_EQ(up.at("bpw").get<double>(), 8.0 * up.at("bytes").get<double>() / (640 * 256));
  const Json& totals = model.manifest.at("totals");
  int64_t tensor_bytes = 0;
  const auto files = Checkpoint::open(target);
  for (const auto& name : files->names())
    tensor_bytes += static_cast<int64_t>(files->find(name)->bytes.size());
  EXPECT_EQ(totals.at("bytes"), tensor_bytes);
  EXPECT_EQ(totals.at("modules").at("count"), 6);
  EXPECT_TRUE(damaged_files(target).empty());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1)
      << "nothing else is left";
}

// The example that formats/qwb/qwb.md prints.
TEST(Artifact, PackedCodesAreThoseOfThePage) {
  const uint8_t codes[] = {0, 1, 2, 3, 4, 5, 6, 7};
  std::string packed(3, '\0');
  pack_codes(codes, 8, 3, reinterpret_cast<std::byte*>(packed.data()));
  EXPECT_EQ(packed, "\x88\xc6\xfa");
}

// GPT-2 stores its weights [in, out]; float blocks keep that, a grid turns it.
TEST(Artifact, Gpt2AndShards) {
  TemporaryFolder folder;
  const auto gpt2 = open_model(kGpt2);
  std::string module;
  for (const auto& name : gpt2.source->names()) {
    if (name.ends_with("c_attn.weight")) module = name.substr(0, name.size() - 7);
  }
  const Shape shape = gpt2.source->find(module + ".weight")->shape;
  const std::vector<NamedLayout> turned = {
      {module, integer_grid_layout(
                   shape[1], shape[0],
                   {.group_size = shape[0], .symmetric = false, .scale_dtype = DType::f32})}};
  make_artifact(folder.path() / "grid", kGpt2, turned);
  expect_comes_back(folder.path() / "grid", kGpt2, turned);
  const std::vector<NamedLayout> kept = {
      {module, float_blocks_layout({shape[1], shape[0], Orientation::in_out},
                                   {.double_quantization = false})}};
  make_artifact(folder.path() / "blocks", kGpt2, kept, 100'000);
  expect_comes_back(folder.path() / "blocks", kGpt2, kept);
  EXPECT_FALSE(fs::exists(folder.path() / "blocks/model.safetensors"));
  EXPECT_GT(Checkpoint::open(folder.path() / "blocks")->files().size(), 2u);
  EXPECT_EQ(open_model(folder.path() / "blocks").source->quantized(module)->orientation,
            Orientation::in_out);
  make_artifact(folder.path() / "whole", kGpt2, kept);
  EXPECT_EQ(open_model(folder.path() / "blocks").content_hash(),
            open_model(folder.path() / "whole").content_hash());
  EXPECT_NE(open_model(folder.path() / "grid").content_hash(),
            open_model(folder.path() / "whole").content_hash());
}

TEST(Artifact, WriterRefusesMisuse) {
  TemporaryFolder folder;
  const Path target = folder.path() / "a";
  const NamedLayout module = llama_modules()[0];
  NamedLayout wrong = module;
  wrong.layout.in = 255;
  expect_error(ErrorKind::usage, "no weight",
               [&] { ArtifactWriter(target, open_model(kLlama), {wrong}); });
  expect_error(ErrorKind::usage, "listed twice", [&] {
    ArtifactWriter(target, open_model(kLlama), {module, module});
  });
  {
    ArtifactWriter writer(target, open_model(kLlama), {module});
    expect_error(ErrorKind::usage, "never stored", [&] { writer.finish(told()); });
    expect_error(ErrorKind::usage, "not declared",
                 [&] { writer.put("x", random_tensor(module, 0)); });
    auto other = random_tensor(llama_modules()[1], 0);
    expect_error(ErrorKind::usage, "not what was declared",
                 [&] { writer.put(module.name, other); });
  }
  EXPECT_TRUE(fs::is_empty(folder.path())) << "an abandoned artifact leaves nothing";
  make_artifact(target, kLlama, {module});
  expect_error(ErrorKind::usage, "already quantized",
               [&] { ArtifactWriter(folder.path() / "b", open_model(target), {}); });
  ArtifactWriter again(target, open_model(kLlama), {});
  EXPECT_FALSE(again.finish(told())) << "an existing artifact is kept";
  EXPECT_TRUE(open_model(target).source->quantized(module.name).has_value());
}

class DamagedArtifact : public testing::Test {
 protected:
  void SetUp() override {
    make_artifact(path_, kLlama, llama_modules());
    good_ = read_text(path_ / "qwb.json");
  }
  void with(const std::string& from, const std::string& to, ErrorKind kind,
            const std::string& said) {
    std::string text = good_;
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    write(path_ / "qwb.json", text);
    SCOPED_TRACE(from + " -> " + to);
    expect_error(kind, said, [&] { open_model(path_); });
    expect_error(kind, "qwb.json", [&] { open_model(path_); });
  }
  TemporaryFolder folder_;
  Path path_ = folder_.path() / "a";
  std::string good_;
};

TEST_F(DamagedArtifact, Manifest) {
  using enum ErrorKind;
  with("\"format_version\": 1", "\"format_version\": 2", unsupported, "version 2");
  with("\"format_version\": 1", "\"format_version\": \"1\"", failed, "integer");
  with("\"codec\": \"integer-grid\"", "\"codec\": \"hypergrid\"", unsupported, "hypergrid");
  with("\"orientation\": \"out_in\"", "\"orientation\": \"diagonal\"", unsupported, "diagonal");
  with("\"out\": 640", "\"out\": 641", failed, "codes");
  with("\"out\": 640", "\"out\": -640", failed, "'out'");
  with("\"out\": 640", "\"out\": 4611686018427387904", failed, "'out'");
  with("\"bits\": 3", "\"bits\": 5", failed, "codes");
  with("\"bits\": 3", "\"bits\": 1e300", failed, "'bits'");
  with("\"bits\": 3", "\"bits\": \"3\"", failed, "'bits'");
  with("\"group_size\": 100", "\"group_size\": 0", failed, "group size");
  with("\"zeros\"", "\"zeroes\"", failed, "zeroes' is missing");
  with("\"zeros\"", "\"codes\"", failed, "appears twice");
  with("\"modules\": [", "\"modules\": [7,", failed, "name");
  with("\"modules\"", "\"models\"", failed, "'modules'");
  with("mlp.gate_proj", "mlp.up_proj", failed, "appears twice");
  with("\"method\": \"rtn\"", "\"method\": null", failed, "'method'");
  with("{", "[", failed, "not valid JSON");
  with("model.layers.0.mlp.up_proj", "model.layers.9.mlp.up_proj", failed, "is missing");
  for (size_t size = 0; size < good_.size(); size += 97) {
    write(path_ / "qwb.json", good_.substr(0, size));
    EXPECT_THROW(open_model(path_), Error) << size;
  }
  write(path_ / "qwb.json", good_);
  EXPECT_NO_THROW(open_model(path_));
}

// Zero points that vanished from the list but not from the file, and the other way round.
TEST_F(DamagedArtifact, PartsMustFit) {
  Json json = parse_json(good_, "");
  json["modules"][0]["parts"] = {"codes", "scales", "extra"};
  write(path_ / "qwb.json", json.dump());
  expect_error(ErrorKind::failed, "extra' is missing", [&] { open_model(path_); });
  json["modules"][0]["parts"] = {"codes", "scales"};
  write(path_ / "qwb.json", json.dump());
  expect_error(ErrorKind::failed, "'zeros' is stored but not listed", [&] { open_model(path_); });
  json["modules"][0]["parts"] = {"codes", "zeros"};
  write(path_ / "qwb.json", json.dump());
  expect_error(ErrorKind::failed, "'scales' is stored but not listed", [&] { open_model(path_); });
}

TEST_F(DamagedArtifact, SumsFindEveryFile) {
  for (const char* file : {"config.json", "qwb.json", "model.safetensors", "tokenizer.json"}) {
    flip_byte(path_ / file, fs::file_size(path_ / file) / 2);
    EXPECT_EQ(damaged_files(path_), std::vector<std::string>{file});
    flip_byte(path_ / file, fs::file_size(path_ / file) / 2);
  }
  EXPECT_TRUE(damaged_files(path_).empty());
  fs::remove(path_ / "tokenizer.json");
  EXPECT_EQ(damaged_files(path_), std::vector<std::string>{"tokenizer.json"});
  write(path_ / "qwb.sums", "nonsense\n");
  expect_error(ErrorKind::failed, "checksum line", [&] { damaged_files(path_); });
  fs::remove(path_ / "qwb.sums");
  expect_error(ErrorKind::not_found, "qwb.sums", [&] { damaged_files(path_); });
}

}  // namespace
}  // namespace qwb
