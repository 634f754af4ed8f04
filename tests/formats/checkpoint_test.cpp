// Reading Hugging Face folders: the demo models, shards, refusals by name, and the identity of a
// model.
#include "formats/hf/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include "formats/registry.h"
#include "tests/base/context_helper.h"
#include "tests/formats/files_helper.h"
#include "tests/formats/tiny_model_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const Path kDemo = Path(QWB_SOURCE_DIR) / "recipes/demo/llama";

TEST(Checkpoint, ReadsTheDemoModels) {
  for (const char* name : {"llama", "gpt2"}) {
    const OpenModel model = open_model(Path(QWB_SOURCE_DIR) / "recipes/demo" / name);
    EXPECT_EQ(model.format, "huggingface");
    EXPECT_TRUE(model.manifest.is_null());
    EXPECT_EQ(model.weight_bytes,
              static_cast<int64_t>(fs::file_size(model.folder / "model.safetensors")));
    EXPECT_GT(model.source->names().size(), 10u);
    for (const auto& tensor : model.source->names())
      EXPECT_TRUE(model.source->find(tensor).has_value());
    EXPECT_FALSE(model.source->find("nothing").has_value());
    EXPECT_FALSE(model.source->quantized("model.layers.0.mlp.up_proj").has_value());
  }
  const auto embed = open_model(kDemo).source->find("model.embed_tokens.weight");
  ASSERT_TRUE(embed.has_value());
  EXPECT_EQ(embed->shape, (Shape{4096, 256}));
  EXPECT_EQ(embed->dtype, DType::bf16);
}

TEST(Checkpoint, ReleaseAndPrefetchKeepTheBytes) {
  const auto model = open_model(kDemo);
  const auto view = *model.source->find("model.embed_tokens.weight");
  const std::string before(as_text(view.bytes));
  model.source->release(view);
  model.source->prefetch(view);
  EXPECT_EQ(before, as_text(view.bytes));
}

TEST(Checkpoint, RefusesOtherFormatsByName) {
  const struct {
    const char* file;
    const char* said;
  } cases[] = {{"weights.bin", "unknown name"},
               {"pytorch_model-00001-of-00002.bin", "index"},
               {"model.pth", "pickled"},
               {"model.onnx", "ONNX"},
               {"consolidated.safetensors", "consolidated"},
               {"consolidated.00.pth", "consolidated"},
               {"adapter_model.safetensors", "adapter"},
               {"model-00001-of-00002.safetensors", "index"}};
  for (const auto& test : cases) {
    TemporaryFolder folder;
    write(folder.path() / "config.json", "{}");
    write(folder.path() / test.file, "x");
    expect_error(ErrorKind::unsupported, test.said, [&] { open_model(folder.path()); });
    expect_error(ErrorKind::unsupported, test.file, [&] { open_model(folder.path()); });
  }
  expect_error(ErrorKind::not_found, "no such folder", [] { open_model("/no/such/folder"); });
  expect_error(ErrorKind::unsupported, "is a file", [] { open_model(kDemo / "config.json"); });
  TemporaryFolder folder;
  expect_error(ErrorKind::not_found, "no model.safetensors", [&] { open_model(folder.path()); });
  fs::copy(kDemo / "model.safetensors", folder.path());
  expect_error(ErrorKind::not_found, "no config.json", [&] { open_model(folder.path()); });
}

TEST(Checkpoint, DamagedConfigIsNamed) {
  for (const char* text : {"", "{", "[]", "{\"a\":1,\"a\":2}", "{\"a\":\"\xff\"}", "{} x"}) {
    TemporaryFolder folder;
    fs::copy(kDemo / "model.safetensors", folder.path());
    write(folder.path() / "config.json", text);
    expect_error(ErrorKind::failed, "config.json", [&] { open_model(folder.path()); });
  }
}

// transformers would load another file, or the adapter with the model.
TEST(Checkpoint, WeightsFromElsewhereAreRefused) {
  TemporaryFolder folder;
  for (const char* name : {"model.safetensors", "config.json"})
    fs::copy(kDemo / name, folder.path());
  EXPECT_NO_THROW(open_model(folder.path()));
  Json config = parse_json(read_text(folder.path() / "config.json"), "config.json");
  config["transformers_weights"] = "model.safetensors";
  write(folder.path() / "config.json", config.dump());
  EXPECT_NO_THROW(open_model(folder.path()));
  config["transformers_weights"] = "other.safetensors";
  write(folder.path() / "config.json", config.dump());
  expect_error(ErrorKind::unsupported, "transformers_weights", [&] { open_model(folder.path()); });
  config.erase("transformers_weights");
  write(folder.path() / "config.json", config.dump());
  write(folder.path() / "adapter_config.json", "{}");
  expect_error(ErrorKind::unsupported, "adapter", [&] { open_model(folder.path()); });
}

TEST(Checkpoint, QuantizedByUnknownOthersIsRefused) {
  TemporaryFolder folder;
  fs::copy(kDemo / "model.safetensors", folder.path());
  write(folder.path() / "config.json", R"({"quantization_config": {"quant_method": "quip"}})");
  expect_error(ErrorKind::unsupported, "quip", [&] { open_model(folder.path()); });
  write(folder.path() / "config.json", R"({"quantization_config": {"quant_method": "gptq"}})");
  expect_error(ErrorKind::failed, "no module has the tensors", [&] { open_model(folder.path()); });
  write(folder.path() / "config.json", R"({"quantization_config": {"quant_method": "qwb"}})");
  expect_error(ErrorKind::failed, "qwb.json is missing", [&] { open_model(folder.path()); });
}

// The demo model cut into `count` shards, round robin over the names.
void shard(const Path& folder, size_t count) {
  const auto source = Checkpoint::open(kDemo);
  const auto names = source->names();
  Json map = Json::object();
  for (size_t part = 0; part < count; ++part) {
    const std::string file = "model-0000" + std::to_string(part + 1) + "-of-0000" +
                             std::to_string(count) + ".safetensors";
    std::vector<PartSpec> specs;
    for (size_t i = part; i < names.size(); i += count) {
      specs.push_back({names[i], source->find(names[i])->dtype, source->find(names[i])->shape});
      map[names[i]] = file;
    }
    SafetensorsWriter writer(folder / file, specs);
    for (const auto& spec : specs) writer.put(spec.name, source->find(spec.name)->bytes);
    writer.finish();
  }
  write(folder / "model.safetensors.index.json",
        Json{{"metadata", {{"total_size", 1}}}, {"weight_map", map}}.dump());
  fs::copy(kDemo / "config.json", folder);
}

TEST(Checkpoint, ShardsReadLikeOneFile) {
  TemporaryFolder folder;
  shard(folder.path(), 3);
  const auto whole = open_model(kDemo);
  const auto parts = open_model(folder.path());
  ASSERT_EQ(whole.source->names(), parts.source->names());
  for (const auto& name : whole.source->names()) {
    EXPECT_EQ(as_text(whole.source->find(name)->bytes), as_text(parts.source->find(name)->bytes));
  }
  EXPECT_EQ(whole.content_hash(), parts.content_hash());
}

TEST(Checkpoint, LyingShardsAreRefused) {
  TemporaryFolder folder;
  shard(folder.path(), 3);
  const Path index = folder.path() / "model.safetensors.index.json";
  const std::string good = read_text(index);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    write(index, text);
  };
  const std::string second = "model-00002-of-00003.safetensors";
  fs::rename(folder.path() / second, folder.path() / "away");
  expect_error(ErrorKind::not_found, second, [&] { open_model(folder.path()); });
  fs::rename(folder.path() / "away", folder.path() / second);
  EXPECT_NO_THROW(open_model(folder.path()));
  with(second, "../" + second);
  expect_error(ErrorKind::failed, "plain file name", [&] { open_model(folder.path()); });
  with(second, "model-00003-of-00003.safetensors");
  EXPECT_NO_THROW(open_model(folder.path())) << "loaders believe the shards";
  with("weight_map", "weight_mop");
  expect_error(ErrorKind::failed, "weight_map", [&] { open_model(folder.path()); });
  with("\"" + second + "\"", "7");
  expect_error(ErrorKind::failed, "weight_map", [&] { open_model(folder.path()); });
  write(index, "{\"x\":" + std::string(300, '[') + std::string(300, ']') + "," + good.substr(1));
  expect_error(ErrorKind::failed, "nested too deeply", [&] { open_model(folder.path()); });
  write(index, good.substr(0, good.size() / 2));
  expect_error(ErrorKind::failed, "not valid JSON", [&] { open_model(folder.path()); });
  write(index, good);
  fs::remove(folder.path() / second);
  fs::copy(folder.path() / "model-00001-of-00003.safetensors", folder.path() / second);
  expect_error(ErrorKind::failed, "is in two shards", [&] { open_model(folder.path()); });
}

// transformers loads such repositories: it asks the shards what they hold.
TEST(Checkpoint, EntriesAndShardsThatNobodyNeedsAreTold) {
  TemporaryFolder folder;
  shard(folder.path(), 2);
  const Path index = folder.path() / "model.safetensors.index.json";
  Json json = parse_json(read_text(index), "index");
  json["weight_map"]["model.layers.0.self_attn.rotary_emb.inv_freq"] =
      "model-00001-of-00002.safetensors";
  json["weight_map"]["mtp.fc.weight"] = "model-00002-of-00002.safetensors";
  write(index, json.dump());
  fs::copy(folder.path() / "model-00001-of-00002.safetensors",
           folder.path() / "model-00003-of-00003.safetensors");
  Notes notes;
  EXPECT_EQ(open_model(folder.path(), context_telling(notes)).source->names(),
            open_model(kDemo).source->names());
  EXPECT_THAT(notes.all,
              HasSubstr("2 tensors (model.layers.0.self_attn.rotary_emb.inv_freq, mtp.fc.weight)"));
  EXPECT_THAT(notes.all, HasSubstr("model-00003-of-00003.safetensors"));
}

TEST(Checkpoint, FilesOfOtherKindsAreNamed) {
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '0') +
      "\nsize 2393344\n";
  const struct {
    std::string content, said;
  } cases[] = {{pointer, "Git LFS pointer"},
               {pointer, "2393344 bytes"},
               {"<!DOCTYPE html><html>log in</html>", "HTML page"},
               {"", "is empty"},
               {"<?xml version=\"1.0\"?><Error/>", "XML"},
               {std::string("PK\x03\x04 archive/data.pkl", 22), "pickled"},
               {std::string(4096, '\0'), "begins with zeros"}};
  for (const auto& test : cases) {
    for (const char* file : {"model.safetensors", "config.json", "m.gguf"}) {
      TemporaryFolder folder;
      for (const char* part : {"config.json", "model.safetensors"})
        fs::copy(kDemo / part, folder.path());
      if (test.content.empty() && std::string(file) == "config.json")
        continue;  // DamagedConfigIsNamed
      write(folder.path() / file, test.content);
      const bool gguf = std::string(file) == "m.gguf";
      expect_error(ErrorKind::failed, test.said,
                   [&] { open_model(gguf ? folder.path() / file : folder.path()); });
    }
  }
  TemporaryFolder folder;
  write(folder.path() / "adapter_config.json", R"({"base_model_name_or_path": "x/y"})");
  expect_error(ErrorKind::unsupported, "LoRA adapter (adapter_config.json)",
               [&] { open_model(folder.path()); });
  expect_error(ErrorKind::unsupported, "x/y", [&] { open_model(folder.path()); });
  write(folder.path() / "page", "<html>");
  expect_error(ErrorKind::unsupported, "HTML page", [&] { open_model(folder.path() / "page"); });
}

TEST(Checkpoint, CompanionsAreAllThatLoadingChattingAndRightsNeed) {
  TemporaryFolder folder;
  fs::create_directory(folder.path() / "additional_chat_templates");
  const std::vector<std::string> wanted = {"LICENSE",
                                           "LICENSE-MODEL.txt",
                                           "Llama3.1_LICENSE",
                                           "NOTICE",
                                           "USE_POLICY.md",
                                           "added_tokens.json",
                                           "additional_chat_templates/rag.jinja",
                                           "additional_chat_templates/tool_use.jinja",
                                           "chat_template.jinja",
                                           "generation_config.json",
                                           "merges.txt",
                                           "special_tokens_map.json",
                                           "spiece.model",
                                           "tokenizer.json",
                                           "tokenizer.model",
                                           "vocab.txt"};
  for (const std::string& name : wanted) write(folder.path() / name, name);
  for (const char* name :
       {"README.md", "model.safetensors", "tokenizer.bin", "license_plates.safetensors",
        "training_args.bin", "additional_chat_templates/notes.txt", "modeling_x.py"})
    write(folder.path() / name, name);
  EXPECT_EQ(companion_files(folder.path()), wanted);
}

TEST(ContentHash, SeesWhatMattersAndNothingElse) {
  const std::string hash = Checkpoint::open(kDemo)->content_hash();
  EXPECT_EQ(hash.size(), 32u);
  TemporaryFolder folder;
  fs::copy(kDemo / "model.safetensors", folder.path() / "model.safetensors");
  const auto with_config = [&](const Json& config) {
    write(folder.path() / "config.json", config.dump());
    return Checkpoint::open(folder.path())->content_hash();
  };
  Json config = parse_json(read_text(kDemo / "config.json"), "");
  Json other = config;
  other["transformers_version"] = "0";
  other["_name_or_path"] = "x";
  EXPECT_EQ(with_config(other), hash);
  Json reversed = Json::object();
  for (auto it = config.rbegin(); it != config.rend(); ++it) reversed[it.key()] = it.value();
  EXPECT_EQ(with_config(reversed), hash);
  other = config;
  other["rms_norm_eps"] = 1e-6;
  EXPECT_NE(with_config(other), hash);
  write(folder.path() / "config.json", config.dump());
  flip_byte(folder.path() / "model.safetensors",
            fs::file_size(folder.path() / "model.safetensors") - 1);
  EXPECT_NE(Checkpoint::open(folder.path())->content_hash(), hash);
}

void set_age(const Path& file, int seconds) {
  fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::seconds(seconds));
}

// The memo may be trusted only when the files cannot have changed in the same clock tick, so a
// fresh file is always read again.
TEST(ContentHash, MemoIsUsedOnlyWhenItProvesTheFilesTheSame) {
  TemporaryFolder folder;
  TemporaryFolder memo;
  for (const char* file : {"config.json", "model.safetensors"})
    fs::copy(kDemo / file, folder.path() / file);
  const auto hash = [&] { return Checkpoint::open(folder.path())->content_hash(memo.path()); };
  const std::string truth = hash();
  ASSERT_EQ(std::distance(fs::directory_iterator(memo.path()), fs::directory_iterator()), 1);
  const Path file = fs::directory_iterator(memo.path())->path();
  // A lie in the memo shows whether it was believed.
  const auto lie = [&](int64_t age_ns) {
    Json json = parse_json(read_text(file), "memo");
    json["hash"] = std::string(32, '0');
    json["written_ns"] = json["written_ns"].get<int64_t>() + age_ns;
    json["sum"] = hash_hex(as_bytes(std::string(32, '0') + json["files"].dump()));
    write(file, json.dump());
  };
  lie(0);
  EXPECT_EQ(hash(), truth) << "files written within two seconds of the memo";
  lie(10'000'000'000);
  EXPECT_EQ(hash(), std::string(32, '0')) << "an old, unchanged file need not be read";
  set_age(folder.path() / "model.safetensors", 100);
  EXPECT_EQ(hash(), truth) << "times changed";
  lie(10'000'000'000);
  write(file, read_text(file).substr(10));
  EXPECT_EQ(hash(), truth) << "damaged memo";
  EXPECT_EQ(Checkpoint::open(folder.path())->content_hash("/proc/no/such"), truth)
      << "memo folder cannot be written";
}

}  // namespace
}  // namespace qwb
