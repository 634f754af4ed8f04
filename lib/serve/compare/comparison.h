// One prompt, several versions: their answers, where they part from the base's, what every version
// thinks of the base's answer, and joules, as one stream of events.
//
//   {"type": "start", "id", "base", "mode", "columns": [{"column", "model", "prompt_tokens",
//     "prompt", "settings"}]}                        base: its column, or null
//   {"type": "turn", "column"}                       its answer begins
//   {"type": "text", "column", "text", "tokens"}     what was added, and the ids that it ends
//   {"type": "finish", "column", "finish", "tokens", "kv_bytes", "usage", "timings"}
//     finish: "stop", "length" or "stopped"; tokens: all, with the one that ended the text
//   {"type": "error", "column", "error"}             of this column alone; null: of all
//   {"type": "energy", "column", "energy"}           answer_meter.h
//   {"type": "self_check", "column", "same", "tokens", "reason"}
//     whether the base gave the same answer twice
//   {"type": "departure", "column", "reason", "equal_tokens", "departure": {"index", "base",
//     "column": {"token", "text", "by_base", "by_column"}, "nearly_even"}}
//     by_...: {"probability", "below"} of the token at that place
//   {"type": "along", "column", "reason", "tokens", "same", "agreement", "mean_kl", "positions":
//     [{"token", "text", "kl", "rank", "base_probability", "probability", "same_top", "top":
//     [{"token", "text", "probability"}]}]}
//   {"type": "end"}, and "[DONE]"
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "lib/serve/api/exchange.h"
#include "lib/serve/api/service.h"
#include "lib/serve/compare/along.h"
#include "lib/serve/compare/column.h"
#include "lib/serve/compare/compare_request.h"

namespace qwb::serve {

class Comparison : public std::enable_shared_from_this<Comparison> {
 public:
  Comparison(Service& service, std::shared_ptr<Exchange> exchange, CompareRequest request,
             std::string id);
  ~Comparison();
  const std::string& owner() const { return exchange_->request().owner; }
  // Reads the prompts of all columns and starts the stream. Throws ApiError if no column can run.
  void start();
  // Ends the answer of one column, or all of them and what would follow. False: no such column.
  bool stop(std::optional<size_t> column);

 private:
  class AnswerListener;
  class SilentListener;
  // A piece of the work: true if it is over, false if a job was given to the engine, whose end
  // calls next().
  using Work = std::function<bool()>;

  void plan();
  // Runs `step` in a thread of the pool; what it throws ends the stream.
  void later(std::function<void()> step);
  void give_up(const Error& error);
  void next();
  bool begin_answers(const std::vector<size_t>& columns);
  bool submit_answer(size_t column);
  void answer_over(size_t column);
  void answers_over();
  void tell_departures();
  bool check_base();
  bool read_along(size_t column);
  void end();

  bool gone() const { return exchange_->stopped().requested(); }
  const Column& base() const { return columns_[request_.base]; }
  std::string reason_against(size_t column) const;
  std::string reason_against_along(size_t column) const;
  void tell(const Json& event);
  void note_failure(const Error& error);  // for the log
  void tell_start();

  Service& service_;
  const std::shared_ptr<Exchange> exchange_;
  CompareRequest request_;  // its fields of the columns only until they are read
  const std::string id_;
  std::mutex writing_;
  bool over_ = false;                // nothing is written any more; guarded by writing_
  std::atomic<bool> broken_{false};  // a step went wrong
  std::vector<Column> columns_;
  std::deque<Work> work_;
  StopSource all_;                  // nothing more is wanted
  std::vector<size_t> answering_;   // columns whose answers run
  size_t pending_ = 0;              // of them, those that are not over
  std::mutex ending_;               // guards pending_
  int64_t measurement_ = 0;         // the meter's, of them; 0: it does not measure them
  std::string no_meter_;            // or why not
  std::shared_ptr<BasePath> path_;  // once the base has read it
};

}  // namespace qwb::serve
