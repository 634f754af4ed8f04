// Where a run may write: nothing that this program did not make, nothing that the run reads,
// whatever the spelling.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "lib/base/error.h"
#include "lib/base/outputs.h"
#include "lib/base/written_files.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class OutputsTest : public ::testing::Test {
 protected:
  OutputsTest() {
    std::string name = (fs::temp_directory_path() / "qwb-outputs-XXXXXX").string();
    root_ = fs::canonical(::mkdtemp(name.data()));
    write("model/config.json", "{}");
    write("model/model.safetensors", "weights");
  }
  ~OutputsTest() override { fs::remove_all(root_); }

  Path write(const std::string& name, const std::string& text) const {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
    return root_ / name;
  }
  // A folder as our tools leave it.
  Path own_folder(const std::string& name, const char* list = kWrittenFiles) const {
    write(name + "/config.json", "{\"ours\": 1}");
    write(name + "/" + list, written_files_text(hash_files(root_ / name)));
    return root_ / name;
  }
  // Empty: allowed.
  template <typename Work>
  static std::string refusal(const Work& work, ErrorKind kind = ErrorKind::usage) {
    try {
      work();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      return error.what();
    }
    return {};
  }
  std::string folder_with(bool force, const Path& place, const Path& input = {}) const {
    Outputs outputs(force);
    if (!input.empty()) outputs.input(input);
    return refusal([&] { outputs.folder(place, "--out"); });
  }
  std::string file_with(bool force, const Path& place, const Path& input = {}) const {
    Outputs outputs(force);
    if (!input.empty()) outputs.input(input);
    return refusal([&] { outputs.file(place, "--out"); });
  }
  size_t entries() const {
    return static_cast<size_t>(std::distance(fs::recursive_directory_iterator(root_), {}));
  }

  Path root_;
};

TEST_F(OutputsTest, OnlyFoldersOfOurOwnAreReplaced) {
  write("mine/thesis.txt", "ten days of work");
  EXPECT_THAT(folder_with(false, root_ / "mine"), HasSubstr("--force"));
  EXPECT_THAT(folder_with(true, root_ / "mine"), HasSubstr("qwb did not write it"));
  EXPECT_THAT(folder_with(true, root_), HasSubstr("qwb did not write it"));
  for (const char* list : {kWrittenFiles, kArtifactSums}) {
    const Path own = own_folder(std::string("own") + list, list);
    EXPECT_THAT(folder_with(false, own), HasSubstr("--force"));
    EXPECT_EQ(folder_with(true, own), "");
    write(own.filename().string() + "/notes.md", "mine");
    EXPECT_THAT(folder_with(true, own), HasSubstr("notes.md in it is not of qwb's making"));
    fs::remove(own / "notes.md");
    write(own.filename().string() + "/config.json", "{\"ours\": 2}");
    EXPECT_THAT(folder_with(true, own), HasSubstr("config.json was changed since"));
  }
  const Path nested = own_folder("nested");
  fs::create_directory(nested / "sub");
  EXPECT_THAT(folder_with(true, nested), HasSubstr("sub in it"));
  const Path linked = own_folder("linked");
  fs::remove(linked / "config.json");
  fs::create_symlink(root_ / "model/config.json", linked / "config.json");
  EXPECT_THAT(folder_with(true, linked), HasSubstr("config.json in it"));
  fs::create_directory(root_ / "empty");
  EXPECT_EQ(folder_with(false, root_ / "empty"), "");
  EXPECT_EQ(folder_with(false, root_ / "new/deep"), "");
  EXPECT_FALSE(fs::exists(root_ / "new"));  // found out, not made
}

TEST_F(OutputsTest, CommitLooksOnceMore) {
  const Path own = own_folder("own");
  PendingFolder pending(own);
  std::ofstream(pending.path() / "new.txt") << "new";
  write("own/late.txt", "came while the work went on");
  EXPECT_THAT(refusal([&] { pending.commit(true); }), HasSubstr("late.txt"));
  EXPECT_TRUE(fs::exists(own / "late.txt") && fs::exists(own / "config.json"));
  fs::remove(own / "late.txt");
  EXPECT_FALSE(PendingFolder(own).commit(false));
  EXPECT_TRUE(pending.commit(true));
  EXPECT_TRUE(fs::exists(own / "new.txt"));
  EXPECT_FALSE(fs::exists(own / "config.json"));
  for (const auto& entry : fs::directory_iterator(root_))
    EXPECT_FALSE(is_temporary_name(entry.path().filename().string())) << entry.path();
}

TEST_F(OutputsTest, InputsSurviveInEverySpelling) {
  const Path model = root_ / "model";
  fs::create_directory_symlink(model, root_ / "link");
  fs::create_directory(root_ / "dots");
  for (const Path& place : {model, root_ / "link", root_ / "dots/../model", root_ / "./model/.",
                            model / "out", root_ / "link/out"}) {
    for (const bool force : {false, true}) EXPECT_NE(folder_with(force, place, model), "") << place;
  }
  EXPECT_THAT(folder_with(true, model / "out", root_ / "link"), HasSubstr("lies in what is read"));
  // An own folder that somebody keeps the model in, and one whose file is the input's by another
  // name.
  const Path own = own_folder("own");
  EXPECT_THAT(folder_with(true, own, own), HasSubstr("lies in what is read"));
  const Path hard = root_ / "hard";
  fs::create_directory(hard);
  fs::create_hard_link(own / "config.json", hard / "config.json");
  write("hard/.qwb-files", written_files_text(hash_files(hard)));
  EXPECT_THAT(folder_with(true, hard, own), HasSubstr("is a file that is read too"));
  EXPECT_EQ(folder_with(true, hard, model), "");
}

TEST_F(OutputsTest, Files) {
  EXPECT_THAT(file_with(true, root_ / "new/"), HasSubstr("a folder"));
  EXPECT_THAT(file_with(true, "-"), HasSubstr("no name of a file"));
  EXPECT_THAT(folder_with(true, "-"), HasSubstr("no name of a file"));
  const Path text = write("a.txt", "text");
  EXPECT_THAT(file_with(false, text), HasSubstr("--force"));
  EXPECT_EQ(file_with(true, text), "");
  fs::create_hard_link(text, root_ / "hard.txt");
  fs::create_symlink(text, root_ / "soft.txt");
  for (const char* name : {"a.txt", "hard.txt", "soft.txt", "model/../a.txt", "./a.txt"})
    EXPECT_THAT(file_with(true, root_ / name, text), HasSubstr("write over what is read")) << name;
  EXPECT_THAT(file_with(true, root_ / "model/config.json", root_ / "model"),
              HasSubstr("what is read"));
  EXPECT_EQ(file_with(false, root_ / "model/new.gguf", root_ / "model"), "");  // destroys nothing
  EXPECT_THAT(file_with(true, root_ / "model"), HasSubstr("a folder, not a file"));
  EXPECT_THAT(file_with(true, "/dev/null"), HasSubstr("no regular file"));
  fs::create_symlink(root_ / "nowhere", root_ / "dangling");
  EXPECT_THAT(file_with(true, root_ / "dangling"), HasSubstr("leads nowhere"));
  EXPECT_THAT(file_with(true, ""), HasSubstr("empty name"));
  Outputs forced(true);
  EXPECT_THAT(refusal([&] { forced.file(text, "OUT", [](const Path&) { return false; }); }),
              HasSubstr("none that OUT writes"));
  EXPECT_THAT(refusal([&] { forced.file(root_ / "no/such/file", "OUT"); }, ErrorKind::not_found),
              HasSubstr("no such folder"));
}

TEST_F(OutputsTest, PlacesThatCannotBe) {
  const auto failing = [&](const Path& place, const std::string& words,
                           ErrorKind kind = ErrorKind::failed) {
    EXPECT_THAT(refusal([&] { Outputs().folder(place, "--out"); }, kind), HasSubstr(words))
        << place;
  };
  failing(root_ / std::string(300, 'x'), "File name too long");
  failing(root_ / "new" / std::string(300, 'x'), "File name too long");
  write("file", "");
  failing(root_ / "file/below", "Not a directory");
  failing(root_ / "file", "a folder is to be made", ErrorKind::usage);
  failing("/proc/qwb", "cannot write there",
          ::access("/proc", W_OK) == 0 ? ErrorKind::not_found : ErrorKind::failed);
  const Path before = fs::current_path();
  fs::create_directories(root_ / "here/below");
  fs::current_path(root_ / "here/below");
  for (const char* place : {".", "..", "../below", "../../here"}) {
    const std::string why = refusal([&] { Outputs(true).folder(place, "--out"); });
    EXPECT_THAT(why, HasSubstr("current folder")) << place;
  }
  fs::current_path(before);
}

TEST_F(OutputsTest, TwoOutputsAndTheCache) {
  Outputs outputs(true);
  outputs.keep_out(root_ / "cache/objects", "the cache");
  const auto refused = [&](const Path& place) {
    return refusal([&] { outputs.file(place, "--second"); });
  };
  outputs.folder(root_ / "out", "--out");
  outputs.file(root_ / "a.md", "--report");
  EXPECT_THAT(refused(root_ / "model/../a.md"), HasSubstr("named twice"));
  fs::create_directory(root_ / "out");
  EXPECT_THAT(refused(root_ / "out/b.md"), HasSubstr("over each other"));
  fs::create_directories(root_ / "cache/objects/ab");
  EXPECT_THAT(refused(root_ / "cache/objects/ab/x"), HasSubstr("the cache"));
  EXPECT_THAT(refusal([&] { outputs.folder(root_ / "cache/objects/ab/cd", "--out"); }),
              HasSubstr("the cache"));
  EXPECT_EQ(refused(root_ / "cache/x"), "");
}

TEST_F(OutputsTest, AFileThatCameMeanwhileStays) {
  const Path file = write("late.json", "theirs");
  const size_t before = entries();
  EXPECT_THAT(refusal([&] { write_file_atomically(file, as_bytes(std::string("ours")), false); }),
              HasSubstr("--force"));
  EXPECT_EQ(read_text(file), "theirs");
  EXPECT_EQ(entries(), before);
  write_file_atomically(file, as_bytes(std::string("ours")), true);
  EXPECT_EQ(read_text(file), "ours");
}

}  // namespace
}  // namespace qwb
