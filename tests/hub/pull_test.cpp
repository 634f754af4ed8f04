// What a user sees of qwb-pull against a Hub that behaves.
#include "tests/hub/pull_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(PullTest, WhatTheToolsNeedAndTheLayout) {
  FakeRepo& model = add_model();
  const Path folder = pulled({"org/model"});
  EXPECT_EQ(folder, repo() / "snapshots" / model.commit);
  EXPECT_THAT(files(folder), ElementsAre("config.json", "model.safetensors", "tokenizer.json",
                                         "tokenizer_config.json"));
  for (const std::string& path : files(folder)) expect_same(folder, model, path);
  expect_clean(repo());
  EXPECT_EQ(fs::read_symlink(folder / "config.json"),
            "../../blobs/" + model.find("config.json")->etag);
  EXPECT_EQ(read_text(repo() / "refs" / "main"), model.commit);
  EXPECT_TRUE(fs::exists(repo() / ".no_exist" / model.commit / "generation_config.json"));
  EXPECT_FALSE(fs::exists(repo() / ".no_exist" / model.commit / "config.json"));
  EXPECT_TRUE(read_text(cache() / "CACHEDIR.TAG")
                  .starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
  EXPECT_TRUE(fs::exists(cache() / ".locks/models--org--model" /
                         (model.find("config.json")->etag + ".lock")));
}

TEST_F(PullTest, QuietPrintsThePathAlone) {
  const FakeRepo& model = add_model();
  const RunResult result = pull({"org/model", "-q"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, (repo() / "snapshots" / model.commit).string() + "\n");
}

TEST_F(PullTest, TheSecondPullFetchesNothing) {
  const FakeRepo& model = add_model();
  pulled({"org/model"});
  const int64_t sent = hub_->bytes_sent();
  hub_->forget_requests();
  pulled({"org/model"});
  EXPECT_EQ(hub_->bytes_sent(), sent);
  EXPECT_EQ(hub_->seen().size(), 1u);  // what main stands for now
  // A commit never changes.
  hub_->forget_requests();
  pulled({"org/model@" + model.commit});
  EXPECT_EQ(hub_->seen().size(), 0u);
}

TEST_F(PullTest, AMovedBranchFetchesOnlyWhatChanged) {
  FakeRepo& model = add_model();
  const Path before = pulled({"org/model"});
  const int64_t sent = hub_->bytes_sent();
  model.put("config.json", "{\"model_type\": \"gpt2\"}\n");
  const Path after = pulled({"org/model"});
  EXPECT_NE(before, after);
  EXPECT_EQ(hub_->bytes_sent() - sent,
            static_cast<int64_t>(model.find("config.json")->content.size()));
  expect_same(after, model, "config.json");
  expect_same(after, model, "model.safetensors");
  EXPECT_EQ(read_text(repo() / "refs" / "main"), model.commit);
  EXPECT_TRUE(fs::exists(before / "config.json"));
  expect_clean(repo());
}

TEST_F(PullTest, RevisionsWithSlashes) {
  FakeRepo& model = add_model();
  model.refs = {{"refs/pr/1", ""}, {"v1.0", ""}};
  pulled({"org/model@refs/pr/1"});
  EXPECT_EQ(read_text(repo() / "refs/refs/pr/1"), model.commit);
  EXPECT_GE(hub_->count("/revision/refs%2Fpr%2F1"), 1);
  pulled({"org/model@v1.0"});
  EXPECT_EQ(read_text(repo() / "refs/v1.0"), model.commit);
  EXPECT_FALSE(fs::exists(repo() / "refs/main"));
}

TEST_F(PullTest, RepositoriesWithoutUsableWeights) {
  const struct {
    const char *file, *said, *advice;
  } cases[] = {{"m-Q4_0.gguf", "GGUF", "--include 'm-Q4_0.gguf'"},
               {"weights.bin", "pickled", "safetensors"},
               {"adapter_model.safetensors", "LoRA", "merge"}};
  for (const auto& test : cases) {
    const std::string name = std::string("org/") + std::to_string(&test - cases);
    FakeRepo& repo = hub_->add(name);
    repo.put("config.json", "{}");
    repo.put(test.file, "weights");
    const RunResult result = pull({name});
    EXPECT_EQ(result.code, 5) << result.err;
    EXPECT_THAT(result.err, HasSubstr(test.said));
    EXPECT_THAT(result.err, HasSubstr(test.advice));
    EXPECT_EQ(pull({name, "--include", "config.json"}).code, 0);
  }
}

TEST_F(PullTest, PickledWeightsAreTold) {
  FakeRepo& old = hub_->add("org/old");
  old.put("config.json", "{}");
  old.put("pytorch_model.bin", "weights");
  const RunResult result = pull({"org/old"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err,
              HasSubstr("org/old has no safetensors; its weights are pytorch_model.bin"));
  old.put("model.safetensors", "weights");
  EXPECT_THAT(pull({"org/old"}).err, ::testing::Not(HasSubstr("pytorch_model.bin")));
}

TEST_F(PullTest, IncludeAndExclude) {
  FakeRepo& model = add_model();
  const Path some = pulled({"org/model", "--include", "*.bin", "--include", "original/"});
  EXPECT_THAT(files(some), ElementsAre("original/consolidated.00.pth", "pytorch_model.bin"));
  EXPECT_EQ(fs::read_symlink(some / "original/consolidated.00.pth"),
            "../../../blobs/" + model.find("original/consolidated.00.pth")->etag);
  const Path rest = pulled({"org/model", "--exclude", "*.safetensors"});
  EXPECT_FALSE(fs::exists(rest / "model.safetensors"));
  EXPECT_TRUE(fs::exists(rest / "tokenizer.json"));
  const RunResult none = pull({"org/model", "--include", "*.nothing"});
  EXPECT_EQ(none.code, 3);
  EXPECT_THAT(none.err, HasSubstr("no file of the repository is wanted"));
}

TEST_F(PullTest, DatasetsHaveTheirOwnNames) {
  FakeRepo& data = hub_->add("org/data", "datasets");
  data.put("data/train.jsonl", "{\"text\": \"a\"}\n");
  data.put("README.md", "# Data\n");
  const Path folder = pulled({"--dataset", "org/data"});
  EXPECT_EQ(folder, repo("datasets--org--data") / "snapshots" / data.commit);
  EXPECT_THAT(files(folder), ElementsAre("data/train.jsonl"));
  EXPECT_GE(hub_->count("/datasets/org/data/resolve/"), 1);
}

TEST_F(PullTest, DryRunTellsAndDoesNothing) {
  add_model();
  const RunResult result = pull({"org/model", "--dry-run"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("model.safetensors"));
  EXPECT_THAT(result.out, HasSubstr("4 files, "));
  EXPECT_THAT(result.out, HasSubstr("to download: 4 files"));
  EXPECT_FALSE(fs::exists(home()));
  pulled({"org/model", "--include", "config.json"});
  EXPECT_THAT(pull({"org/model", "-n"}).out, HasSubstr("to download: 3 files"));
}

TEST_F(PullTest, Json) {
  const FakeRepo& model = add_model();
  const RunResult plan = pull({"org/model", "--json", "-n"});
  const Json before = parse_json(plan.out, "plan");
  EXPECT_EQ(before["schema"], 1);
  EXPECT_EQ(before["commit"], model.commit);
  EXPECT_EQ(before["missing_bytes"], before["bytes"]);
  EXPECT_EQ(before["files"].size(), 4u);
  const Json after = parse_json(pull({"org/model", "--json"}).out, "result");
  EXPECT_EQ(after["path"], (repo() / "snapshots" / model.commit).string());
  EXPECT_EQ(parse_json(pull({"org/model", "--json", "-n"}).out, "plan")["missing_bytes"], 0);
}

TEST_F(PullTest, LocalFolder) {
  FakeRepo& model = add_model();
  const std::string there = (scratch_.path() / "there").string();
  EXPECT_EQ(pulled({"org/model", "--local-dir", there}), there);
  expect_same(there, model, "model.safetensors");
  EXPECT_FALSE(fs::is_symlink(fs::path(there) / "config.json"));
  EXPECT_FALSE(fs::exists(repo()));
  const Words note =
      lines(read_text(fs::path(there) / ".cache/huggingface/download/config.json.metadata"));
  ASSERT_EQ(note.size(), 3u);
  EXPECT_EQ(note[0], model.commit);
  EXPECT_EQ(note[1], model.find("config.json")->etag);
  const int64_t sent = hub_->bytes_sent();
  pulled({"org/model", "--local-dir", there});
  EXPECT_EQ(hub_->bytes_sent(), sent);
  // A file that was changed here is recognized, by its hash where its size tells nothing. It is the
  // user's now.
  const fs::path file = fs::path(there) / "tokenizer_config.json";
  const fs::path noted =
      fs::path(there) / ".cache/huggingface/download/tokenizer_config.json.metadata";
  write_file_atomically(file, as_bytes("[]\n"));
  const std::string old = read_text(noted);
  write_file_atomically(noted,
                        as_bytes(old.substr(0, old.rfind('\n', old.size() - 2)) + "\n1000000\n"));
  EXPECT_EQ(pull({"org/model", "--local-dir", there}).code, 2);
  EXPECT_EQ(read_text(file), "[]\n");
  pulled({"org/model", "--local-dir", there, "--force"});
  expect_same(there, model, "tokenizer_config.json");
  EXPECT_EQ(hub_->bytes_sent(), sent + 3);
  // What was never pulled stays in any case.
  write_file_atomically(file, as_bytes("[]\n"));
  fs::remove(noted);
  for (const char* flag : {"-q", "--force"})
    EXPECT_EQ(pull({"org/model", "--local-dir", there, flag}).code, 2);
  EXPECT_EQ(read_text(file), "[]\n");
}

TEST_F(PullTest, ShardsByTheIndexAndNoDuplicates) {
  FakeRepo& model = hub_->add("org/model");
  model.put("config.json", "{}");
  model.put("tokenizer.json", "{}");
  model.put(
      "model.safetensors.index.json",
      R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})");
  model.put("model-00001-of-00002.safetensors", random_bytes(1000, 1));
  model.put("model-00002-of-00002.safetensors", random_bytes(1000, 1));  // the same content
  model.put("consolidated.safetensors", random_bytes(2000, 3));
  const Path folder = pulled({"org/model"});
  EXPECT_FALSE(fs::exists(folder / "consolidated.safetensors"));
  expect_same(folder, model, "model-00002-of-00002.safetensors");
  EXPECT_EQ(hub_->count("/blob/"), 1);  // one content, one download
}

TEST_F(PullTest, PaginationAndEmptyFiles) {
  start({.page_size = 3});
  FakeRepo& data = hub_->add("org/data", "datasets");
  for (int i = 0; i < 10; ++i)
    data.put("part/" + std::to_string(i) + ".txt", std::string(static_cast<size_t>(i), 'x'));
  const Path folder = pulled({"--dataset", "org/data"});
  EXPECT_EQ(files(folder).size(), 10u);
  EXPECT_EQ(fs::file_size(folder / "part/0.txt"), 0u);
  EXPECT_EQ(hub_->count("/tree/"), 4);
  expect_clean(repo("datasets--org--data"));
}

TEST_F(PullTest, AMirrorWithoutListings) {
  start({.has_tree = false});
  FakeRepo& model = add_model();
  const Path folder = pulled({"org/model"});
  EXPECT_EQ(files(folder).size(), 4u);
  expect_same(folder, model, "model.safetensors");
  expect_clean(repo());
}

TEST_F(PullTest, Offline) {
  const FakeRepo& model = add_model();
  const RunResult empty = pull({"org/model"}, {{"HF_HUB_OFFLINE", "1"}});
  EXPECT_EQ(empty.code, 3);
  EXPECT_THAT(empty.err,
              HasSubstr("org/model: not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub"));
  EXPECT_EQ(hub_->seen().size(), 0u);
  pulled({"org/model", "--include", "config.json"});
  EXPECT_THAT(pull({"org/model"}, {{"TRANSFORMERS_OFFLINE", "yes"}}).err,
              HasSubstr("not completely in the cache"));
  pulled({"org/model"});
  hub_->forget_requests();
  EXPECT_EQ(pulled({"org/model"}, {{"HF_HUB_OFFLINE", "TRUE"}}),
            repo() / "snapshots" / model.commit);
  EXPECT_EQ(hub_->seen().size(), 0u);
}

TEST_F(PullTest, WithoutNetworkTheCacheServes) {
  const FakeRepo& model = add_model();
  const Path folder = pulled({"org/model"});
  const std::string commit = model.commit;
  const Environment dead = {{"HF_ENDPOINT", "http://127.0.0.1:9"}};
  const RunResult known = pull({"org/model"}, dead);
  EXPECT_EQ(known.code, 0) << known.err;
  EXPECT_EQ(known.out, folder.string() + "\n");
  EXPECT_THAT(known.err, HasSubstr("cannot reach the server"));
  EXPECT_THAT(known.err, HasSubstr("using what the cache has (" + commit.substr(0, 12)));
  const RunResult unknown = pull({"org/other"}, dead);
  EXPECT_EQ(unknown.code, 3);
  EXPECT_THAT(unknown.err, HasSubstr("cannot reach the server"));
  EXPECT_THAT(unknown.err, HasSubstr("HF_ENDPOINT"));
}

TEST_F(PullTest, FileSystemsWithoutSymlinks) {
  FakeRepo& model = add_model();
  const Environment plain = {{"HF_HUB_DISABLE_SYMLINKS", "1"}};
  const Path folder = pulled({"org/model"}, plain);
  for (const std::string& path : files(folder)) {
    EXPECT_FALSE(fs::is_symlink(folder / path)) << path;
    expect_same(folder, model, path);
  }
  const int64_t sent = hub_->bytes_sent();
  pulled({"org/model"}, plain);
  EXPECT_EQ(hub_->bytes_sent(), sent);
  EXPECT_EQ(pulled({"org/model"}, {{"HF_HUB_DISABLE_SYMLINKS", "1"}, {"HF_HUB_OFFLINE", "1"}}),
            folder);
}

TEST_F(PullTest, TheCacheMayBeElsewhere) {
  add_model();
  const Path other = scratch_.path() / "other";
  EXPECT_TRUE(pulled({"org/model"}, {{"HF_HUB_CACHE", other.string()}})
                  .string()
                  .starts_with(other.string()));
  EXPECT_TRUE(pulled({"org/model"}, {{"HF_HOME", ""}, {"XDG_CACHE_HOME", other.string()}})
                  .string()
                  .starts_with((other / "huggingface/hub").string()));
  EXPECT_TRUE(pulled({"org/model"}, {{"HF_HOME", ""}})
                  .string()
                  .starts_with((scratch_.path() / ".cache/huggingface/hub").string()));
}

TEST_F(PullTest, WrongUseIsUsage) {
  for (const Words& words : std::vector<Words>{{},
                                               {"a/b/c"},
                                               {"../x"},
                                               {"org/model@"},
                                               {"org/mo del"},
                                               {"-org/x"},
                                               {"org/x.git"},
                                               {"org/model", "extra"},
                                               {"--login", "org/model"},
                                               {"org/model@a/../b"}}) {
    const RunResult result = pull(words);
    EXPECT_EQ(result.code, 2) << ::testing::PrintToString(words) << result.err;
    EXPECT_THAT(result.err, HasSubstr("qwb-pull: error: "));
  }
  EXPECT_EQ(pull({"org/model"}, {{"HF_ENDPOINT", "ftp://example.org"}}).code, 2);
  EXPECT_EQ(pull({"org/model"}, {{"HF_HUB_DOWNLOAD_TIMEOUT", "soon"}}).code, 2);
  EXPECT_EQ(hub_->seen().size(), 0u);
}

using SlowPull = PullTest;  // starts the other tools, which sanitized builds lack

TEST_F(SlowPull, OtherToolsTakeNames) {
  hub_->add("org/demo");
  FakeRepo& model = hub_->add("demo/gpt2");
  for (const auto& entry : fs::directory_iterator(Path(QWB_SOURCE_DIR) / "recipes/demo/gpt2"))
    model.put(entry.path().filename().string(), read_text(entry.path()));
  const std::vector<std::string> ask = {"Once", "--model", "demo/gpt2", "--max-tokens", "2"};
  const RunResult first = tool("complete", ask);
  EXPECT_EQ(first.code, 0) << first.err;
  const Path snapshot = repo("models--demo--gpt2") / "snapshots" / model.commit;
  hub_->forget_requests();
  model.put("config.json", "{}");  // what is here complete is used as it is, without a request
  const RunResult shown = tool("inspect", {"demo/gpt2"});
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr(snapshot.string()));
  EXPECT_EQ(tool("complete", ask).out, first.out);
  EXPECT_EQ(hub_->seen().size(), 0u);
  const RunResult missing = tool("inspect", {"org/absent"});
  EXPECT_EQ(missing.code, 3);
  EXPECT_THAT(
      missing.err,
      HasSubstr("no such model folder, and none from the Hub: org/absent: there is no such model"));
}

// What config.json tells, and no byte of the weights.
TEST_F(SlowPull, InspectNeedsNoWeights) {
  FakeRepo& model = hub_->add("org/large");
  const Path golden = Path(QWB_SOURCE_DIR) / "tests/golden/model/qwen3_moe";
  model.put("config.json", read_text(golden / "config.json"));
  model.put("model.safetensors", random_bytes(9 << 20, 1), true);
  const int64_t sent = hub_->bytes_sent();
  const RunResult shown = tool("inspect", {"org/large", "--json"});
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_LT(hub_->bytes_sent() - sent, 1 << 16);
  const Json record = parse_json(shown.out, "record");
  EXPECT_EQ(record["supported"], true);
  // Embedding and head 2 * 640, the last norm 16; a block: attention 1536, norms 32 + 16, router
  // 80, five experts of 576, of which a token is sent to three.
  EXPECT_EQ(record["parameters"], 2 * 640 + 16 + 2 * (1536 + 48 + 80 + 5 * 576));
  EXPECT_EQ(record["used_parameters"], 2 * 640 + 16 + 2 * (1536 + 48 + 80 + 3 * 576));
  // Groups of 128 do not fit rows of 16: no line for the methods that have them.
  std::vector<std::string> named;
  for (const Json& method : record["methods"]) named.push_back(method["name"]);
  EXPECT_THAT(named, ::testing::UnorderedElementsAre("bf16", "int8", "nf4", "fp4"));
  FakeRepo& strange = hub_->add("org/strange");
  strange.put("config.json", R"({"model_type": "mamba"})");
  strange.put("model.safetensors", random_bytes(9 << 20, 2), true);
  const RunResult refused = tool("inspect", {"org/strange"});
  EXPECT_EQ(refused.code, 5);
  EXPECT_THAT(refused.out, HasSubstr("no: "));
  EXPECT_THAT(refused.out, HasSubstr("'mamba' is not known"));
}

}  // namespace
}  // namespace qwb::testing
