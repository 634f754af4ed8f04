// A server that answers badly: every trouble either passes unseen or ends with a clear message, and
// never leaves a wrong byte where somebody would find it.
#include "tests/hub/pull_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr size_t kLarge = 20 << 20;  // three pieces

class Misbehaviour : public PullTest {
 protected:
  Misbehaviour() { model_ = &add_model("org/model", kLarge); }
  std::string blob() const { return "/blob/" + model_->find("model.safetensors")->etag; }
  // It works nevertheless. Returns the bytes sent over those needed.
  double expect_survives(const Environment& more = {}) {
    const int64_t before = hub_->bytes_sent();
    const RunResult result = pull({"org/model"}, more);
    EXPECT_EQ(result.code, 0) << result.err;
    expect_same(repo() / "snapshots" / model_->commit, *model_, "model.safetensors");
    expect_same(repo() / "snapshots" / model_->commit, *model_, "config.json");
    expect_clean(repo());
    return static_cast<double>(hub_->bytes_sent() - before) / kLarge;
  }
  void expect_fails(int code, const std::string& message, const Environment& more = {}) {
    const RunResult result = pull({"org/model"}, more);
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.out, "");
    EXPECT_FALSE(fs::exists(repo() / "snapshots" / model_->commit / "model.safetensors"));
    EXPECT_FALSE(fs::exists(repo() / "refs" / "main"));
    expect_clean(repo(), true);
    // And when the server is well again, all is well.
    hub_->behave();
    expect_survives();
  }
  FakeRepo* model_ = nullptr;
};

TEST_F(Misbehaviour, CutBodies) {
  hub_->misbehave({.match = "/blob/", .times = 12, .cut_at = 700'000});
  EXPECT_LT(expect_survives(), 1.1);
}

TEST_F(Misbehaviour, BodiesCutAtOnceAreGivenUp) {
  hub_->misbehave({.match = "/blob/", .times = -1, .cut_at = 0});
  expect_fails(3, "connection broke");
}

TEST_F(Misbehaviour, CutHeads) {
  hub_->misbehave({.match = "/config.json", .times = 3, .cut_at = 0});
  expect_survives();
}

TEST_F(Misbehaviour, Stalls) {
  hub_->misbehave({.match = "/blob/", .times = 2, .stall_at = 1'000'000});
  EXPECT_LT(expect_survives(), 1.1);
}

TEST_F(Misbehaviour, AStallWithoutEnd) {
  hub_->misbehave({.match = "/blob/", .times = -1, .stall_at = 0});
  expect_fails(3, "the transfer stalled: nothing came for", {{"HF_HUB_DOWNLOAD_TIMEOUT", "0.3"}});
}

TEST_F(Misbehaviour, ServerErrorsPass) {
  for (const int status : {500, 502, 503, 504, 408}) {
    hub_->misbehave({.match = "/blob/", .status = status});
    hub_->misbehave({.match = "/api/", .status = status});
    hub_->misbehave({.match = "tokenizer.json", .status = status});
  }
  expect_survives();
}

TEST_F(Misbehaviour, ServerErrorsThatStay) {
  hub_->misbehave({.match = "tokenizer.json", .times = -1, .status = 503});
  expect_fails(3, "the server is in trouble (503)");
}

TEST_F(Misbehaviour, AHubInTrouble) {
  hub_->misbehave({.match = "/api/", .times = -1, .status = 500});
  expect_fails(3, "the server is in trouble (500)");
}

TEST_F(Misbehaviour, RetryAfterIsHonoured) {
  hub_->misbehave({.match = "/blob/", .status = 429, .fields = {{"Retry-After", "1"}}});
  const auto begin = std::chrono::steady_clock::now();
  expect_survives();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(990));
}

TEST_F(Misbehaviour, TooManyRequestsWithoutEnd) {
  hub_->misbehave({.match = "/blob/", .times = -1, .status = 429});
  expect_fails(3, "takes no more requests for now (429)");
}

TEST_F(Misbehaviour, AWaitTooLong) {
  hub_->misbehave(
      {.match = "/blob/", .times = -1, .status = 503, .fields = {{"Retry-After", "86400"}}});
  expect_fails(3, "asks to come back in 86400 s");
}

TEST_F(Misbehaviour, IgnoredRanges) {
  hub_->misbehave({.match = "/blob/", .times = -1, .ignore_range = true});
  EXPECT_LT(expect_survives(), 1.1);
}

TEST_F(Misbehaviour, IgnoredRangesAndCuts) {
  hub_->misbehave({.match = "/blob/", .times = 3, .cut_at = 9'000'000, .ignore_range = true});
  hub_->misbehave({.match = "/blob/", .times = -1, .ignore_range = true});
  expect_survives();
}

TEST_F(Misbehaviour, RangesIgnoredFromSomeTimeOn) {
  hub_->misbehave({.match = "/blob/", .times = 2, .cut_at = 3'000'000});
  hub_->misbehave({.match = "/blob/", .times = -1, .ignore_range = true});
  expect_survives();
}

TEST_F(Misbehaviour, OtherRanges) {
  hub_->misbehave({.match = "/blob/", .times = 2, .shift_range = true});
  const RunResult result = pull({"org/model"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.err,
              Not(HasSubstr("wrong")));  // not taken at all, rather than found out by the hash
  expect_survives();
}

TEST_F(Misbehaviour, AlwaysOtherRanges) {
  hub_->misbehave({.match = "/blob/", .times = -1, .shift_range = true});
  expect_fails(4, "another range than the one asked for");
}

TEST_F(Misbehaviour, AWrongByteIsFetchedAnew) {
  hub_->misbehave({.match = "/blob/", .flip_at = 5'000'000});
  const RunResult result = pull({"org/model"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.err, HasSubstr("the bytes received are wrong; downloading it anew"));
  expect_survives();
}

TEST_F(Misbehaviour, WrongBytesAgainAndAgain) {
  hub_->misbehave({.match = "/blob/", .times = -1, .flip_at = 12'345'678});
  expect_fails(4, "model.safetensors: the bytes received have not the announced hash");
}

TEST_F(Misbehaviour, WrongBytesOfASmallFile) {
  hub_->misbehave({.match = "/config.json", .times = -1, .flip_at = 3});
  const RunResult result = pull({"org/model"});
  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.err, HasSubstr("config.json: the bytes received have not the announced hash"));
  EXPECT_FALSE(fs::exists(repo() / "snapshots" / model_->commit / "config.json"));
}

TEST_F(Misbehaviour, MoreBytesThanAnnounced) {
  hub_->misbehave({.match = "/config.json", .times = -1, .length_delta = 7});
  expect_fails(4, "the server sends 31 bytes instead of 24");
}

TEST_F(Misbehaviour, FewerBytesThanAnnounced) {
  hub_->misbehave({.match = "/config.json", .times = -1, .length_delta = -7});
  expect_fails(4, "the server sends 17 bytes instead of 24");
}

TEST_F(Misbehaviour, WrongLengthsWithoutContentLength) {
  hub_->misbehave({.match = "/config.json", .times = -1, .length_delta = 7, .unsized = true});
  expect_survives();  // what is too much is dropped, and the hash says that the rest is right
  fs::remove_all(home());
  hub_->behave();
  hub_->misbehave({.match = "/config.json",
                   .times = -1,
                   .length_delta = -7,
                   .ignore_range = true,
                   .unsized = true});
  expect_fails(4, "ends the file at byte 17 of 24");
}

TEST_F(Misbehaviour, ChunkedAnswersAreFine) {
  hub_->misbehave({.match = "/", .times = -1, .unsized = true});
  expect_survives();
}

TEST_F(Misbehaviour, CompressedAnswers) {
  hub_->misbehave({.match = "/config.json", .times = -1, .fields = {{"Content-Encoding", "br"}}});
  expect_fails(4, "compresses although it was asked not to");
}

TEST_F(Misbehaviour, TheFileIsGoneFromStorage) {
  hub_->misbehave({.match = "/blob/", .times = -1, .status = 404});
  expect_fails(3, "the storage server answers 404");
}

TEST_F(Misbehaviour, SignedAddressesExpire) {
  // Every second piece finds that its address is good no more.
  for (int i = 0; i < 4; ++i) {
    hub_->misbehave({.match = "/blob/", .times = 1, .cut_at = 2'000'000});
    hub_->misbehave({.match = "/blob/", .times = 1, .status = 403});
  }
  expect_survives();
}

TEST_F(Misbehaviour, RangeNotSatisfiable) {
  hub_->misbehave({.match = "/blob/", .times = 1, .status = 416});
  expect_survives();
  fs::remove_all(home());
  hub_->misbehave({.match = "/blob/", .times = -1, .status = 416});
  expect_fails(4, "the server's file ends before byte");
}

// The repository moves on while it is being pulled: the new state comes, whole, and nothing is
// mixed.
TEST_F(Misbehaviour, TheFileChangesMidWay) {
  const std::string old = model_->commit;
  hub_->misbehave({.match = "/blob/", .times = 1, .cut_at = 5'000'000});
  hub_->misbehave({.match = "/blob/", .times = 1, .cut_at = 0, .also = [this] {
                     model_->put("model.safetensors", random_bytes(kLarge + 5, 77));
                   }});
  const RunResult result = pull({"org/model"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_NE(model_->commit, old);
  expect_same(repo() / "snapshots" / model_->commit, *model_, "model.safetensors");
  EXPECT_EQ(read_text(repo() / "refs/main"), model_->commit);
  expect_clean(repo(), true);
}

TEST_F(Misbehaviour, AnEtagThatIsNotTheListsOnce) {
  hub_->misbehave({.match = "resolve/" + model_->commit + "/config.json",
                   .times = 1,
                   .fields = {{"X-Linked-Etag", "\"" + std::string(40, 'b') + "\""}}});
  const RunResult result = pull({"org/model"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("asking the Hub anew"));
  expect_survives();
}

TEST_F(Misbehaviour, AnEtagThatIsNeverTheLists) {
  hub_->misbehave({.match = "/config.json",
                   .times = -1,
                   .fields = {{"X-Linked-Etag", "\"" + std::string(40, 'b') + "\""}}});
  expect_fails(4, "config.json: the server's file is not the one it lists");
}

TEST_F(Misbehaviour, SizesThatContradict) {
  hub_->misbehave({.match = "/config.json", .times = -1, .fields = {{"X-Linked-Size", "25"}}});
  expect_fails(4, "the server's file has 25 bytes instead of 24");
}

TEST_F(Misbehaviour, NoHubAtAll) {
  hub_->misbehave({.match = "/api/", .times = -1, .status = 418});
  expect_fails(1, "the server answers 418");
}

}  // namespace
}  // namespace qwb::testing
