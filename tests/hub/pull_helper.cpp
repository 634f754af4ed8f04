#include "tests/hub/pull_helper.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace qwb::testing {
namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder() {
  std::string name = (fs::temp_directory_path() / "qwb-hub-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void PullTest::start(FakeHub::Settings settings) {
  hub_.reset();
  settings.folder = scratch_.path().string();
  hub_ = std::make_unique<FakeHub>(settings);
}

Environment PullTest::environment() const {
  Environment result = {
      {"HF_ENDPOINT", hub_->endpoint()},  {"HF_HOME", home().string()},
      {"HOME", scratch_.path().string()}, {"QWB_CACHE", (scratch_.path() / "qwb").string()},
      {"QWB_HUB_BACKOFF", "0.02"},        {"HF_HUB_DOWNLOAD_TIMEOUT", "1"},
      {"HF_HUB_ETAG_TIMEOUT", "2"},       {"GOMP_SPINCOUNT", "3000"}};
  for (const char* name : {"HF_TOKEN",
                           "HUGGING_FACE_HUB_TOKEN",
                           "HF_TOKEN_PATH",
                           "HF_HUB_CACHE",
                           "HUGGINGFACE_HUB_CACHE",
                           "XDG_CACHE_HOME",
                           "HF_HUB_OFFLINE",
                           "TRANSFORMERS_OFFLINE",
                           "HF_HUB_DISABLE_SYMLINKS",
                           "HF_HUB_DISABLE_IMPLICIT_TOKEN",
                           "http_proxy",
                           "https_proxy",
                           "HTTP_PROXY",
                           "HTTPS_PROXY",
                           "all_proxy",
                           "ALL_PROXY",
                           "SSL_CERT_FILE",
                           "REQUESTS_CA_BUNDLE",
                           "CURL_CA_BUNDLE",
                           "QWB_DATA",
                           "QWB_MODEL",
                           "QWB_HUB_LOCK_PATIENCE",
                           "NO_COLOR"})
    result[name] = "";
  return result;
}

RunResult PullTest::tool(const std::string& name, Words arguments, const Environment& more,
                         RunOptions options) const {
  Environment all = environment();
  for (const auto& [variable, value] : more) all[variable] = value;
  for (const auto& [variable, value] : all) options.environment[variable] = value;
  arguments.insert(arguments.begin(), QWB_BIN_DIR "/qwb-" + name);
  return run(arguments, options);
}

Path PullTest::pulled(const Words& arguments, const Environment& more) const {
  const RunResult result = pull(arguments, more);
  EXPECT_EQ(result.code, 0) << result.err;
  const Words out = lines(result.out);
  if (out.empty()) return {};
  EXPECT_TRUE(fs::is_directory(out.back())) << result.out;
  return out.back();
}

FakeRepo& PullTest::add_model(const std::string& id, size_t bytes) {
  FakeRepo& repo = hub_->add(id);
  repo.put("config.json", "{\"model_type\": \"llama\"}\n");
  repo.put("tokenizer.json", "{\"version\": \"1.0\"}\n");
  repo.put("tokenizer_config.json", "{}\n");
  repo.put("model.safetensors", random_bytes(bytes, 1));
  repo.put("README.md", "# A model\n");
  repo.put(".gitattributes", "*.safetensors filter=lfs\n");
  repo.put("pytorch_model.bin", random_bytes(1000, 2), true);
  repo.put("original/consolidated.00.pth", random_bytes(1000, 3), true);
  repo.put("onnx/model.onnx", random_bytes(1000, 4), true);
  repo.put("model-Q4.gguf", random_bytes(1000, 5), true);
  return repo;
}

Words PullTest::files(const Path& folder) {
  Words names;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().lexically_relative(folder).string();
    if ((!it->is_directory() || it->is_symlink()) && !name.ends_with(".lock"))
      names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void PullTest::expect_clean(const Path& repo, bool partials_allowed) const {
  for (const std::string& name : files(repo / "blobs")) {
    const Path path = repo / "blobs" / name;
    if (name.find("incomplete") != std::string::npos || is_temporary_name(name)) {
      EXPECT_TRUE(partials_allowed) << name;
      continue;
    }
    const std::string content = read_text(path);
    EXPECT_EQ(name,
              name.size() == 64 ? sha256_hex(as_bytes(content)) : git_blob_hex(as_bytes(content)));
  }
  for (const std::string& name : files(repo / "snapshots")) {
    const Path path = repo / "snapshots" / name;
    EXPECT_TRUE(fs::is_symlink(path)) << name;
    EXPECT_TRUE(fs::exists(path)) << name << " leads nowhere";
    EXPECT_TRUE(fs::read_symlink(path).is_relative()) << name;
    EXPECT_EQ(fs::canonical(path).parent_path(), fs::canonical(repo / "blobs")) << name;
  }
}

void PullTest::expect_same(const Path& folder, const FakeRepo& repo, const std::string& path) {
  const FakeFile* file = repo.find(path);
  ASSERT_NE(file, nullptr) << path;
  ASSERT_TRUE(fs::exists(folder / path)) << path;
  EXPECT_TRUE(read_text(folder / path) == as_text(file->content)) << path << " differs";
}

}  // namespace qwb::testing
