#include "lib/serve/compare/along.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/serve/engine/scores.h"

namespace qwb::serve {
namespace {

// Rows whose logits of both models are held at once, counted from the answer's first token.
constexpr int64_t kAlongRows = 16;

AlongToken along_token(std::span<const float> logits, const RowDivergence& row, int32_t target) {
  if (!row.finite) throw Error(ErrorKind::failed, "a logit is not finite");
  ScoredToken scored = scored_token(logits, target, kAlongTop);
  const float own = logits[static_cast<size_t>(target)];
  const auto before = [&](size_t id) {
    return logits[id] > own || (logits[id] == own && static_cast<int64_t>(id) < target);
  };
  AlongToken token{.token = target, .kl = row.kl, .base_probability = std::exp(-row.base_loss)};
  token.probability = std::exp(*scored.logprob);
  for (size_t id = 0; id < logits.size(); ++id) token.rank += before(id) ? 1 : 0;
  token.top = std::move(scored.top);
  token.same_top = row.base_top == row.other_top;
  return token;
}

}  // namespace

std::vector<int32_t> BasePath::text() const {
  std::vector<int32_t> tokens = prompt;
  tokens.insert(tokens.end(), targets.begin(), targets.end() - 1);
  return tokens;
}

AlongReader::AlongReader(std::shared_ptr<BasePath> path, const Model& model)
    : path_(std::move(path)), model_(model) {
  tokens_.resize(path_->targets.size());
  if (&model_ == path_->model && path_->hidden.rows() == 0)
    path_->hidden = model_.executor().allocate(std::ssize(path_->targets), model_.config().hidden);
}

// Row i of the text tells token i + 1: the answer's first token stands behind the prompt's last.
void AlongReader::rows(In hidden, int64_t first) {
  const int64_t begin = std::ssize(path_->prompt) - 1;
  for (int64_t row = std::max<int64_t>(begin - first, 0); row < hidden.rows;) {
    const int64_t target = first + row - begin;
    const int64_t count = std::min(kAlongRows - target % kAlongRows, hidden.rows - row);
    const In part = hidden.row_range(row, count);
    if (&model_ == path_->model)
      model_.executor().copy(part, path_->hidden.view().row_range(target, count));
    compare(part, target);
    row += count;
  }
}

void AlongReader::compare(In hidden, int64_t target) {
  const Executor& executor = model_.executor();
  const int64_t vocab = model_.config().vocab;
  const Matrix logits = executor.allocate(hidden.rows, vocab);
  const Matrix base = path_->model->executor().allocate(hidden.rows, vocab);
  model_.logits(hidden, logits);
  path_->model->logits(path_->hidden.view().row_range(target, hidden.rows), base);
  std::vector<RowDivergence> rows(static_cast<size_t>(hidden.rows));
  const std::span<const int32_t> targets =
      std::span<const int32_t>(path_->targets)
          .subspan(static_cast<size_t>(target), static_cast<size_t>(hidden.rows));
  executor.divergence(base, logits, targets, rows);
  parallel_for(executor.threads(), hidden.rows, [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    tokens_[static_cast<size_t>(target + i)] =
        along_token(executor.download(logits.view().row_range(i, 1)), rows[at], targets[at]);
  });
}

}  // namespace qwb::serve
