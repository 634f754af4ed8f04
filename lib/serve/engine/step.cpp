#include "lib/serve/engine/step.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "lib/base/parallel.h"

namespace qwb::serve {

void Step::add_choice(RunningJob& job, size_t choice) {
  parts_.push_back({&job, choice, job.last_token(choice), false});
}

void Step::add_piece(RunningJob& job, int64_t piece) {
  parts_.push_back({&job, 0, job.next_piece(piece), true});
}

template <class Body>
void Step::each_sound(const Body& body) {
  for (Part& part : parts_) {
    if (part.error) continue;
    try {
      body(part);
    } catch (const Error& error) {
      part.error = error;
    } catch (const std::exception& error) {
      part.error = as_error(error);
    }
  }
}

void Step::forward() {
  std::vector<Sequence> sequences;
  int64_t rows = 0;
  for (Part& part : parts_) {
    sequences.push_back({part.tokens, &part.job->cache(part.choice), part.job->job().stopped});
    rows += std::ssize(part.tokens);
    part.last_row = rows - 1;
  }
  hidden_ = model_.model->executor().allocate(rows, model_.model->config().hidden);
  const auto errors = model_.model->forward(sequences, hidden_);
  for (size_t i = 0; i < parts_.size(); ++i) parts_[i].error = errors[i];
}

void Step::read_pieces() {
  each_sound([&](Part& part) {
    if (!part.piece) return;
    const int64_t rows = std::ssize(part.tokens);
    part.job->piece_read(hidden_.view().row_range(part.last_row + 1 - rows, rows));
  });
}

// Every row of logits is made as a piece of its own, so that it has the bits it has alone.
void Step::draw() {
  std::vector<Part*> parts;
  std::vector<int64_t> rows;
  for (Part& part : parts_) {
    if (part.error || part.job->reading() || part.job->finished(part.choice)) continue;
    parts.push_back(&part);
    rows.push_back(part.last_row);
  }
  if (parts.empty()) return;
  const Executor& executor = model_.model->executor();
  const auto count = std::ssize(parts);
  const Matrix ends = executor.allocate(count, model_.model->config().hidden);
  const Matrix logits = executor.allocate(count, model_.model->config().vocab);
  executor.gather(hidden_, rows, ends);
  const std::vector<int64_t> ones(parts.size(), 1);
  model_.model->logits(Rows(ends, ones), logits);
  // The first token of every choice is drawn from the same logits, those of the prompt's end.
  struct Draw {
    Part* part;
    int64_t row;
    size_t choice;
    ScoredToken token = {};
    std::optional<Error> error = {};
  };
  std::vector<Draw> draws;
  for (int64_t i = 0; i < count; ++i) {
    Part* const part = parts[static_cast<size_t>(i)];
    const size_t last = part->piece ? part->job->choices() - 1 : part->choice;
    for (size_t choice = part->choice; choice <= last; ++choice) draws.push_back({part, i, choice});
  }
  parallel_for(executor.threads(), std::ssize(draws), [&](int64_t i) {
    Draw& one = draws[static_cast<size_t>(i)];
    try {
      one.token =
          one.part->job->draw(one.choice, executor.download(logits.view().row_range(one.row, 1)));
    } catch (const std::exception& error) {
      one.error = as_error(error);
    }
  });
  for (Draw& one : draws) {
    if (one.error) {
      one.part->error = one.error;
    } else if (!one.part->error) {
      one.part->job->add(one.choice, std::move(one.token));
    }
  }
}

void Step::share_time(double seconds) {
  double rows = 0;
  for (const Part& part : parts_) rows += static_cast<double>(part.tokens.size());
  for (const Part& part : parts_)
    part.job->add_busy(seconds * static_cast<double>(part.tokens.size()) / rows);
}

std::vector<Step::Failure> Step::run() {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  std::optional<Error> all;
  try {
    forward();
    read_pieces();
    draw();
  } catch (const std::exception& error) {
    all = as_error(error);
  }
  share_time(std::chrono::duration<double>(Clock::now() - begin).count());
  std::vector<Failure> failures;
  for (const Part& part : parts_) {
    const bool told = std::any_of(failures.begin(), failures.end(),
                                  [&](const Failure& f) { return f.job == part.job; });
    if (told || !(all || part.error)) continue;
    failures.push_back({part.job, part.error ? *part.error : *all});
  }
  return failures;
}

}  // namespace qwb::serve
