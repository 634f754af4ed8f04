#include "lib/serve/engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "lib/base/interrupt.h"
#include "lib/base/text.h"
#include "lib/serve/engine/copy_cache.h"
#include "lib/serve/engine/step.h"

namespace qwb::serve {
namespace {

double seconds_since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

Error gone() {
  return {ErrorKind::interrupted, "stopped"};
}

}  // namespace

Engine::Engine(const EngineLimits& limits) : limits_(limits), prefixes_(limits.piece) {
  thread_ = std::thread([this] { loop(); });
}

Engine::~Engine() {
  stop();
}

void Engine::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Engine::check(const EngineModel& model, const Job& job) const {
  if (job.prompt.empty()) throw Error(ErrorKind::usage, "the prompt has no token");
  if (std::ssize(job.prompt) > model.context) {
    throw Error(ErrorKind::usage, fmt::format("the prompt has {} tokens, the context {}",
                                              job.prompt.size(), model.context));
  }
  if (job.choices > limits_.slots) {
    throw Error(ErrorKind::usage, fmt::format("{} choices: at most {} sequences run at once",
                                              job.choices, limits_.slots));
  }
  const int64_t bytes = cache_bytes(model, job);
  if (bytes > limits_.kv_bytes) {
    throw Error(ErrorKind::usage,
                fmt::format("{} choices of up to {} tokens need {} of keys and values, and there "
                            "is room for {}",
                            job.choices, cache_tokens(model, job), human_bytes(bytes),
                            human_bytes(limits_.kv_bytes)),
                {}, "ask for fewer choices or a smaller max_tokens");
  }
}

bool Engine::submit(const EngineModel& model, std::vector<Job> jobs,
                    const std::function<void()>& accepted) {
  for (const Job& job : jobs) check(model, job);
  {
    const std::lock_guard lock(mutex_);
    // What finds a slot at once does not wait.
    int64_t wanted = load_.running;
    for (const Waiting& waiting : waiting_) wanted += waiting.job.choices;
    for (const Job& job : jobs) wanted += job.choices;
    if (stopping_ || (wanted > limits_.slots && requests_waiting() >= limits_.queue)) return false;
    if (accepted) accepted();
    ++requests_;
    for (Job& job : jobs) waiting_.push_back({model, std::move(job), requests_, Clock::now()});
    load_.waiting = requests_waiting();
    load_.requests = requests_;
  }
  wake_.notify_all();
  return true;
}

int64_t Engine::requests_waiting() const {
  std::set<int64_t> requests;
  for (const Waiting& waiting : waiting_) requests.insert(waiting.request);
  return std::ssize(requests);
}

EngineLoad Engine::load() const {
  const std::lock_guard lock(mutex_);
  return load_;
}

void Engine::publish() {
  const std::lock_guard lock(mutex_);
  load_ = {sequences(), requests_waiting(), reserved_, prefixes_.bytes(),
           steps_,      decoded_,           requests_};
}

void Engine::loop() {
  leave_signals_to_main_thread();
  while (wait_for_work()) {
    drop_stopped();
    admit();
    publish();
    std::vector<EngineModel> models;
    for (const Running& running : running_) {
      const EngineModel& model = running.job->model();
      const bool there = std::any_of(models.begin(), models.end(), [&](const EngineModel& other) {
        return other.model == model.model;
      });
      if (!there) models.push_back(model);
    }
    for (const EngineModel& model : models) step(model);
    remove_done();
    publish();
  }
  fail_all();
  publish();
}

bool Engine::wait_for_work() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return stopping_ || !waiting_.empty() || !running_.empty(); });
  return !stopping_;
}

void Engine::drop_stopped() {
  std::vector<Waiting> dropped;
  {
    const std::lock_guard lock(mutex_);
    for (Waiting& waiting : waiting_) {
      if (waiting.job.stop_requested()) dropped.push_back(waiting);
    }
    std::erase_if(waiting_, [](const Waiting& w) { return w.job.stop_requested(); });
  }
  if (!dropped.empty()) publish();
  for (const Waiting& waiting : dropped)
    waiting.job.listener->failed(gone(), {.prompt_tokens = std::ssize(waiting.job.prompt),
                                          .queue_seconds = seconds_since(waiting.since)});
  const auto stopped = take_out([](const RunningJob& job) { return job.job().stop_requested(); });
  for (const auto& job : stopped) job->tell_failed(gone());
}

// Jobs that run no longer. Who is told of their end then finds a load without them.
std::vector<std::unique_ptr<RunningJob>> Engine::take_out(
    const std::function<bool(const RunningJob&)>& which) {
  std::vector<std::unique_ptr<RunningJob>> taken;
  for (Running& running : running_) {
    if (!which(*running.job)) continue;
    reserved_ -= running.job->bytes();
    taken.push_back(std::move(running.job));
  }
  std::erase_if(running_, [](const Running& running) { return running.job == nullptr; });
  if (!taken.empty()) publish();
  return taken;
}

// In the order of their coming: one that needs much is not overtaken for ever.
void Engine::admit() {
  while (true) {
    std::optional<Waiting> next;
    {
      const std::lock_guard lock(mutex_);
      if (waiting_.empty()) return;
      const Waiting& first = waiting_.front();
      if (sequences() + first.job.choices > limits_.slots) return;
      if (!make_room(cache_bytes(first.model, first.job))) return;
      load_.running += first.job.choices;
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    const std::shared_ptr<JobListener> listener = next->job.listener;
    const double waited = seconds_since(next->since);
    const int64_t tokens = std::ssize(next->job.prompt);
    try {
      auto job = std::make_unique<RunningJob>(next->model, std::move(next->job), waited);
      if (limits_.keep_prefixes) job->take_prefix(prefixes_);
      reserved_ += job->bytes();
      running_.push_back({std::move(job), ++turns_});
    } catch (const std::exception& error) {
      listener->failed(as_error(error), {.prompt_tokens = tokens, .queue_seconds = waited});
    }
  }
}

// Kept beginnings give way to jobs.
bool Engine::make_room(int64_t bytes) {
  if (reserved_ + bytes > limits_.kv_bytes) return false;
  while (reserved_ + prefixes_.bytes() + bytes > limits_.kv_bytes) prefixes_.drop_oldest();
  return true;
}

int64_t Engine::sequences() const {
  int64_t count = 0;
  for (const Running& running : running_) count += running.job->job().choices;
  return count;
}

void Engine::step(const EngineModel& model) {
  Step step(model);
  Running* reader = nullptr;
  for (Running& running : running_) {
    RunningJob& job = *running.job;
    if (job.model().model != model.model) continue;
    if (job.reading()) {
      if (reader == nullptr || running.last_turn < reader->last_turn) reader = &running;
      continue;
    }
    for (size_t choice = 0; choice < job.choices(); ++choice) {
      if (job.finished(choice)) continue;
      step.add_choice(job, choice);
      ++decoded_;
    }
  }
  if (reader != nullptr) {
    reader->last_turn = ++turns_;
    step.add_piece(*reader->job, limits_.piece);
  }
  ++steps_;
  for (const Step::Failure& failure : step.run()) {
    if (reader != nullptr && reader->job.get() == failure.job) reader = nullptr;
    for (const auto& job : take_out([&](const RunningJob& one) { return &one == failure.job; }))
      job->tell_failed(failure.error);
  }
  if (reader != nullptr && !reader->job->reading()) keep_prefix(*reader->job);
}

// What cannot be kept is read again the next time.
void Engine::keep_prefix(RunningJob& job) {
  if (!limits_.keep_prefixes || !job.job().reuse_prefix) return;
  const Model& model = *job.model().model;
  const std::span<const int32_t> prompt = job.job().prompt;
  const int64_t tokens = prefixes_.worth_keeping(model, job.job().owner, prompt);
  if (tokens == 0 || !make_room(kv_cache_bytes(model.config(), tokens))) return;
  try {
    KvCache cache = model.new_cache(tokens);
    copy_cache(model, job.prompt_cache(), tokens, cache);
    prefixes_.keep(model, job.job().owner, prompt.first(static_cast<size_t>(tokens)),
                   std::move(cache));
  } catch (const std::exception&) {
    prefixes_.drop_oldest();
  }
}

void Engine::remove_done() {
  for (const auto& job : take_out([](const RunningJob& one) { return one.done(); }))
    job->tell_done();
}

void Engine::fail_all() {
  const Error error(ErrorKind::interrupted, "the server is shutting down");
  std::deque<Waiting> waiting;
  {
    const std::lock_guard lock(mutex_);
    waiting.swap(waiting_);
  }
  for (const Waiting& one : waiting)
    one.job.listener->failed(error, {.prompt_tokens = std::ssize(one.job.prompt),
                                     .queue_seconds = seconds_since(one.since)});
  for (Running& running : running_) running.job->tell_failed(error);
  running_.clear();
  reserved_ = 0;
}

}  // namespace qwb::serve
