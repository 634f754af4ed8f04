#include "lib/evaluate/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/interrupt.h"

namespace qwb {
namespace {

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

// Standard error of the mean; nothing below two values.
std::optional<double> error_of_mean(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  if (values.size() < 2) return std::nullopt;
  const double center = mean(values);
  double squares = 0;
  for (const double v : values) squares += (v - center) * (v - center);
  return std::sqrt(squares / (n - 1) / n);
}

// exp of a mean, and its error by the delta method.
std::optional<double> error_of_exp(const std::vector<double>& values, double value) {
  const std::optional<double> error = error_of_mean(values);
  return error ? std::optional(value * *error) : std::nullopt;
}

void check_vocabulary(const ModelConfig& config, const EncodedText& text) {
  const int32_t largest = *std::max_element(text.ids.begin(), text.ids.end());
  if (largest < config.vocab) return;
  throw Error(ErrorKind::usage,
              fmt::format("the tokenizer makes token {} but the model has only {}", largest, config.vocab),
              {}, "the tokenizer files do not belong to this model");
}

// Number of windows to score.
int64_t count_windows(const Protocol& protocol, const EncodedText& text, int64_t context,
                      int64_t max_windows) {
  const auto tokens = static_cast<int64_t>(text.ids.size());
  if (tokens < protocol.minimum_windows * context) {
    throw Error(ErrorKind::usage,
                fmt::format("the text has {} tokens, but protocol {} at context {} needs {}", tokens,
                            protocol.name, context, protocol.minimum_windows * context),
                {}, "take a longer text or a smaller --context");
  }
  const int64_t windows = tokens / context;
  return max_windows > 0 ? std::min(windows, max_windows) : windows;
}

// Scores one window after the other.
class Scorer {
 public:
  Scorer(const Model& model, const Protocol& protocol, int64_t context)
      : model_(model),
        protocol_(protocol),
        context_(context),
        first_(protocol.first_scored(context)),
        cache_(model.new_cache(context)),
        hidden_(checked_mul(context, model.config().hidden, "context")),
        logits_(model.config().vocab),
        losses_(static_cast<size_t>(context - first_)) {}

  int64_t scored() const { return context_ - first_; }

  // Sum of the losses of window `index`.
  double operator()(const EncodedText& text, int64_t index) {
    const auto begin = text.ids.begin() + index * context_;
    std::vector<int32_t> tokens(begin, begin + context_);
    if (protocol_.bos_in_every_window && text.bos) tokens[0] = *text.bos;
    cache_.truncate(0);
    model_.forward(tokens, cache_, hidden_.data());
    const std::span<const int32_t> targets =
        std::span<const int32_t>(tokens).subspan(static_cast<size_t>(first_));
    model_.token_losses(hidden_.data() + (first_ - 1) * model_.config().hidden, targets, losses_.data());
    check_logits(index);
    double sum = 0;
    for (size_t i = 0; i < losses_.size(); ++i) {
      if (!std::isfinite(losses_[i])) {
        throw Error(ErrorKind::failed,
                    fmt::format("the loss of token {} in window {} is {}", first_ + static_cast<int64_t>(i),
                                index, losses_[i]),
                    {}, "the model's output embedding or last norm is damaged");
      }
      sum += losses_[i];
    }
    return sum;
  }

 private:
  // A softmax over vector lanes may lose a NaN among the logits; one row of them shows a damaged row of the
  // output embedding.
  void check_logits(int64_t window) {
    model_.logits(hidden_.data() + (context_ - 1) * model_.config().hidden, 1, logits_.data());
    for (int64_t token = 0; token < logits_.size(); ++token) {
      if (std::isfinite(logits_[token])) continue;
      throw Error(ErrorKind::failed,
                  fmt::format("the logit of token {} in window {} is {}", token, window, logits_[token]), {},
                  "the model's output embedding is damaged");
    }
  }

  const Model& model_;
  const Protocol& protocol_;
  int64_t context_;
  int64_t first_;
  KvCache cache_;
  FloatBuffer hidden_;
  FloatBuffer logits_;
  std::vector<double> losses_;
};

}  // namespace

const std::vector<Protocol>& protocols() {
  static const std::vector<Protocol> all = {
      {.name = "windows",
       .summary = "disjoint windows, all but the first token of each scored",
       .default_context = 2048,
       .minimum_windows = 1,
       .bos_in_every_window = false,
       .first_scored = [](int64_t) { return int64_t{1}; }},
      // examples/perplexity/perplexity.cpp: logits of positions context/2 .. context - 2 predict the tokens
      // after them.
      {.name = "llama.cpp",
       .summary = "as llama-perplexity: BOS at every window, the second half scored",
       .default_context = 512,
       .minimum_windows = 2,
       .bos_in_every_window = true,
       .first_scored = [](int64_t context) { return context / 2 + 1; }},
  };
  return all;
}

const Protocol& find_protocol(const std::string& name) {
  std::string names;
  for (const Protocol& protocol : protocols()) {
    if (protocol.name == name) return protocol;
    names += (names.empty() ? "" : ", ") + protocol.name;
  }
  throw Error(ErrorKind::usage, "no perplexity protocol is called \"" + name + "\"", {},
              "there are: " + names);
}

EncodedText encode_text(const Tokenizer& tokenizer, std::string_view text, const std::string& where) {
  if (text.empty()) throw Error(ErrorKind::failed, "the text is empty", where);
  EncodedText encoded;
  encoded.ids = tokenizer.encode(text, true);
  const std::vector<int32_t> prefix = tokenizer.special_prefix();
  if (!prefix.empty()) encoded.bos = prefix.front();
  encoded.text_hash = hash_hex(as_bytes(text));
  encoded.token_hash = hash_hex(std::as_bytes(std::span(encoded.ids)));
  if (encoded.ids.empty())
    throw Error(ErrorKind::failed, "the tokenizer makes no tokens of this text", where);
  return encoded;
}

int64_t perplexity_context(const ModelConfig& config, const PerplexityOptions& options) {
  const Protocol& protocol = find_protocol(options.protocol);
  if (options.context == 0) return std::min(protocol.default_context, config.max_positions);
  if (options.context < 4 || options.context > config.max_positions) {
    throw Error(ErrorKind::usage, fmt::format("a context of {} tokens: this model takes 4 to {}",
                                              options.context, config.max_positions));
  }
  return options.context;
}

PerplexityResult measure_perplexity(const Model& model, const EncodedText& text,
                                    const PerplexityOptions& options, Progress& progress) {
  const Protocol& protocol = find_protocol(options.protocol);
  const int64_t context = perplexity_context(model.config(), options);
  check_vocabulary(model.config(), text);
  const int64_t windows = count_windows(protocol, text, context, options.max_windows);
  Scorer score(model, protocol, context);
  PerplexityResult result;
  result.protocol = protocol.name;
  result.context = context;
  result.windows = windows;
  result.text_hash = text.text_hash;
  result.token_hash = text.token_hash;
  double sum = 0;
  progress.begin("perplexity", windows * context);
  for (int64_t i = 0; i < windows; ++i) {
    check_interrupt();
    const double loss = score(text, i);
    sum += loss;
    result.tokens += score.scored();
    result.window_means.push_back(loss / static_cast<double>(score.scored()));
    progress.advance(context,
                     fmt::format("{:.4f} so far", std::exp(sum / static_cast<double>(result.tokens))));
  }
  progress.end();
  result.value = std::exp(sum / static_cast<double>(result.tokens));
  result.standard_error = error_of_exp(result.window_means, result.value);
  return result;
}

PerplexityRatio perplexity_ratio(const PerplexityResult& result, const PerplexityResult& baseline) {
  if (result.protocol != baseline.protocol || result.context != baseline.context ||
      result.token_hash != baseline.token_hash ||
      result.window_means.size() != baseline.window_means.size()) {
    throw Error(ErrorKind::usage,
                fmt::format("{} at {} and {} at {} were not measured on the same tokens in the same way",
                            result.protocol, result.context, baseline.protocol, baseline.context));
  }
  std::vector<double> differences;
  for (size_t i = 0; i < result.window_means.size(); ++i) {
    differences.push_back(result.window_means[i] - baseline.window_means[i]);
  }
  PerplexityRatio ratio;
  ratio.value = std::exp(mean(differences));
  ratio.standard_error = error_of_exp(differences, ratio.value);
  return ratio;
}

}  // namespace qwb
