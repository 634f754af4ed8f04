// The parts of lib/hub on their own: names, URLs, waits, hashes, partial files, selection,
// settings.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>

#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "lib/hub/cache.h"
#include "lib/hub/digest.h"
#include "lib/hub/names.h"
#include "lib/hub/partial.h"
#include "lib/hub/retry.h"
#include "lib/hub/route.h"
#include "lib/hub/selection.h"
#include "tests/hub/pull_helper.h"

namespace qwb::testing {
namespace {

using namespace hub;

namespace fs = std::filesystem;
using ::testing::ElementsAre;

TEST(HubNames, Repositories) {
  for (const char* good :
       {"gpt2", "org/name", "org/name@v1", "org/name@refs/pr/3", "a.b_c-d/E.f", "o/n@feature/x"})
    EXPECT_TRUE(is_repo_name(good)) << good;
  for (const char* bad :
       {"", "/", "a/b/c", "a//b", "../a", "a/..", "a/b..c", "a--b/c", "-a/b", "a/b.", "a/b.git",
        "a b", "a/b@", "a/b@../x", "a/b@x//y", "a/b@x\\y", "a@b@c", "ä/b", "http://x/y"})
    EXPECT_FALSE(is_repo_name(bad)) << bad;
  EXPECT_FALSE(is_repo_name("a/" + std::string(97, 'x')));
  const RepoName repo = parse_repo("org/name@refs/pr/3", RepoKind::dataset);
  EXPECT_EQ(repo.folder(), "datasets--org--name");
  EXPECT_EQ(repo.api_path(), "/api/datasets/org/name");
  EXPECT_EQ(repo.page_path(), "/datasets/org/name");
  EXPECT_EQ(repo.revision, "refs/pr/3");
  EXPECT_EQ(parse_repo("gpt2", RepoKind::model).folder(), "models--gpt2");
  EXPECT_TRUE(parse_repo("gpt2@" + std::string(40, 'a'), RepoKind::model).is_commit());
  EXPECT_FALSE(parse_repo("gpt2@" + std::string(40, 'A'), RepoKind::model).is_commit());
}

TEST(HubNames, Files) {
  for (const char* good : {"a", "a/b/c.json", "..a", "a..b", ".gitattributes",
                           "2024-01-01T00:00:00.json", "ä ö.txt", "console.txt"})
    EXPECT_NO_THROW(check_file_name(good, "org/name")) << good;
  EXPECT_NO_THROW(check_file_name(std::string(255, 'a'), ""));
  for (const std::string bad : {"", ".", "..", "a/..", "/a", "a/", "a//b", "a\\b", "a\tb", "a\x7f",
                                "nul", "LPT1.txt", "a/Con", "c:x", ".git/x", "a/.GIT/x"})
    EXPECT_THROW(check_file_name(bad, "org/name"), Error) << bad;
  EXPECT_THROW(check_file_name(std::string("a\0b", 3), ""), Error);
  RemoteFile a, b;
  a.path = "x";
  b.path = "x/y";
  EXPECT_THROW(check_file_names({a, b}, ""), Error);
  EXPECT_THROW(check_file_names({b, a}, ""), Error);
  EXPECT_THROW(check_file_names({a, a}, ""), Error);
  b.path = "xy/x";
  EXPECT_NO_THROW(check_file_names({a, b}, ""));
}

TEST(HubUrl, OriginsAndLocations) {
  const Url hub = Url::parse("https://huggingface.co/org/name");
  EXPECT_TRUE(hub.same_origin(Url::parse("https://HuggingFace.co:443/x")));
  for (const char* other : {"http://huggingface.co/", "https://huggingface.co:8443/",
                            "https://huggingface.co.evil.org/", "https://evil.org/huggingface.co",
                            "https://cdn.huggingface.co/"})
    EXPECT_FALSE(hub.same_origin(Url::parse(other))) << other;
  EXPECT_EQ(hub.resolve("/new/place").text(), "https://huggingface.co/new/place");
  EXPECT_EQ(hub.resolve("//evil.org/x").host(), "evil.org");
  EXPECT_EQ(Url::parse("https://cdn.org/blob?Signature=secret#x").shown(), "https://cdn.org/blob");
  for (const char* bad : {"", "huggingface.co", "file:///etc/passwd",
                          "https://user:pass@huggingface.co/", "javascript:alert(1)", "https://"})
    EXPECT_THROW(Url::parse(bad), Error) << bad;
  EXPECT_THROW(hub.resolve("file:///etc/passwd"), Error);
  EXPECT_EQ(percent_encode("refs/pr/1 ä", false), "refs%2Fpr%2F1%20%C3%A4");
  EXPECT_EQ(percent_encode("a/b c?d#e", true), "a/b%20c%3Fd%23e");
}

TEST(HubRoute, TheTokenOnlyAtTheEndpoint) {
  HubSettings settings;
  settings.endpoint = "https://hub.test";
  settings.token = "hf_x";
  Route route(settings, Url::parse("https://hub.test/a"));
  EXPECT_EQ(route.request(false, "").token, "hf_x");
  HttpHead head;
  head.status = 302;
  head.fields["location"] = "https://cdn.test/b";
  route.follow(head);
  EXPECT_EQ(route.request(false, "").token, "");
  EXPECT_FALSE(route.at_endpoint());
  head.fields["location"] = "https://hub.test:444/b";
  route.follow(head);
  EXPECT_EQ(route.request(false, "").token, "");
  head.fields["location"] = "http://hub.test/b";
  EXPECT_THROW(route.follow(head), Error);
  head.fields["location"] = "https://hub.test/b";
  for (int i = 0; i < 7; ++i) route.follow(head);
  EXPECT_THROW(route.follow(head), Error);
}

TEST(HubRetry, RequestedWaits) {
  const auto wait = [](int status, std::map<std::string, std::string> fields) {
    return requested_wait({status, std::move(fields)});
  };
  EXPECT_EQ(wait(429, {{"retry-after", "7"}}), 7.0);
  EXPECT_EQ(wait(503, {}), std::nullopt);
  EXPECT_EQ(wait(503, {{"retry-after", "-1"}}), std::nullopt);
  EXPECT_EQ(wait(503, {{"retry-after", "soon"}}), std::nullopt);
  EXPECT_EQ(wait(429, {{"ratelimit", "\"api\";r=0;t=55"}}), 55.0);
  EXPECT_EQ(wait(429, {{"ratelimit", "\"api\";r=3;t=55"}}), std::nullopt);
  char date[64];
  const time_t then = std::time(nullptr) + 30;
  std::tm parts{};
  std::strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&then, &parts));
  EXPECT_NEAR(wait(503, {{"retry-after", date}}).value_or(-1), 30, 2);
  EXPECT_EQ(wait(503, {{"retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"}}), 0.0);
}

TEST(HubRetry, BackoffGrowsWithJitter) {
  Backoff backoff(1, 7);
  std::map<int, std::pair<double, double>> seen;
  for (int failures = 1; failures <= 6; ++failures) {
    double low = 1e9, high = 0;
    for (int i = 0; i < 500; ++i) {
      const double wait = backoff.wait(failures, false);
      low = std::min(low, wait);
      high = std::max(high, wait);
    }
    const double base = std::min(8.0, std::pow(2.0, failures - 1));
    EXPECT_GE(low, 0.5 * base);
    EXPECT_LT(high, 1.5 * base);
    EXPECT_GT(high - low, 0.8 * base);
  }
  EXPECT_LT(backoff.wait(1, true), 0.15);
}

TEST(HubDigest, KnownValues) {
  Digest git(std::string(40, '0'), 6);
  git.update(as_bytes("hello\n"));
  EXPECT_EQ(git.finish(), "ce013625030ba8dba906f756967f9e9ca394464a");  // git hash-object
  Digest sha(std::string(64, '0'), 3);
  sha.update(as_bytes("a"));
  sha.update(as_bytes("bc"));
  EXPECT_EQ(sha.finish(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-2
  EXPECT_THROW(Digest("\"weird\"", 3), Error);
}

class PartialTest : public ::testing::Test {
 protected:
  TemporaryFolder scratch_;
  Path path_ = scratch_.path() / "blob.incomplete";
};

// Whatever comes in whatever order, with reopening in between (a kill): what is claimed is there,
// and the end is the content.
TEST_F(PartialTest, RandomArrivals) {
  constexpr int64_t kSize = (19 << 20) + 3;
  const std::string content = random_bytes(kSize, 5);
  Rng rng(11);
  int64_t fresh = 0;
  std::optional<Partial> partial(Partial::open(path_, kSize));
  EXPECT_EQ(partial->piece_count(), 3);
  for (int i = 0; i < 4000 && partial->present() < kSize; ++i) {
    const auto piece =
        static_cast<int64_t>(rng.below(static_cast<uint64_t>(partial->piece_count())));
    const int64_t next = partial->piece_next(piece);
    // Sometimes from before (a server that ignores ranges), sometimes behind a gap, sometimes over
    // the end of the piece.
    int64_t begin = next + static_cast<int64_t>(rng.below(3)) * 1000 - 1000;
    begin = std::clamp<int64_t>(begin, 0, kSize - 1);
    const int64_t count =
        std::min<int64_t>(kSize - begin, 1 + static_cast<int64_t>(rng.below(300'000)));
    const int64_t present = partial->present();
    fresh += partial->accept(begin, as_bytes(std::string_view(content).substr(
                                        static_cast<size_t>(begin), static_cast<size_t>(count))));
    EXPECT_EQ(partial->present(), fresh);
    EXPECT_GE(partial->present(), present);
    if (i % 50 == 0) {
      partial.reset();
      EXPECT_EQ(Partial::present_in(path_, kSize), fresh);
      partial.emplace(Partial::open(path_, kSize));
    }
  }
  EXPECT_EQ(partial->present(), kSize);
  EXPECT_EQ(partial->prefix(), kSize);
  partial->seal();
  EXPECT_TRUE(read_text(path_) == content);
  EXPECT_EQ(Partial::present_in(path_, kSize), kSize);  // killed between the seal and the new name
}

TEST_F(PartialTest, DamagedNotesCountAsNothing) {
  constexpr int64_t kSize = 9 << 20;
  const auto fill = [&] {
    fs::remove(path_);
    Partial partial = Partial::open(path_, kSize);
    partial.accept(0, as_bytes(random_bytes(1000, 1)));
    EXPECT_EQ(partial.present(), 1000);
  };
  fill();
  EXPECT_EQ(Partial::present_in(path_, kSize), 1000);
  EXPECT_EQ(Partial::present_in(path_, kSize + 8), 0);
  const std::string good = read_text(path_);
  for (size_t at = kSize; at < good.size(); at += 3) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    write_file_atomically(path_, as_bytes(bad));
    const int64_t present = Partial::open(path_, kSize).present();
    EXPECT_GE(present, 0);
    EXPECT_LE(present, kSize);
  }
  for (const int64_t cut :
       {int64_t{0}, int64_t{5}, kSize - 1, kSize + 3, static_cast<int64_t>(good.size()) - 1}) {
    write_file_atomically(path_, as_bytes(good.substr(0, static_cast<size_t>(cut))));
    EXPECT_EQ(Partial::open(path_, kSize).present(), 0) << cut;
  }
  fill();
  fs::remove(path_);
  fs::create_symlink(scratch_.path() / "elsewhere", path_);
  EXPECT_THROW(Partial::open(path_, kSize), Error);
  EXPECT_FALSE(fs::exists(scratch_.path() / "elsewhere"));
}

TEST_F(PartialTest, Empty) {
  Partial partial = Partial::open(path_, 0);
  EXPECT_EQ(partial.piece_count(), 0);
  EXPECT_EQ(partial.prefix(), 0);
  partial.seal();
  EXPECT_EQ(fs::file_size(path_), 0u);
}

TEST(HubSelection, Models) {
  const Words paths = {"config.json",
                       "generation_config.json",
                       "model.safetensors",
                       "model.safetensors.index.json",
                       "tokenizer.json",
                       "tokenizer.model",
                       "merges.txt",
                       "vocab.json",
                       "chat_template.jinja",
                       "additional_chat_templates/tool.jinja",
                       "consolidated.safetensors",
                       "pytorch_model.bin",
                       "model.onnx",
                       "original/params.json",
                       "tf_model.h5",
                       "model-00001-of-00002.safetensors",
                       "training_args.bin",
                       "README.md",
                       "x.gguf",
                       "sub/model.safetensors",
                       "trainer_state.json"};
  EXPECT_THAT(default_files(RepoKind::model, paths),
              ElementsAre("config.json", "generation_config.json", "model.safetensors",
                          "tokenizer.json", "tokenizer.model", "merges.txt", "vocab.json",
                          "chat_template.jinja", "additional_chat_templates/tool.jinja"));
  EXPECT_THAT(
      default_files(RepoKind::model, {"weights.safetensors", "consolidated.safetensors", "a.bin"}),
      ElementsAre("weights.safetensors"));
  EXPECT_THAT(default_files(RepoKind::model,
                            {"model.safetensors.index.json", "model-00001-of-00001.safetensors",
                             "model.fp16.safetensors"}),
              ElementsAre("model.safetensors.index.json", "model-00001-of-00001.safetensors"));
  EXPECT_THAT(default_files(RepoKind::model, {"config.json", "pytorch_model.bin", "a.bin"}),
              ElementsAre("config.json", "pytorch_model.bin"));
  EXPECT_THAT(default_files(RepoKind::model,
                            {"pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin",
                             "sub/pytorch_model-00001-of-00001.bin", "training_args.bin"}),
              ElementsAre("pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"));
  EXPECT_TRUE(matches("*.json", "a/b.json"));
  EXPECT_TRUE(matches("a/", "a/b/c"));
  EXPECT_FALSE(matches("a", "a/b"));
  EXPECT_TRUE(matches("model-[0-9]*", "model-1"));
}

TEST(HubCache, RefsTreesAndMarkers) {
  const TemporaryFolder scratch;
  const RepoName repo = parse_repo("org/name@refs/pr/1", RepoKind::model);
  const RepoCache cache(scratch.path(), repo, true);
  const std::string commit(40, 'c');
  EXPECT_EQ(cache.commit(), "");
  cache.write_ref(commit);
  EXPECT_EQ(cache.commit(), commit);
  write_file_atomically(cache.folder() / "refs/refs/pr/1", as_bytes("../../../etc"));
  EXPECT_EQ(cache.commit(), "");
  RemoteFile file;
  file.path = "a/b.bin";
  file.size = 3;
  file.etag = std::string(64, 'a');
  file.git_oid = std::string(40, 'b');
  cache.write_tree(commit, {file});
  ASSERT_TRUE(cache.tree(commit));
  EXPECT_EQ(cache.tree(commit)->at(0).etag, file.etag);
  EXPECT_EQ(cache.tree(commit)->at(0).size, 3);
  // huggingface_hub's own list, and a hostile one.
  const std::string other(40, 'd');
  fs::create_directories(cache.folder() / "trees");
  std::ofstream(cache.folder() / "trees" / (other + ".json"))
      << R"({"format_version": 1, "files": {"x": {"size": 5, "blob_id": ")" + std::string(40, 'e') +
             R"("}}})";
  EXPECT_EQ(cache.tree(other)->at(0).path, "x");
  std::ofstream(cache.folder() / "trees" / (other + ".json"))
      << R"({"format_version": 1, "files": {"../x": {"size": 5, "blob_id": ")" +
             std::string(40, 'e') + R"("}}})";
  EXPECT_FALSE(cache.tree(other));
  cache.mark_absent(commit, "sub/none.json");
  EXPECT_TRUE(cache.known_absent(commit, "sub/none.json"));
}

TEST(HubCache, PlacingRepairsWhatIsWrong) {
  const TemporaryFolder scratch;
  const RepoCache cache(scratch.path(), parse_repo("org/name", RepoKind::model), true);
  const std::string commit(40, 'c');
  RemoteFile file;
  file.path = "a/b.txt";
  file.size = 5;
  file.etag = git_blob_hex(as_bytes("right"));
  EXPECT_THROW(cache.place(commit, file, false), Error);  // no blob
  fs::create_directories(cache.blobs());
  write_file_atomically(cache.blobs() / file.etag, as_bytes("right"));
  fs::create_directories(cache.snapshot(commit) / "a");
  fs::create_symlink("../../../../nowhere", cache.snapshot(commit) / "a/b.txt");
  EXPECT_FALSE(cache.has(commit, file));
  cache.place(commit, file, false);
  EXPECT_EQ(read_text(cache.snapshot(commit) / "a/b.txt"), "right");
  EXPECT_EQ(fs::read_symlink(cache.snapshot(commit) / "a/b.txt"), "../../../blobs/" + file.etag);
  cache.place(commit, file, false);
  EXPECT_TRUE(cache.has(commit, file));
}

}  // namespace
}  // namespace qwb::testing
