#include "lib/evaluate/window_scorer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"

namespace qwb {
namespace {

int64_t longest_read(const TokenPlan& plan) {
  int64_t longest = 1;
  for (const TokenWindow& window : plan.windows) longest = std::max(longest, window.size - 1);
  return longest;
}

constexpr const char* kAdvice = "the weights are damaged or overflow in this precision";

std::string names(const std::vector<const LinearSpec*>& linears) {
  std::string text;
  for (const LinearSpec* linear : linears) text += (text.empty() ? "" : ", ") + linear->module;
  return text;
}

// The first stage of a block with a bad output; x [tokens, hidden] becomes what leaves the block.
std::string find_in_block(const Model& model, int64_t index, int64_t tokens, KvCache& cache, float* x) {
  const ModelConfig& config = model.config();
  const BlockSpec& spec = model.spec().blocks[static_cast<size_t>(index)];
  const Block block(config, spec, index, model.source(), model.backend());
  const RotaryTable rotary(config.rope, 0, tokens);
  FloatBuffer h(tokens * config.hidden), attended(tokens * block.input_size(Stage::attention_output)),
      inner(tokens * block.input_size(Stage::mlp_output));
  const auto bad = [&](const float* values, int64_t width) {
    return !model.backend().all_finite(values, tokens * width);
  };
  const auto in = [index](const std::string& what) { return fmt::format("block {}, {}", index, what); };
  block.attention_input(x, tokens, h.data());
  if (bad(h.data(), config.hidden)) return in(spec.attention_norm.module);
  block.attend(h.data(), tokens, rotary, cache.layer(index), attended.data());
  if (bad(attended.data(), block.input_size(Stage::attention_output)))
    return in("the attention of " + names(block.linears(Stage::attention_input)));
  block.attention_output(attended.data(), tokens, x);
  if (bad(x, config.hidden)) return in(spec.output.module);
  block.mlp_input(x, tokens, h.data());
  if (bad(h.data(), config.hidden)) return in(spec.mlp_norm.module);
  block.mlp_inner(h.data(), tokens, inner.data());
  if (bad(inner.data(), block.input_size(Stage::mlp_output)))
    return in(names(block.linears(Stage::mlp_input)));
  block.mlp_output(inner.data(), tokens, x);
  return bad(x, config.hidden) ? in(spec.down.module) : std::string();
}

// The first token, of any row, whose logit is bad. Rows one by one: this is on the way to an error.
std::string find_in_logits(const Model& model, const float* hidden, int64_t rows) {
  FloatBuffer logits(model.config().vocab);
  for (int64_t row = 0; row < rows; ++row) {
    model.logits(hidden + row * model.config().hidden, 1, logits.data());
    for (int64_t token = 0; token < logits.size(); ++token) {
      if (!std::isfinite(logits[token]))
        return fmt::format("the logit of token {} ({})", token, model.spec().output_embedding);
    }
  }
  return {};
}

}  // namespace

std::string find_non_finite(const Model& model, std::span<const int32_t> tokens) {
  const ModelConfig& config = model.config();
  const auto count = static_cast<int64_t>(tokens.size());
  FloatBuffer x(checked_mul(count, config.hidden, "window")), hidden(count * config.hidden);
  KvCache cache = model.new_cache(count);
  model.embed(tokens, 0, x.data());
  if (!model.backend().all_finite(x.data(), x.size())) return model.spec().embedding;
  for (int64_t i = 0; i < config.layers; ++i) {
    std::string place = find_in_block(model, i, count, cache, x.data());
    if (!place.empty()) return place;
  }
  model.final_norm(x.data(), count, hidden.data());
  if (!model.backend().all_finite(hidden.data(), hidden.size())) return model.spec().final_norm.module;
  return find_in_logits(model, hidden.data(), count);
}

WindowScorer::WindowScorer(const Model& model, const TokenPlan& plan)
    : model_(model),
      plan_(plan),
      cache_(model.new_cache(longest_read(plan))),
      hidden_(checked_mul(longest_read(plan), model.config().hidden, "context")) {}

void WindowScorer::read() {
  const std::span<const int32_t> input = std::span<const int32_t>(tokens_).first(tokens_.size() - 1);
  cache_.truncate(0);
  try {
    model_.forward(input, cache_, hidden_.data());
  } catch (const Error& error) {
    const std::string place =
        error.kind() == ErrorKind::failed ? find_non_finite(model_, input) : std::string();
    if (place.empty()) throw;
    throw Error(ErrorKind::failed, fmt::format("NaN or Inf first appears in {}", place),
                fmt::format("window {}", index_), kAdvice);
  }
}

std::span<const double> WindowScorer::score(int64_t index) {
  const TokenWindow& window = plan_.windows[static_cast<size_t>(index)];
  index_ = index;
  tokens_.assign(plan_.ids.begin() + window.begin, plan_.ids.begin() + window.begin + window.size);
  if (window.first_token) tokens_[0] = *window.first_token;
  read();
  losses_.resize(static_cast<size_t>(window.scored()));
  model_.token_losses(hidden(), targets(), losses_.data());
  for (const double loss : losses_) {
    if (std::isfinite(loss)) continue;
    const std::string place =
        find_non_finite(model_, std::span<const int32_t>(tokens_).first(tokens_.size() - 1));
    throw Error(ErrorKind::failed, "NaN or Inf first appears in " + (place.empty() ? "the logits" : place),
                fmt::format("window {}", index_), kAdvice);
  }
  return losses_;
}

std::span<const int32_t> WindowScorer::targets() const {
  const TokenWindow& window = plan_.windows[static_cast<size_t>(index_)];
  return std::span<const int32_t>(tokens_).subspan(static_cast<size_t>(window.first));
}

const float* WindowScorer::hidden() const {
  const TokenWindow& window = plan_.windows[static_cast<size_t>(index_)];
  return hidden_.data() + (window.first - 1) * model_.config().hidden;
}

}  // namespace qwb
