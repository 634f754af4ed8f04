// Prompts whose beginning is kept have the bits of prompts that are read anew.
#include "lib/model/prefill.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "lib/model/generate.h"

namespace qwb {
namespace {

constexpr int64_t kPiece = kPrefillPiece;

std::unique_ptr<Model> load_golden(const std::string& name, ExecutorKind kind) {
  const OpenModel open = open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model" / name);
  return Model::load(open.source, open.config, name, make_executor(kind, Threads(2)));
}

std::vector<int32_t> some_tokens(uint64_t seed, int64_t count) {
  Rng rng(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(rng.below(96)));
  return tokens;
}

std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::vector<float> logits_anew(const Model& model, const std::vector<int32_t>& prompt) {
  return KeptSequence(model).read(prompt, {});
}

class Prefill : public testing::TestWithParam<ExecutorKind> {
 protected:
  const std::unique_ptr<Model> model_ = load_golden("mistral", GetParam());  // a sliding window
};

TEST_P(Prefill, KeepsTheBitsOfAFreshRun) {
  const std::vector<int32_t> first = some_tokens(1, 2 * kPiece + 40);
  KeptSequence sequence(*model_);
  EXPECT_EQ(sequence.read(first, {}), logits_anew(*model_, first));
  EXPECT_EQ(sequence.reused(), 0);
  std::vector<int32_t> grown = first;
  for (const int32_t token : some_tokens(2, 5)) {
    sequence.append(token, {});
    grown.push_back(token);
  }
  EXPECT_EQ(sequence.tokens(), grown);
  // The answer was decoded: it is read again. Rests of few tokens are computed another way.
  for (const int64_t more : {1, 3, 300}) {
    const std::vector<int32_t> next = joined(grown, some_tokens(3, more));
    EXPECT_EQ(sequence.read(next, {}), logits_anew(*model_, next)) << more;
    EXPECT_EQ(sequence.reused(), 2 * kPiece);
  }
  // Another text from inside of the second piece; then one that is all there.
  const std::vector<int32_t> other =
      joined({first.begin(), first.begin() + kPiece + 7}, some_tokens(4, kPiece));
  EXPECT_EQ(sequence.read(other, {}), logits_anew(*model_, other));
  EXPECT_EQ(sequence.reused(), kPiece);
  const std::vector<int32_t> begin(first.begin(), first.begin() + kPiece);
  EXPECT_EQ(sequence.read(begin, {}), logits_anew(*model_, begin));
  EXPECT_EQ(sequence.reused(), 0);  // its last token is wanted
}

// A piece that an answer filled up was not read as a prompt.
TEST_P(Prefill, ReadsDecodedTokensAgain) {
  std::vector<int32_t> prompt = some_tokens(1, kPiece - 4);
  KeptSequence sequence(*model_);
  sequence.read(prompt, {});
  for (const int32_t token : some_tokens(2, 8)) {
    sequence.append(token, {});
    prompt.push_back(token);
  }
  const std::vector<int32_t> next = joined(prompt, some_tokens(3, 20));
  EXPECT_EQ(sequence.read(next, {}), logits_anew(*model_, next));
  EXPECT_EQ(sequence.reused(), 0);
}

TEST_P(Prefill, GoesBackToEveryPlaceOfAnAnswer) {
  const std::vector<int32_t> prompt = some_tokens(1, kPiece + 3);
  KeptSequence sequence(*model_);
  std::vector<std::vector<float>> logits = {sequence.read(prompt, {})};
  for (const int32_t token : some_tokens(2, 4)) logits.push_back(sequence.append(token, {}));
  for (const int64_t made : {4, 2, 1, 0})
    EXPECT_EQ(sequence.back_to(std::ssize(prompt) + made, {}), logits[made]) << made;
  EXPECT_THROW(sequence.back_to(std::ssize(prompt) - 1, {}), Error);
  EXPECT_THROW(sequence.back_to(std::ssize(prompt) + 1, {}), Error);
}

TEST_P(Prefill, GoesOnAfterAStop) {
  const std::vector<int32_t> prompt = some_tokens(1, 3 * kPiece);
  StopSource stop;
  stop.request();
  KeptSequence sequence(*model_);
  sequence.read(some_tokens(1, kPiece + 1), {});
  EXPECT_THROW(sequence.read(prompt, stop.token()), Error);
  EXPECT_EQ(sequence.read(prompt, {}), logits_anew(*model_, prompt));
  EXPECT_EQ(sequence.reused(), kPiece);
}

// generate() reads prompts in the same pieces.
TEST_P(Prefill, IsWhatGenerateDoes) {
  const std::vector<int32_t> prompt = some_tokens(5, kPiece + 4);
  GenerationSettings settings;
  settings.max_tokens = 1;
  settings.stop_at_eos = false;
  KvCache cache = model_->new_cache(std::ssize(prompt) + 1);
  int32_t made = -1;
  generate(*model_, prompt, settings, cache, [&](int32_t token) {
    made = token;
    return true;
  });
  const std::vector<float> logits = logits_anew(*model_, prompt);
  EXPECT_EQ(made, std::max_element(logits.begin(), logits.end()) - logits.begin());
  const Matrix due = model_->executor().allocate(1, model_->config().vocab);
  KvCache other = model_->new_cache(std::ssize(prompt));
  prefill(*model_, prompt, other, due);
  EXPECT_EQ(model_->executor().download(due), logits);
}

INSTANTIATE_TEST_SUITE_P(Executors, Prefill,
                         testing::Values(ExecutorKind::fast, ExecutorKind::bf16));

}  // namespace
}  // namespace qwb
