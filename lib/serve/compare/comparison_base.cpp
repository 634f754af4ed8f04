// The base and the others: departures, whether the base agrees with itself, and what all think of
// its answer.
#include <utility>

#include "lib/serve/compare/comparison.h"

namespace qwb::serve {

// Hears of a job that nobody is told of: `over` gets its tokens and, if it failed, the problem.
class Comparison::SilentListener : public JobListener {
 public:
  using Over = std::function<void(const std::vector<ScoredToken>&, const std::string&)>;
  SilentListener(std::shared_ptr<Comparison> comparison, Over over)
      : all_(std::move(comparison)), over_(std::move(over)) {}
  void prompt_scored(std::vector<ScoredToken>) override {}
  void token(int64_t, const ScoredToken& token) override { made_.push_back(token); }
  void text(int64_t, TextPiece) override {}
  void finished(int64_t, Finish) override {}
  void done(const JobCounts&) override { end({}); }
  void failed(const Error& error, const JobCounts&) override {
    all_->note_failure(error);
    end(error.kind() == ErrorKind::interrupted ? "stopped" : api_error(error).what());
  }

 private:
  void end(std::string problem) {
    all_->later([all = all_.get(), over = over_, made = made_, problem = std::move(problem)] {
      over(made, problem);
      all->next();
    });
  }
  std::shared_ptr<Comparison> all_;
  Over over_;
  std::vector<ScoredToken> made_;
};

std::string Comparison::reason_against(size_t index) const {
  if (!request_.compared) return "the base is not among the columns";
  const Column &mine = base(), &its = columns_[index];
  if (mine.error) return "the base has no answer";
  if (its.error) return "this version has no answer";
  if (mine.model->loaded.tokenizer->content_hash() != its.model->loaded.tokenizer->content_hash())
    return "the tokenizers differ";
  if (mine.prompt != its.prompt) return "the texts before this answer differ";
  return {};
}

void Comparison::tell_departures() {
  for (size_t i = 0; i < columns_.size(); ++i) {
    Column& column = columns_[i];
    if ((request_.compared && i == request_.base) || !column.over() || column.error ||
        column.departure_told)
      continue;
    std::string reason = reason_against(i);
    if (request_.compared && !base().over()) continue;
    if (reason.empty() && !(base().greedy() && column.greedy()))
      reason = "the answers are drawn at random; departures are those of greedy ones";
    column.departure_told = true;
    tell(departure_event(base(), column, i, reason));
  }
}

// The base answers once more, now with what is kept of its prompt.
bool Comparison::check_base() {
  if (base().error || !base().greedy() || base().made.empty() || all_.token().requested())
    return true;
  const auto not_checked = [this](const std::string& reason) {
    tell(
        {{"type", "self_check"}, {"column", request_.base}, {"same", nullptr}, {"reason", reason}});
  };
  try {
    Job job = column_job(base(), service_, owner());
    job.top.reset();
    job.max_tokens = std::ssize(base().made);  // it may have been stopped
    job.stopped = exchange_->stopped();
    job.cut = all_.token();
    job.listener = std::make_shared<SilentListener>(
        shared_from_this(), [this, not_checked](const auto& made, const std::string& problem) {
          if (!problem.empty()) return not_checked(problem);
          const int64_t equal = equal_tokens(base().made, made);
          tell({{"type", "self_check"},
                {"column", request_.base},
                {"same", equal == std::ssize(base().made)},
                {"tokens", equal},
                {"reason", nullptr}});
        });
    std::vector<Job> jobs = {std::move(job)};
    if (service_.engine().submit(base().model->engine(), std::move(jobs))) return false;
    not_checked("the queue is full");
  } catch (const ApiError& error) {
    not_checked(error.what());
  }
  return true;
}

std::string Comparison::reason_against_along(size_t index) const {
  std::string reason = reason_against(index);
  if (!reason.empty()) return reason;
  if (base().made.empty()) return "the base has made no token";
  if (all_.token().requested()) return "stopped";
  if (index != request_.base && path_ == nullptr) return "the base was not read along its answer";
  const int64_t vocab = columns_[index].model->loaded.model->config().vocab;
  return vocab == base().model->loaded.model->config().vocab ? "" : "the vocabularies differ";
}

bool Comparison::read_along(size_t index) {
  const Column& column = columns_[index];
  const Tokenizer& tokenizer = *column.model->loaded.tokenizer;
  const std::string reason = reason_against_along(index);
  const auto refused = [&](const std::string& why) {
    tell(along_event(tokenizer, {}, index, why));
    return true;
  };
  if (!reason.empty()) return refused(reason);
  const bool is_base = index == request_.base;
  auto path = path_;
  if (is_base) {
    path = std::make_shared<BasePath>();
    path->model = column.model->loaded.model.get();
    path->prompt = column.prompt;
    path->targets = column.tokens();
  }
  const auto reader = std::make_shared<AlongReader>(path, *column.model->loaded.model);
  Job job;
  job.prompt = path->text();
  job.owner = owner();
  job.stopped = exchange_->stopped();
  job.cut = all_.token();
  job.reuse_prefix = false;  // nobody goes on with this text
  job.reader = reader;
  job.listener = std::make_shared<SilentListener>(
      shared_from_this(),
      [this, index, path, reader, is_base](const auto&, const std::string& problem) {
        if (is_base && problem.empty()) path_ = path;
        tell(along_event(*columns_[index].model->loaded.tokenizer, reader->tokens(), index,
                         problem));
      });
  try {
    std::vector<Job> jobs = {std::move(job)};
    if (service_.engine().submit(column.model->engine(), std::move(jobs))) return false;
    return refused("the queue is full");
  } catch (const Error& error) {
    return refused(api_error(error).what());
  }
}

}  // namespace qwb::serve
