#include "lib/evaluate/window_scorer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"
#include "lib/model/block_walk.h"

namespace qwb {
namespace {

int64_t longest_read(const TokenPlan& plan) {
  int64_t longest = 1;
  for (const TokenWindow& window : plan.windows) longest = std::max(longest, window.size - 1);
  return longest;
}

constexpr const char* kAdvice = "the weights are damaged or overflow in this precision";

std::string names(const InputGroup& group) {
  std::string text;
  for (const LinearSpec& linear : group.readers) text += (text.empty() ? "" : ", ") + linear.module;
  return text;
}

// The modules that compute the input of a group, for messages.
std::string made_by(const BlockSpec& spec, const InputGroup& group, const InputGroup* before) {
  const SublayerSpec& sublayer = spec.sublayers[group.sublayer];
  if (before == nullptr || before->sublayer != group.sublayer)
    return sublayer.before.empty() ? "the residual stream" : sublayer.before.module;
  // Beside an attention the MLP begins anew.
  if (group.part == InputGroup::Part::mlp_entry) return group.maker.norm->module;
  if (group.part == InputGroup::Part::mlp_inner && before->part == InputGroup::Part::attended)
    return group.maker.linear->module;
  const bool attends = group.part == InputGroup::Part::attended;
  return (attends ? "the attention of " : "") + names(*before);
}

// The first part of a block with a bad output; x [tokens, hidden] becomes what leaves the block.
std::string find_in_block(const Model& model, int64_t index, KvCache& cache, Out x) {
  const BlockSpec& spec = model.spec().blocks[index];
  const Block block(model.config(), spec, index, model.source(), model.executor());
  const RotaryTable rotary(model.executor(), model.config().rope, 0, x.rows);
  const auto bad = [&](In values) { return !model.executor().all_finite(values); };
  const auto in = [index](const std::string& what) {
    return fmt::format("block {}, {}", index, what);
  };
  BlockWalk walk(block, model.executor(), {x.rows, rotary, cache.layer(index)}, x);
  const InputGroup* before = nullptr;
  for (const InputGroup* group = walk.next();; group = walk.next()) {
    const bool left =
        before != nullptr && (group == nullptr || group->sublayer != before->sublayer);
    if (left && bad(x)) return in(names(*before));
    if (group == nullptr) return {};
    if (bad(walk.input())) return in(made_by(spec, *group, before));
    before = group;
  }
}

// The first token, of any row, whose logit is bad. Rows one by one: this is on the way to an error.
std::string find_in_logits(const Model& model, In hidden) {
  const Matrix logits = model.executor().allocate(1, model.config().vocab);
  for (int64_t row = 0; row < hidden.rows; ++row) {
    model.logits(hidden.row_range(row, 1), logits);
    const std::vector<float> values = model.executor().download(logits);
    for (size_t token = 0; token < values.size(); ++token) {
      if (!std::isfinite(values[token]))
        return fmt::format("the logit of token {} ({})", token, model.spec().output_embedding);
    }
  }
  return {};
}

}  // namespace

std::string find_non_finite(const Model& model, std::span<const int32_t> tokens) {
  const ModelConfig& config = model.config();
  const Executor& executor = model.executor();
  const auto count = std::ssize(tokens);
  const Matrix x = executor.allocate(count, config.hidden);
  const Matrix hidden = executor.allocate(count, config.hidden);
  KvCache cache = model.new_cache(count);
  model.embed(tokens, 0, x);
  if (!executor.all_finite(x)) return model.spec().embedding;
  for (int64_t i = 0; i < config.layers; ++i) {
    std::string place = find_in_block(model, i, cache, x);
    if (!place.empty()) return place;
  }
  model.final_norm(x, hidden);
  if (!executor.all_finite(hidden)) return model.spec().final_norm.module;
  return find_in_logits(model, hidden);
}

WindowScorer::WindowScorer(const Model& model, const TokenPlan& plan, StopToken stop)
    : model_(model),
      plan_(plan),
      stop_(std::move(stop)),
      cache_(model.new_cache(longest_read(plan))),
      hidden_(model.executor().allocate(longest_read(plan), model.config().hidden)) {}

void WindowScorer::read() {
  const std::span<const int32_t> input =
      std::span<const int32_t>(tokens_).first(tokens_.size() - 1);
  cache_.truncate(0);
  try {
    model_.forward(input, cache_, hidden_.view().row_range(0, std::ssize(input)), stop_);
  } catch (const Error& error) {
    const std::string place =
        error.kind() == ErrorKind::failed ? find_non_finite(model_, input) : std::string();
    if (place.empty()) throw;
    throw Error(ErrorKind::failed, fmt::format("NaN or Inf first appears in {}", place),
                fmt::format("window {}", index_), kAdvice);
  }
}

std::span<const double> WindowScorer::score(int64_t index) {
  const TokenWindow& window = plan_.windows[index];
  index_ = index;
  tokens_.assign(plan_.ids.begin() + window.begin, plan_.ids.begin() + window.begin + window.size);
  if (window.first_token) tokens_[0] = *window.first_token;
  read();
  losses_.resize(static_cast<size_t>(window.scored()));
  model_.token_losses(hidden(), targets(), losses_);
  for (const double loss : losses_) {
    if (std::isfinite(loss)) continue;
    const std::string place =
        find_non_finite(model_, std::span<const int32_t>(tokens_).first(tokens_.size() - 1));
    throw Error(ErrorKind::failed,
                "NaN or Inf first appears in " + (place.empty() ? "the logits" : place),
                fmt::format("window {}", index_), kAdvice);
  }
  return losses_;
}

std::span<const int32_t> WindowScorer::targets() const {
  const TokenWindow& window = plan_.windows[index_];
  return std::span<const int32_t>(tokens_).subspan(static_cast<size_t>(window.first));
}

In WindowScorer::hidden() const {
  const TokenWindow& window = plan_.windows[index_];
  return hidden_.view().row_range(window.first - 1, window.scored());
}

}  // namespace qwb
