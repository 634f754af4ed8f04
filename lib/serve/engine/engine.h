// Runs the jobs of several models, in a thread of its own: prompts are read in pieces at fixed
// places, beside a token more for every answer that is being made; different models take turns.
//
// An answer has the same bits whatever runs beside it, whether its prompt's beginning was kept
// from an earlier prompt or not, and whoever else was stopped: pieces begin at multiples of
// EngineLimits::piece, and Model::forward gives every sequence the bits that it has alone.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "lib/serve/engine/prefix_store.h"
#include "lib/serve/engine/running_job.h"

namespace qwb::serve {

struct EngineLimits {
  int64_t kv_bytes = 0;  // of all caches together: running jobs and kept beginnings
  int64_t slots = 4;     // sequences at once, of all models
  int64_t queue = 16;    // requests that wait
  int64_t piece = 256;   // tokens of a prompt between two tokens of the others, 1 to 1024
  bool keep_prefixes = true;
};

struct EngineLoad {
  int64_t running = 0;                  // sequences
  int64_t waiting = 0;                  // requests
  int64_t kv_running = 0, kv_kept = 0;  // bytes that are reserved, and of kept beginnings
  int64_t steps = 0;                    // since the start
  int64_t decoded = 0;                  // sequences of all these steps that were made longer
  int64_t requests = 0;                 // that were taken since the start
};

class Engine {
 public:
  explicit Engine(const EngineLimits& limits);
  // As stop().
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const EngineLimits& limits() const { return limits_; }
  // Throws usage for a job that can never run: an empty prompt or one beyond the context, more
  // choices than slots, more memory than there is for all.
  void check(const EngineModel& model, const Job& job) const;
  // Puts the jobs of one request into the queue; they are done one after the other or beside each
  // other. False: the queue is full. Throws what check() throws. `accepted` is called before any
  // listener is; it must be quick.
  bool submit(const EngineModel& model, std::vector<Job> jobs,
              const std::function<void()>& accepted = {});
  EngineLoad load() const;
  // Jobs that run or wait fail as interrupted; then the thread ends. Later submits return false.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  struct Waiting {
    EngineModel model;
    Job job;
    int64_t request;
    Clock::time_point since;
  };
  struct Running {
    std::unique_ptr<RunningJob> job;
    int64_t last_turn;  // when a piece of its prompt was last read
  };

  void loop();
  bool wait_for_work();
  void drop_stopped();
  void admit();
  bool make_room(int64_t bytes);
  void step(const EngineModel& model);
  void keep_prefix(RunningJob& job);
  void remove_done();
  std::vector<std::unique_ptr<RunningJob>> take_out(
      const std::function<bool(const RunningJob&)>& which);
  void fail_all();
  int64_t sequences() const;
  int64_t requests_waiting() const;
  void publish();

  const EngineLimits limits_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::deque<Waiting> waiting_;
  int64_t requests_ = 0;
  EngineLoad load_;

  // Of the thread alone.
  std::list<Running> running_;
  PrefixStore prefixes_;
  int64_t reserved_ = 0;
  int64_t turns_ = 0;
  int64_t steps_ = 0, decoded_ = 0;
  std::thread thread_;
};

}  // namespace qwb::serve
