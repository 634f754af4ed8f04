#include "lib/serve/compare/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/serve/api/answer_json.h"
#include "lib/serve/api/answer_meter.h"
#include "lib/serve/compare/comparisons.h"

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
    if (column.made.size() == 1 && all_->metered_ && !all_->request_.at_once)
      all_->later([all = all_.get()] { all->service_.settings().meter->prefill_ended(); });
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

Comparison::Comparison(Service& service, std::shared_ptr<Exchange> exchange, CompareRequest request,
                       std::string id)
    : service_(service),
      exchange_(std::move(exchange)),
      request_(std::move(request)),
      id_(std::move(id)) {}

Comparison::~Comparison() {
  service_.comparisons().remove(id_);
}

void Comparison::tell(const Json& event) {
  const std::lock_guard lock(writing_);
  exchange_->write(event_of(event));
}

void Comparison::start() {
  const uint64_t seed = service_.random_seed();  // the same for all, so that only weights differ
  std::string names;
  for (const ColumnRequest& column : request_.columns) {
    columns_.push_back(read_column(column, request_.chat, seed));
    names += (names.empty() ? "" : "+") + column.model->name;
  }
  const auto broken = [](const Column& column) { return column.error.has_value(); };
  if (std::all_of(columns_.begin(), columns_.end(), broken)) throw ApiError(*columns_[0].error);
  exchange_->note([&](RequestRecord& record) {
    record.model = names;
    record.generated = true;
  });
  service_.comparisons().add(id_, shared_from_this());
  exchange_->begin_stream();
  tell_start();
  plan();
  later([this] { next(); });
}

void Comparison::tell_start() {
  Json columns = Json::array();
  for (size_t i = 0; i < columns_.size(); ++i) columns.push_back(column_json(columns_[i], i));
  tell({{"type", "start"},
        {"id", id_},
        {"base", request_.compared ? Json(request_.base) : Json(nullptr)},
        {"mode", request_.at_once ? "at_once" : "in_turns"},
        {"columns", std::move(columns)}});
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (columns_[i].error)
      tell({{"type", "error"}, {"column", i}, {"error", columns_[i].error->json()["error"]}});
  }
}

void Comparison::plan() {
  std::vector<size_t> order;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const size_t column = (request_.first + i) % columns_.size();
    if (!columns_[column].error) order.push_back(column);
  }
  if (request_.at_once) {
    work_.push_back([this, order] { return begin_answers(order); });
  } else {
    for (const size_t column : order)
      work_.push_back([this, column] { return begin_answers({column}); });
  }
  if (!request_.compared) return;
  if (request_.self_check) work_.push_back([this] { return check_base(); });
  if (!request_.along) return;
  work_.push_back([this] { return read_along(request_.base); });
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (i != request_.base) work_.push_back([this, i] { return read_along(i); });
  }
}

void Comparison::later(std::function<void()> step) {
  exchange_->later([self = shared_from_this(), step = std::move(step)] {
    try {
      step();
    } catch (const std::exception& error) {
      const Error own = as_error(error);
      self->exchange_->note([&](RequestRecord& record) { record.error = own.what(); });
      self->work_.clear();
      self->tell(
          {{"type", "error"}, {"column", nullptr}, {"error", api_error(own).json()["error"]}});
      self->end();
    }
  });
}

void Comparison::next() {
  while (!gone() && !work_.empty()) {
    const Work work = std::move(work_.front());
    work_.pop_front();
    if (!work()) return;
  }
  end();
}

void Comparison::end() {
  exchange_->note([](RequestRecord& record) { record.finish = "compared"; });
  service_.comparisons().remove(id_);
  const std::lock_guard lock(writing_);
  exchange_->write(event_of({{"type", "end"}}) + event_line("[DONE]"));
  exchange_->end_stream();
}

bool Comparison::stop(std::optional<size_t> column) {
  if (column && *column >= columns_.size()) return false;
  if (column) {
    columns_[*column].cut.request();
    return true;
  }
  for (Column& one : columns_) one.cut.request();
  all_.request();
  return true;
}

// --- answers

// The time from here to the end of the last answer is what their joules are measured over.
bool Comparison::begin_answers(const std::vector<size_t>& columns) {
  answering_ = columns;
  pending_ = columns.size();
  const std::shared_ptr<AnswerMeter>& meter = service_.settings().meter;
  metered_ = meter != nullptr && meter->begin(service_.engine().load());
  no_meter_ = meter == nullptr ? "joules are not measured by this server"
                               : "the answer of another comparison was being measured";
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
  if (metered_) {
    AnswerMeter& meter = *service_.settings().meter;
    const EngineLoad load = service_.engine().load();
    figures = request_.at_once ? meter.end_shared(load, own, counts)
                               : std::vector<Json>{meter.end(load, own, counts.front())};
    metered_ = false;
  }
  for (size_t i = 0; i < answering_.size(); ++i) {
    if (!columns_[answering_[i]].error)
      tell({{"type", "energy"}, {"column", answering_[i]}, {"energy", figures[i]}});
  }
  tell_departures();
}

// --- against the base

std::string Comparison::reason_against(size_t index) const {
  if (!request_.compared) return "the base is not among the columns";
  const Column &mine = base(), &its = columns_[index];
  if (mine.error) return "the base has no answer";
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
  const auto not_checked = [&](const std::string& reason) {
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
