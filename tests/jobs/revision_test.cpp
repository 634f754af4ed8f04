// The commit of a pulled model stands in qwb.json, and changes neither keys nor contents.
#include <gtest/gtest.h>

#include "lib/jobs/convert_job.h"
#include "lib/jobs/quantize_job.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;

Json source_of(const Path& folder) {
  const Path file = folder / "qwb.json";
  return parse_json(read_text(file), file.string()).at("source");
}

CachedArtifact rounded(const Path& model, const Store& store) {
  return quantize({.model = model, .plan = {.method = &find_method("rtn")}}, store, {}, {});
}

TEST(Revision, IsThatOfThePulledModel) {
  const testing::Scratch scratch("revision");
  const std::string commit(40, 'c');
  const Path snapshot = scratch.path() / "models--org--gpt2/snapshots" / commit;
  fs::create_directories(snapshot.parent_path());
  fs::copy(testing::demo("gpt2"), snapshot);
  const Store pulled_store({.root = scratch.path() / "a"}), store({.root = scratch.path() / "b"});
  const CachedArtifact pulled = rounded(snapshot, pulled_store);
  const CachedArtifact local = rounded(testing::demo("gpt2"), store);
  EXPECT_EQ(source_of(pulled.folder).at("revision"), commit);
  EXPECT_EQ(source_of(local.folder).at("revision"), nullptr);
  EXPECT_EQ(pulled.key.hex(), local.key.hex());
  EXPECT_EQ(open_model(pulled.folder).content_hash(), open_model(local.folder).content_hash());
  EXPECT_TRUE(rounded(testing::demo("gpt2"), pulled_store).cached);  // the other one's
}

TEST(Revision, ConversionsKeepOrFindIt) {
  const testing::Scratch scratch("revision-convert");
  const std::string commit(40, 'd');
  const Path snapshot = scratch.path() / "models--org--gpt2/snapshots" / commit;
  fs::create_directories(snapshot.parent_path());
  fs::copy(testing::demo("gpt2"), snapshot);
  const Context context;
  const auto converted = [&](const Path& model, const std::string& name) {
    const Method& rtn = find_method("rtn");
    ConvertJob job({.model = model,
                    .format = "qwb",
                    .requantize = &rtn,
                    .settings = resolve_settings(rtn, Json::object())},
                   context);
    job.write(scratch.path() / name);
    return source_of(scratch.path() / name);
  };
  EXPECT_EQ(converted(snapshot, "pulled").at("revision"), commit);
  EXPECT_EQ(converted(testing::demo("gpt2"), "local").at("revision"), nullptr);
  // Of an artifact it is its original's.
  EXPECT_EQ(converted(scratch.path() / "pulled", "again").at("revision"), commit);
}

}  // namespace
}  // namespace qwb
