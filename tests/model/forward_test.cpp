// Several sequences in one step: every one has the bits that it has alone, whatever others are
// beside it, and a stop or a fault ends its own sequence only.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <thread>

#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/rng.h"
#include "lib/model/model.h"
#include "tests/exec/shadow_helper.h"

namespace qwb {
namespace {

OpenModel open_golden(const std::string& name) {
  return open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model" / name);
}

std::vector<int32_t> random_tokens_of(Rng& rng, int64_t count) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(rng.below(96)));
  return tokens;
}

// A sequence that grows by pieces of these sizes; after each, the logits of its last token.
struct Conversation {
  Conversation(const Model& model, uint64_t seed, std::vector<int64_t> sizes)
      : cache(model.new_cache(128)) {
    Rng rng(seed);
    for (const int64_t size : sizes) pieces.push_back(random_tokens_of(rng, size));
  }
  KvCache cache;
  std::vector<std::vector<int32_t>> pieces;
  std::vector<float> logits;
};

// Step s takes piece s of all these conversations together; their logits are made together too.
void run_together(const Model& model, std::vector<Conversation*> conversations, size_t step) {
  const Executor& executor = model.executor();
  std::vector<Sequence> sequences;
  std::vector<int64_t> last;
  int64_t rows = 0;
  for (Conversation* c : conversations) {
    sequences.push_back({c->pieces[step], &c->cache});
    rows += std::ssize(c->pieces[step]);
    last.push_back(rows - 1);
  }
  const auto count = std::ssize(conversations);
  const Matrix hidden = executor.allocate(rows, model.config().hidden);
  for (const auto& error : model.forward(sequences, hidden)) ASSERT_FALSE(error.has_value());
  const Matrix ends = executor.allocate(count, model.config().hidden);
  const Matrix logits = executor.allocate(count, model.config().vocab);
  executor.gather(hidden, last, ends);
  const std::vector<int64_t> ones(static_cast<size_t>(count), 1);
  model.logits(Rows(ends, ones), logits);
  for (int64_t i = 0; i < count; ++i) {
    const auto own = executor.download(logits.view().row_range(i, 1));
    auto& all = conversations[static_cast<size_t>(i)]->logits;
    all.insert(all.end(), own.begin(), own.end());
  }
}

// Prompts long and short, then steps in which some decode while others read: every kind of piece
// beside every other.
std::vector<int64_t> sizes_of(size_t sequence) {
  static const std::vector<std::vector<int64_t>> all = {{1, 1, 1, 1},  {9, 1, 1, 30}, {30, 1, 5, 1},
                                                        {6, 7, 1, 1},  {1, 12, 1, 1}, {3, 1, 1, 2},
                                                        {17, 1, 1, 1}, {2, 1, 40, 1}};
  return all[sequence];
}

class Batches : public testing::TestWithParam<std::string> {};

TEST_P(Batches, EverySequenceHasItsOwnBits) {
  const OpenModel open = open_golden(GetParam());
  for (const ExecutorKind kind :
       {ExecutorKind::fast, ExecutorKind::bf16, ExecutorKind::reference}) {
    const auto model =
        Model::load(open.source, open.config, GetParam(),
                    std::make_shared<ShadowExecutor>(make_executor(kind, Threads(2))));
    std::vector<std::vector<float>> alone;
    for (size_t i = 0; i < 8; ++i) {
      Conversation c(*model, i, sizes_of(i));
      for (size_t step = 0; step < 4; ++step) run_together(*model, {&c}, step);
      alone.push_back(c.logits);
    }
    const bool plain = kind == ExecutorKind::reference;
    for (const size_t count : plain ? std::vector<size_t>{3} : std::vector<size_t>{2, 3, 5, 8}) {
      std::vector<Conversation> together;
      for (size_t i = 0; i < count; ++i) together.emplace_back(*model, i, sizes_of(i));
      std::vector<Conversation*> all;
      for (Conversation& c : together) all.push_back(&c);
      for (size_t step = 0; step < 4; ++step) run_together(*model, all, step);
      for (size_t i = 0; i < count; ++i)
        EXPECT_EQ(together[i].logits, alone[i]) << model->executor().identity() << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, Batches,
                         testing::Values("llama_llama3", "qwen3", "mistral", "mixtral", "gemma2",
                                         "gpt2", "gemma3", "cohere2"),
                         [](const auto& case_) { return case_.param; });

// Conversations in threads of their own share one model.
TEST(Batch, ModelsAreSharedByThreads) {
  const OpenModel open = open_golden("llama");
  const auto model =
      Model::load(open.source, open.config, "llama", make_executor(ExecutorKind::fast, Threads(2)));
  const auto talk = [&](size_t i) {
    Conversation c(*model, i, sizes_of(i));
    for (size_t step = 0; step < 4; ++step) run_together(*model, {&c}, step);
    return c.logits;
  };
  const std::vector<float> first = talk(1), second = talk(2);
  std::vector<float> a, b;
  {
    std::jthread one([&] { a = talk(1); });
    std::jthread other([&] { b = talk(2); });
  }
  EXPECT_EQ(a, first);
  EXPECT_EQ(b, second);
}

TEST(Batch, AStopOrAFaultEndsItsOwnSequence) {
  const OpenModel open = open_golden("llama");
  StopSource stop;
  int64_t blocks = 0;
  // The stop comes in the second block.
  const auto executor = std::make_shared<ShadowExecutor>(
      make_executor(ExecutorKind::fast, Threads(2)), [&](const std::string& operation) {
        if (operation == "gated" && ++blocks == 1) stop.request();
      });
  const auto model = Model::load(open.source, open.config, "llama", executor);
  Rng rng(1);
  const auto one = random_tokens_of(rng, 5), two = random_tokens_of(rng, 9),
             three = random_tokens_of(rng, 1);
  std::vector<int32_t> wrong = one;
  wrong[2] = static_cast<int32_t>(model->config().vocab);
  const auto states = [&](const std::vector<int32_t>& tokens) {
    KvCache cache = model->new_cache(16);
    const Matrix hidden = executor->allocate(std::ssize(tokens), model->config().hidden);
    model->forward(tokens, cache, hidden);
    return executor->download(hidden);
  };
  KvCache a = model->new_cache(16), b = model->new_cache(16), c = model->new_cache(16),
          d = model->new_cache(16), e = model->new_cache(4);
  const std::vector<Sequence> sequences = {
      {one, &a}, {two, &b, stop.token()}, {wrong, &c}, {three, &d}, {two, &e}};
  const Matrix hidden = executor->allocate(5 + 9 + 5 + 1 + 9, model->config().hidden);
  const auto errors = model->forward(sequences, hidden);
  ASSERT_TRUE(errors[1] && errors[2] && errors[4]);
  EXPECT_FALSE(errors[0] || errors[3]);
  EXPECT_EQ(errors[1]->kind(), ErrorKind::interrupted);
  EXPECT_EQ(errors[2]->kind(), ErrorKind::usage);
  EXPECT_EQ(errors[4]->kind(), ErrorKind::usage);
  EXPECT_EQ(a.length(), 5);
  EXPECT_EQ(b.length(), 0);
  EXPECT_EQ(c.length(), 0);
  EXPECT_EQ(d.length(), 1);
  EXPECT_EQ(executor->download(hidden.view().row_range(0, 5)), states(one));
  EXPECT_EQ(executor->download(hidden.view().row_range(19, 1)), states(three));
  const std::vector<Sequence> same = {{one, &a}, {three, &a}};
  EXPECT_THROW(model->forward(same, hidden), Error);
}

// A source in which one token's embedding is not a number.
class OneBadToken : public TensorSource {
 public:
  OneBadToken(std::shared_ptr<const TensorSource> source, std::string embedding, int64_t token)
      : source_(std::move(source)), name_(std::move(embedding) + ".weight") {
    const TensorView whole = source_->find(name_).value();
    bad_ = Tensor(DType::f32, whole.shape);
    read_floats(whole, 0, whole.count(), bad_.data<float>(), name_);
    bad_.data<float>()[token * whole.shape[1]] = NAN;
  }
  std::optional<TensorView> find(const std::string& name) const override {
    return name == name_ ? std::optional(bad_.view()) : source_->find(name);
  }
  std::vector<std::string> names() const override { return source_->names(); }

 private:
  std::shared_ptr<const TensorSource> source_;
  std::string name_;
  Tensor bad_;
};

TEST(Batch, ANanEndsItsOwnSequence) {
  const OpenModel open = open_golden("llama");
  const auto whole = Model::load(open.source, open.config, "llama");
  const auto source = std::make_shared<OneBadToken>(open.source, whole->spec().embedding, 7);
  const auto model = Model::load(source, open.config, "llama");
  const std::vector<int32_t> good = {1, 2, 3}, bad = {4, 7, 5};
  KvCache a = model->new_cache(8), b = model->new_cache(8), c = whole->new_cache(8);
  const Matrix hidden = model->executor().allocate(6, model->config().hidden);
  const Matrix due = model->executor().allocate(3, model->config().hidden);
  const auto errors = model->forward(std::vector<Sequence>{{bad, &b}, {good, &a}}, hidden);
  ASSERT_TRUE(errors[0]);
  EXPECT_EQ(errors[0]->kind(), ErrorKind::failed);
  EXPECT_FALSE(errors[1]);
  whole->forward(good, c, due);
  EXPECT_EQ(model->executor().download(hidden.view().row_range(3, 3)),
            whole->executor().download(due));
  EXPECT_EQ(b.length(), 0);
}

}  // namespace
}  // namespace qwb
