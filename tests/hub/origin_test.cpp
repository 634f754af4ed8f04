// Which commit a folder on this machine is.
#include "lib/hub/origin.h"

#include <ctime>
#include <fstream>

#include "tests/hub/pull_helper.h"

namespace qwb::testing {
namespace {

using namespace hub;

namespace fs = std::filesystem;

const std::string kOrigin(40, 'a'), kOtherOrigin(40, 'b');

void put(const Path& file, const std::string& text = "{}") {
  fs::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

// What huggingface_hub writes beside files of --local-dir.
void note(const Path& folder, const std::string& file, const std::string& commit,
          int64_t seconds_ago = 0) {
  put(folder / ".cache/huggingface/download" / (file + ".metadata"),
      commit + "\netag\n" + std::to_string(std::time(nullptr) - seconds_ago) + ".5\n");
}

TEST(Origin, ASnapshotIsItsCommit) {
  const TemporaryFolder scratch;
  const Path snapshot = scratch.path() / "models--org--name/snapshots" / kOrigin;
  put(scratch.path() / "models--org--name/blobs/b1");
  put(snapshot / "q4/part.gguf");
  fs::create_symlink("../../blobs/b1", snapshot / "model.gguf");
  EXPECT_EQ(commit_of(snapshot), kOrigin);
  EXPECT_EQ(commit_of(snapshot.string() + "/"), kOrigin);
  EXPECT_EQ(commit_of(snapshot / "model.gguf"), kOrigin);  // not where its blob lies
  EXPECT_EQ(commit_of(snapshot / "q4/part.gguf"), kOrigin);
  fs::create_directory_symlink(snapshot, scratch.path() / "link");
  EXPECT_EQ(commit_of(scratch.path() / "link"), kOrigin);
}

TEST(Origin, OtherFoldersHaveNone) {
  const TemporaryFolder scratch;
  for (const std::string& name :
       {"plain/" + kOrigin, std::string("models--org--name/snapshots/main"),
        "models--org--name/snapshots/" + kOrigin.substr(1), "datasets--o--n/snapshots/" + kOrigin,
        "models--org--name/blobs/" + kOrigin}) {
    put(scratch.path() / name / "config.json");
    EXPECT_EQ(commit_of(scratch.path() / name), std::nullopt) << name;
  }
  EXPECT_EQ(commit_of(scratch.path() / "absent"), std::nullopt);
  EXPECT_EQ(commit_of(""), std::nullopt);
}

TEST(Origin, NotesOfALocalFolderMustAgreeAndHold) {
  const TemporaryFolder scratch;
  const Path folder = scratch.path() / "model";
  for (const char* file : {"config.json", "model.safetensors"}) {
    put(folder / file);
    note(folder, file, kOrigin);
  }
  put(folder / "notes.txt");  // decides nothing
  EXPECT_EQ(commit_of(folder), kOrigin);
  EXPECT_EQ(commit_of(folder / "model.safetensors"), kOrigin);
  note(folder, "model.safetensors", kOtherOrigin);
  EXPECT_EQ(commit_of(folder), std::nullopt);
  note(folder, "model.safetensors", kOrigin, 3600);  // the file was changed after it was noted
  EXPECT_EQ(commit_of(folder), std::nullopt);
  note(folder, "model.safetensors", kOrigin);
  EXPECT_EQ(commit_of(folder), kOrigin);
  put(folder / "more.safetensors");  // somebody's own
  EXPECT_EQ(commit_of(folder), std::nullopt);
  note(folder, "more.safetensors", "no commit");
  EXPECT_EQ(commit_of(folder), std::nullopt);
}

}  // namespace
}  // namespace qwb::testing
