// The answers of the columns, and their joules.
#include <utility>

#include "lib/serve/api/answer_json.h"
#include "lib/serve/api/answer_meter.h"
#include "lib/serve/compare/comparison.h"

namespace qwb::serve {

// Hears of the answer of one column.
class Comparison::AnswerListener : public JobListener {
 public:
  AnswerListener(std::shared_ptr<Comparison> comparison, size_t index)
      : all_(std::move(comparison)), index_(index) {}
  void prompt_scored(std::vector<ScoredToken>) override {}
  void token(int64_t, const ScoredToken& token) override {
    Column& column = all_->columns_[index_];
    column.made.push_back(token);
    if (column.made.size() == 1 && all_->measurement_ != 0 && !all_->request_.at_once)
      all_->later([all = all_.get(), measurement = all_->measurement_] {
        all->service_.settings().meter->prefill_ended(measurement);
      });
  }
  void text(int64_t, TextPiece piece) override {
    Json tokens = Json::array();
    for (const ScoredToken& token : piece.tokens) tokens.push_back(token.token);
    all_->tell({{"type", "text"}, {"column", index_}, {"text", piece.text}, {"tokens", tokens}});
  }
  void finished(int64_t, Finish finish) override {
    all_->columns_[index_].finish = finish_name(finish);
  }
  void done(const JobCounts& counts) override { over(counts); }
  void failed(const Error& error, const JobCounts& counts) override {
    Column& column = all_->columns_[index_];
    all_->note_failure(error);
    if (error.kind() == ErrorKind::interrupted && column.cut.token().requested())
      column.finish = "stopped";
    else
      column.error = api_error(error);
    over(counts);
  }

 private:
  void over(const JobCounts& counts) {
    all_->columns_[index_].counts = counts;
    all_->later([all = all_.get(), index = index_] { all->answer_over(index); });
  }
  std::shared_ptr<Comparison> all_;
  const size_t index_;
};

// The time from here to the end of the last answer is what their joules are measured over.
bool Comparison::begin_answers(const std::vector<size_t>& columns) {
  answering_ = columns;
  pending_ = columns.size();
  const std::shared_ptr<AnswerMeter>& meter = service_.settings().meter;
  measurement_ = meter != nullptr ? meter->begin(service_.engine().load()) : 0;
  no_meter_ = meter == nullptr ? "joules are not measured by this server"
                               : "another answer was being measured";
  for (const size_t column : columns) {
    tell({{"type", "turn"}, {"column", column}});
    if (!submit_answer(column)) later([this, column] { answer_over(column); });
  }
  return false;
}

// False: there will be no answer.
bool Comparison::submit_answer(size_t index) {
  Column& column = columns_[index];
  try {
    std::vector<Job> jobs = {column_job(column, service_, owner())};
    jobs[0].stopped = exchange_->stopped();
    jobs[0].listener = std::make_shared<AnswerListener>(shared_from_this(), index);
    if (service_.engine().submit(column.model->engine(), std::move(jobs))) return true;
    column.error = ApiError(429, "the queue is full", {}, "queue_full");
  } catch (const ApiError& error) {
    column.error = error;
  }
  return false;
}

void Comparison::answer_over(size_t index) {
  const Column& column = columns_[index];
  exchange_->note([&](RequestRecord& record) {
    record.prompt_tokens += column.counts.prompt_tokens;
    record.cached_tokens += column.counts.cached_tokens;
    record.generated_tokens += column.counts.generated_tokens;
    record.prefill_seconds += column.counts.prefill_seconds;
    record.decode_seconds += column.counts.decode_seconds;
  });
  if (column.error)
    tell({{"type", "error"}, {"column", index}, {"error", column.error->json()["error"]}});
  else
    tell(finish_event(column, index));
  {
    const std::lock_guard lock(ending_);
    if (--pending_ > 0) return;
  }
  answers_over();
  next();
}

void Comparison::answers_over() {
  std::vector<Json> figures(answering_.size(), no_energy(no_meter_));
  int64_t own = 0;
  std::vector<JobCounts> counts;
  for (const size_t index : answering_) {
    own += columns_[index].counts.prompt_tokens > 0 ? 1 : 0;  // it was submitted
    counts.push_back(columns_[index].counts);
  }
  if (std::exchange(measurement_, 0) != 0) {
    AnswerMeter& meter = *service_.settings().meter;
    const EngineLoad load = service_.engine().load();
    figures = request_.at_once ? meter.end_shared(load, own, counts)
                               : std::vector<Json>{meter.end(load, own, counts.front())};
  }
  for (size_t i = 0; i < answering_.size(); ++i) {
    if (!columns_[answering_[i]].error)
      tell({{"type", "energy"}, {"column", answering_[i]}, {"energy", figures[i]}});
  }
  tell_departures();
}

}  // namespace qwb::serve
