// The engine: an answer has the same bits alone, beside others, with its prompt's beginning kept
// from before, and after another one was stopped. Logprobs are compared exactly: they show every
// bit of the logits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "lib/model/generate.h"
#include "lib/serve/engine/engine.h"
#include "tests/serve/demo_model_helper.h"

namespace qwb::serve {
namespace {

// What became of a job.
class Heard : public JobListener {
 public:
  struct Choice {
    std::string text;
    std::vector<int32_t> tokens;
    std::vector<double> logprobs;
    std::optional<Finish> finish;
    bool operator==(const Choice&) const = default;
  };
  explicit Heard(size_t choices, std::function<void(int64_t)> on_text = {})
      : made(choices), on_text_(std::move(on_text)) {}

  void prompt_scored(std::vector<ScoredToken> tokens) override { prompt = std::move(tokens); }
  void text(int64_t choice, TextPiece piece) override {
    Choice& c = made[static_cast<size_t>(choice)];
    c.text += piece.text;
    for (const ScoredToken& token : piece.tokens) {
      c.tokens.push_back(token.token);
      if (token.logprob) c.logprobs.push_back(*token.logprob);
      for (const TokenChance& chance : token.top) c.logprobs.push_back(chance.logprob);
    }
    if (on_text_) on_text_(std::ssize(c.tokens));
  }
  void finished(int64_t choice, Finish finish) override {
    made[static_cast<size_t>(choice)].finish = finish;
  }
  void done(const JobCounts& all) override { end(all, {}); }
  void failed(const Error& what, const JobCounts& all) override { end(all, what); }
  void wait() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return over_; });
  }

  std::vector<Choice> made;
  std::vector<ScoredToken> prompt;
  JobCounts counts;
  std::optional<Error> error;

 private:
  void end(const JobCounts& all, std::optional<Error> what) {
    const std::lock_guard lock(mutex_);
    counts = all;
    error = std::move(what);
    over_ = true;
    ended_.notify_all();
  }
  std::function<void(int64_t)> on_text_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool over_ = false;
};

const ServedModel& model() {
  static const ServedModel demo = demo_model();
  return demo;
}

std::vector<int32_t> tokens_of(const std::string& text) {
  return demo_tokenizer().encode(text, true);
}

// Of so many tokens.
std::vector<int32_t> long_prompt(size_t count, const std::string& begin = "The city") {
  std::string text = begin;
  for (size_t i = 0; i < count; ++i) text += " of the old river " + std::to_string(i);
  std::vector<int32_t> tokens = tokens_of(text);
  tokens.resize(count);
  return tokens;
}

Job job_of(std::vector<int32_t> prompt, int64_t max_tokens, uint64_t seed = 7) {
  Job job;
  job.prompt = std::move(prompt);
  job.sampling.temperature = 1;
  job.sampling.seed = seed;
  job.max_tokens = max_tokens;
  job.top = 2;
  return job;
}

std::shared_ptr<Heard> start(Engine& engine, Job job, std::function<void(int64_t)> on_text = {}) {
  auto heard = std::make_shared<Heard>(static_cast<size_t>(job.choices), std::move(on_text));
  job.listener = heard;
  EXPECT_TRUE(engine.submit(model().engine(), {std::move(job)}));
  return heard;
}

std::shared_ptr<Heard> run(Engine& engine, Job job) {
  auto heard = start(engine, std::move(job));
  heard->wait();
  return heard;
}

// Three prompts: shorter than a piece, of whole pieces, and of two pieces and a rest.
std::vector<Job> sample_jobs() {
  return {job_of(long_prompt(5), 12), job_of(long_prompt(32, "A"), 9),
          job_of(long_prompt(39, "Once"), 15)};
}

std::vector<std::shared_ptr<Heard>> each_alone() {
  std::vector<std::shared_ptr<Heard>> alone;
  for (const Job& job : sample_jobs()) {
    Engine engine(demo_limits());
    alone.push_back(run(engine, job));
    EXPECT_FALSE(alone.back()->error);
  }
  return alone;
}

TEST(Engine, GreedyTokensAreThoseOfGenerate) {
  Job job = job_of(tokens_of("The history of the city begins"), 20);
  job.sampling.temperature = 0;
  Engine engine(demo_limits());
  const auto heard = run(engine, job);
  KvCache cache = model().loaded.model->new_cache(64);
  std::vector<int32_t> due;
  generate(*model().loaded.model, job.prompt,
           {.sampling = {}, .max_tokens = 20, .stop_at_eos = false, .eos = {}}, cache,
           [&](int32_t token) {
             due.push_back(token);
             return true;
           });
  EXPECT_EQ(heard->made[0].tokens, due);
  EXPECT_EQ(heard->made[0].finish, Finish::length);
  EXPECT_EQ(heard->counts.generated_tokens, 20);
}

TEST(Engine, BitsStayBesideOthers) {
  const auto alone = each_alone();
  Engine engine(demo_limits());
  std::vector<std::shared_ptr<Heard>> together;
  for (Job& job : sample_jobs()) together.push_back(start(engine, std::move(job)));
  for (size_t i = 0; i < together.size(); ++i) {
    together[i]->wait();
    EXPECT_EQ(together[i]->made, alone[i]->made) << i;
  }
  EXPECT_LT(engine.load().steps, engine.load().decoded + 6);  // they shared steps
}

TEST(Engine, BitsStayWithAKeptBeginning) {
  const auto alone = each_alone();
  Engine engine(demo_limits());
  for (size_t i = 0; i < 3; ++i) run(engine, sample_jobs()[i]);
  const std::vector<int64_t> cached = {0, 16, 32};  // of 5, 32 and 39 tokens
  for (size_t i = 0; i < 3; ++i) {
    const auto again = run(engine, sample_jobs()[i]);
    EXPECT_EQ(again->counts.cached_tokens, cached[i]);
    EXPECT_EQ(again->made, alone[i]->made) << i;
  }
  // Another prompt with the same two pieces; not of another owner, nor against the caller's will.
  std::vector<int32_t> longer = sample_jobs()[2].prompt;
  longer[35] = longer[0];
  Job other = job_of(longer, 8);
  const auto hit = run(engine, other);
  EXPECT_EQ(hit->counts.cached_tokens, 32);
  other.reuse_prefix = false;
  const auto miss = run(engine, other);
  EXPECT_EQ(miss->counts.cached_tokens, 0);
  EXPECT_EQ(miss->made, hit->made);
  other.reuse_prefix = true;
  other.owner = "somebody else";
  EXPECT_EQ(run(engine, other)->counts.cached_tokens, 0);
  EXPECT_GT(engine.load().kv_kept, 0);
}

TEST(Engine, BitsStayWhenAnotherIsStopped) {
  const auto alone = each_alone();
  StopSource decoding, reading, queued;
  EngineLimits limits = demo_limits();
  limits.slots = 3;
  Engine engine(limits);
  Job first = job_of(long_prompt(20), 400), second = job_of(long_prompt(400), 1),
      third = job_of(long_prompt(20), 5);
  first.stopped = decoding.token();
  second.stopped = reading.token();
  third.stopped = queued.token();
  const auto a = start(engine, first, [&](int64_t made) {
    if (made < 3) return;
    decoding.request();
    reading.request();
    queued.request();
  });
  const auto b = start(engine, second), sound = start(engine, sample_jobs()[2]),
             c = start(engine, third);
  for (const auto& heard : {a, b, c}) {
    heard->wait();
    ASSERT_TRUE(heard->error);
    EXPECT_EQ(heard->error->kind(), ErrorKind::interrupted);
  }
  EXPECT_EQ(c->counts.generated_tokens, 0);
  EXPECT_LT(a->counts.generated_tokens, 10);
  EXPECT_EQ(b->counts.generated_tokens, 0);
  sound->wait();
  EXPECT_EQ(sound->made, alone[2]->made);
}

// What the engine says it has to do when a job ends: whoever measures the next one relies on it.
class LoadAtEnd : public Heard {
 public:
  explicit LoadAtEnd(const Engine& engine) : Heard(1), engine_(engine) {}
  void done(const JobCounts& all) override {
    load = engine_.load();
    Heard::done(all);
  }
  void failed(const Error& what, const JobCounts& all) override {
    load = engine_.load();
    Heard::failed(what, all);
  }
  EngineLoad load;

 private:
  const Engine& engine_;
};

class ThrowingReader : public RowReader {
 public:
  void rows(In, int64_t) override { throw Error(ErrorKind::failed, "read wrongly"); }
};

TEST(Engine, WhoHearsOfAnEndFindsALoadWithoutIt) {
  Job whole = job_of(long_prompt(5), 2), queued = whole, broken = whole;
  StopSource stop;
  stop.request();
  queued.cut = stop.token();
  broken.reader = std::make_shared<ThrowingReader>();
  Engine engine(demo_limits());
  for (const Job& job : {whole, queued, broken}) {
    const auto heard = std::make_shared<LoadAtEnd>(engine);
    Job own = job;
    own.listener = heard;
    ASSERT_TRUE(engine.submit(model().engine(), {std::move(own)}));
    heard->wait();
    EXPECT_EQ(heard->error.has_value(), job.cut.requested() || job.reader != nullptr);
    EXPECT_EQ(heard->load.running, 0);
    EXPECT_EQ(heard->load.waiting, 0);
    EXPECT_EQ(heard->load.kv_running, 0);
  }
}

TEST(Engine, ChoicesShareThePromptAndDrawForThemselves) {
  Job job = sample_jobs()[2];
  job.choices = 3;
  Engine engine(demo_limits());
  const auto all = run(engine, job);
  for (uint64_t i = 0; i < 3; ++i)
    EXPECT_EQ(all->made[i], run(engine, job_of(job.prompt, 15, 7 + i))->made[0]) << i;
  EXPECT_NE(all->made[0].tokens, all->made[1].tokens);
  EXPECT_EQ(all->counts.prompt_tokens, 39);
  EXPECT_EQ(all->counts.generated_tokens, 45);
}

// Each token of a prompt has the logprob that it has as an answer to what stands before it, but for
// the rounding of other products.
TEST(Engine, PromptsAreScored) {
  Job job = job_of(long_prompt(37), 0);
  job.score_prompt = true;
  Engine engine(demo_limits());
  const auto heard = run(engine, job);
  ASSERT_EQ(heard->prompt.size(), 36u);
  for (const size_t at : {size_t{0}, size_t{15}, size_t{16}, size_t{35}}) {
    Job before = job_of({job.prompt.begin(), job.prompt.begin() + static_cast<int>(at) + 1}, 1);
    before.top = kMostTop;
    const auto next = run(engine, before);
    EXPECT_EQ(heard->prompt[at].token, job.prompt[at + 1]);
    EXPECT_NEAR(heard->prompt[at].top[0].logprob, next->made[0].logprobs[1], 1e-3);
  }
  EXPECT_EQ(heard->made[0].finish, Finish::length);
  EXPECT_TRUE(heard->made[0].tokens.empty());
}

TEST(Engine, EndTokensStopStringsAndTheContextEndAnswers) {
  Job job = job_of(tokens_of("The history of the city begins"), 30);
  job.sampling.temperature = 0;
  Engine engine(demo_limits());
  const auto free = run(engine, job);
  Job ended = job;
  ended.end_tokens = {free->made[0].tokens[4]};
  const auto at_end = run(engine, ended);
  EXPECT_LE(at_end->made[0].tokens.size(), 4u);
  EXPECT_EQ(at_end->made[0].finish, Finish::stop);
  Job stopped = job;
  stopped.stop = {free->made[0].text.substr(9, 4)};
  const auto at_stop = run(engine, stopped);
  EXPECT_EQ(at_stop->made[0].text,
            free->made[0].text.substr(0, free->made[0].text.find(stopped.stop[0])));
  EXPECT_EQ(at_stop->made[0].finish, Finish::stop);
  // The last token needs no place in the context.
  Job full = job_of(long_prompt(static_cast<size_t>(model().context) - 2), 100);
  full.end_tokens = {};
  const auto at_limit = run(engine, full);
  EXPECT_EQ(at_limit->counts.generated_tokens, 3);
  EXPECT_EQ(at_limit->made[0].finish, Finish::length);
}

TEST(Engine, WhatCanNeverRunIsRefusedAndWhatIsTooMuchNowWaits) {
  EngineLimits limits = demo_limits();
  limits.queue = 1;
  limits.slots = 2;
  limits.kv_bytes = kv_cache_bytes(model().loaded.model->config(), 512);
  Engine engine(limits);
  EXPECT_THROW(engine.check(model().engine(), job_of({}, 1)), Error);
  EXPECT_THROW(engine.check(model().engine(), job_of(long_prompt(513), 1)), Error);
  Job wide = job_of(long_prompt(5), 1);
  wide.choices = 3;
  EXPECT_THROW(engine.check(model().engine(), wide), Error);
  wide.choices = 2;
  wide.max_tokens = 400;
  EXPECT_THROW(engine.check(model().engine(), wide), Error);

  StopSource stop;
  Job big = job_of(long_prompt(300), 200);
  big.stopped = stop.token();
  const auto running = start(engine, big);
  const auto waiting = start(engine, job_of(long_prompt(100), 2));  // has a slot, but no memory
  Job third = job_of(long_prompt(3), 1);
  third.listener = std::make_shared<Heard>(1);
  while (engine.load().running == 0) std::this_thread::yield();
  EXPECT_FALSE(engine.submit(model().engine(), {third}));
  stop.request();
  waiting->wait();
  EXPECT_FALSE(waiting->error);
  running->wait();
  EXPECT_TRUE(running->error);
}

TEST(Engine, AStopEndsEverything) {
  Engine engine(demo_limits());
  const auto running = start(engine, job_of(long_prompt(30), 400));
  engine.stop();
  running->wait();
  ASSERT_TRUE(running->error);
  EXPECT_EQ(running->error->kind(), ErrorKind::interrupted);
  EXPECT_FALSE(engine.submit(model().engine(), {job_of(long_prompt(3), 1)}));
}

}  // namespace
}  // namespace qwb::serve
