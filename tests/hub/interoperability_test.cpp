// What qwb-pull leaves on disk is what huggingface_hub leaves (tests/golden/hub/tree.json, made by
// make_hub.py), and what huggingface_hub left is taken as it is.
#include "tests/hub/pull_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;

class Interoperability : public PullTest {
 protected:
  Interoperability() {
    golden_ =
        parse_json(read_text(Path(QWB_SOURCE_DIR) / "tests/golden/hub/tree.json"), "tree.json");
    model_ = &hub_->add("org/model");
    for (const auto& [name, content] : golden_["files"].items())
      model_->put(name, content.get<std::string>());
  }

  // As make_hub.py's tree().
  Json tree() const {
    Json entries = Json::object();
    for (const std::string& name : files(cache())) {
      const Path path = cache() / name;
      bool ours = false;
      for (const Path& part : Path(name))
        ours |= part == ".qwb" || part == "trees" || part == ".no_exist" || part == ".locks";
      if (ours) continue;
      if (fs::is_symlink(path)) {
        entries[name] = {{"link", fs::read_symlink(path).string()}};
      } else if (name == "CACHEDIR.TAG") {
        entries[name] = {{"begins", read_text(path).substr(0, 43)}};
      } else {
        const std::string content = read_text(path);
        entries[name] = {{"sha256", sha256_hex(as_bytes(content))}};
      }
    }
    return entries;
  }

  // The golden tree on disk, as huggingface_hub would have left it.
  void make_tree() const {
    std::map<std::string, std::string> contents;  // by sha256
    for (const auto& [name, content] : golden_["files"].items())
      contents[sha256_hex(as_bytes(content.get_ref<const std::string&>()))] = content;
    contents[sha256_hex(as_bytes(model_->commit))] = model_->commit;
    for (const auto& [name, entry] : golden_["tree"].items()) {
      fs::create_directories((cache() / name).parent_path());
      if (entry.contains("link")) {
        fs::create_symlink(entry["link"].get<std::string>(), cache() / name);
      } else if (entry.contains("sha256")) {
        ASSERT_TRUE(contents.contains(entry["sha256"])) << name;
        write_file_atomically(cache() / name, as_bytes(contents[entry["sha256"]]));
      }
    }
  }

  Json golden_;
  FakeRepo* model_ = nullptr;
};

TEST_F(Interoperability, WeLeaveWhatTheyLeave) {
  pulled({"org/model", "--include", "*"});
  EXPECT_EQ(json_canonical(tree()), json_canonical(golden_["tree"]));
}

TEST_F(Interoperability, WeTakeWhatTheyLeft) {
  make_tree();
  const Path snapshot = repo() / "snapshots" / model_->commit;
  EXPECT_EQ(pulled({"org/model"}, {{"HF_HUB_OFFLINE", "1"}}), snapshot);
  EXPECT_EQ(pulled({"org/model@" + model_->commit}), snapshot);
  EXPECT_EQ(hub_->seen().size(), 0u);
  EXPECT_EQ(pulled({"org/model", "--include", "*"}), snapshot);
  EXPECT_EQ(hub_->bytes_sent(), 0);
  // A blob that lost its end is no blob.
  fs::resize_file(repo() / "blobs" / model_->find("model.safetensors")->etag, 5);
  EXPECT_EQ(pull({"org/model"}, {{"HF_HUB_OFFLINE", "1"}}).code, 3);
  EXPECT_EQ(pulled({"org/model"}), snapshot);
  expect_same(snapshot, *model_, "model.safetensors");
}

}  // namespace
}  // namespace qwb::testing
