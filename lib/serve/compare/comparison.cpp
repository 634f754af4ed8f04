// The order of a comparison's work, and its stream.
#include "lib/serve/compare/comparison.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "lib/serve/api/answer_json.h"
#include "lib/serve/api/answer_meter.h"
#include "lib/serve/compare/comparisons.h"

namespace qwb::serve {

Comparison::Comparison(Service& service, std::shared_ptr<Exchange> exchange, CompareRequest request,
                       std::string id)
    : service_(service),
      exchange_(std::move(exchange)),
      request_(std::move(request)),
      id_(std::move(id)) {}

Comparison::~Comparison() {
  if (measurement_ != 0) service_.settings().meter->drop();
  service_.comparisons().remove(id_, weak_from_this());
}

void Comparison::note_failure(const Error& error) {
  if (error.kind() == ErrorKind::interrupted) return;
  exchange_->note([&](RequestRecord& record) { record.error = error.what(); });
}

void Comparison::tell(const Json& event) {
  const std::lock_guard lock(writing_);
  if (!over_) exchange_->write(event_of(event));
}

void Comparison::start() {
  const uint64_t seed = service_.random_seed();  // the same for all, so that only weights differ
  std::string names;
  for (const ColumnRequest& column : request_.columns) {
    columns_.push_back(
        read_column(*column.model, column_body(request_, column), request_.chat, seed));
    names += (names.empty() ? "" : "+") + column.model->name;
  }
  request_.columns.clear();
  request_.shared = nullptr;
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
      self->give_up(as_error(error));
    }
  });
}

// Answers that run beside the one that went wrong come to nothing.
void Comparison::give_up(const Error& error) {
  note_failure(error);
  broken_ = true;
  stop(std::nullopt);
  tell({{"type", "error"}, {"column", nullptr}, {"error", api_error(error).json()["error"]}});
  end();
}

void Comparison::next() {
  while (!gone() && !broken_ && !work_.empty()) {
    const Work work = std::move(work_.front());
    work_.pop_front();
    if (!work()) return;
  }
  end();
}

void Comparison::end() {
  exchange_->note([](RequestRecord& record) { record.finish = "compared"; });
  service_.comparisons().remove(id_, weak_from_this());
  const std::lock_guard lock(writing_);
  if (std::exchange(over_, true)) return;
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

}  // namespace qwb::serve
