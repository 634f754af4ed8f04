// Greedy continuations are the largest logits of the whole sequence at once; every way to end.
#include "lib/model/generate.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "formats/registry.h"
#include "lib/base/file.h"

namespace qwb {
namespace {

class Generations : public testing::Test {
 protected:
  Generations() {
    const OpenModel open = open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model/llama");
    model_ = Model::load(open.source, open.config, "llama");
    settings_.max_tokens = 6;
    settings_.stop_at_eos = false;
  }
  // What is made with these settings; reason_ and length_ tell how it ended.
  std::vector<int32_t> made(int64_t capacity = 32, size_t stop_after = 100) {
    KvCache cache = model_->new_cache(capacity);
    std::vector<int32_t> tokens;
    reason_ = generate(*model_, prompt_, settings_, cache, [&](int32_t token) {
      tokens.push_back(token);
      return tokens.size() < stop_after;
    });
    length_ = cache.length();
    return tokens;
  }

  std::unique_ptr<Model> model_;
  GenerationSettings settings_;
  const std::vector<int32_t> prompt_ = {5, 17, 42};
  StopReason reason_ = StopReason::stopped;
  int64_t length_ = 0;
};

TEST_F(Generations, AreTheLargestLogitsOfTheWhole) {
  const std::vector<int32_t> tokens = made();
  ASSERT_EQ(tokens.size(), 6u);
  EXPECT_EQ(reason_, StopReason::length);
  EXPECT_EQ(length_, 3 + 5);  // the last token was not read
  std::vector<int32_t> whole = prompt_;
  whole.insert(whole.end(), tokens.begin(), tokens.end());
  const Executor& executor = model_->executor();
  KvCache cache = model_->new_cache(32);
  const Matrix hidden = executor.allocate(std::ssize(whole), model_->config().hidden);
  const Matrix logits = executor.allocate(std::ssize(whole), model_->config().vocab);
  model_->forward(whole, cache, hidden);
  model_->logits(hidden, logits);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto row = executor.download(logits.view().row_range(static_cast<int64_t>(2 + i), 1));
    EXPECT_EQ(tokens[i], std::max_element(row.begin(), row.end()) - row.begin()) << i;
  }
}

TEST_F(Generations, EndAtEosTheContextOrTheCaller) {
  const std::vector<int32_t> all = made();
  const auto first = [&](size_t count) {
    return std::vector<int32_t>(all.begin(), all.begin() + static_cast<int64_t>(count));
  };
  EXPECT_EQ(made(32, 2), first(2));
  EXPECT_EQ(reason_, StopReason::stopped);
  EXPECT_EQ(made(3 + 1), first(2));  // the second is made, and has no place to be read
  EXPECT_EQ(reason_, StopReason::context);
  settings_.stop_at_eos = true;
  settings_.eos = {all[3]};
  const size_t before = std::find(all.begin(), all.end(), all[3]) - all.begin();
  EXPECT_EQ(made(), first(before));
  EXPECT_EQ(reason_, StopReason::eos);
  settings_.max_tokens = 0;
  EXPECT_EQ(made(), first(0));
  EXPECT_EQ(reason_, StopReason::length);
}

TEST_F(Generations, RefuseAnEmptyPromptAndAStop) {
  KvCache cache = model_->new_cache(8);
  const auto nothing = [](int32_t) { return true; };
  EXPECT_THROW(generate(*model_, {}, settings_, cache, nothing), Error);
  StopSource stop;
  stop.request();
  EXPECT_THROW(generate(*model_, prompt_, settings_, cache, nothing, stop.token()), Error);
  EXPECT_EQ(cache.length(), 0);
}

}  // namespace
}  // namespace qwb
