#include "lib/evaluate/tasks/task_score.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"
#include "lib/evaluate/unicode_text.h"
#include "lib/evaluate/window_scorer.h"

namespace qwb {
namespace {

int32_t prefix_of(const Tokenizer& tokenizer) {
  if (const auto bos = tokenizer.bos_id()) return *bos;
  if (const auto eos = tokenizer.eos_id()) return *eos;
  throw Error(ErrorKind::unsupported,
              "the tokenizer has neither a BOS nor an EOS token for an empty context");
}

// Items between two places where a reader forgets. An interrupted measurement goes on from such a
// place, so that it ends with the digits of an undisturbed one.
constexpr int64_t kStretch = 16;

// Reads requests one after the other; what a request shares with the one before stays in the cache.
class RequestReader {
 public:
  RequestReader(const Model& model, const Tokenizer& tokenizer, const StopToken& stop)
      : model_(model),
        tokenizer_(tokenizer),
        stop_(stop),
        cache_(model.new_cache(1)),
        logits_(model.executor().allocate(1, model.config().vocab)) {}

  // The next request is read as by a new reader: what is shared decides how many tokens are
  // multiplied at a time, and so the last digits.
  void forget() {
    cache_ = model_.new_cache(1);
    read_.clear();
  }

  // The log-likelihood of the continuation and whether a greedy decoder would write it (if `greedy`
  // asks).
  std::vector<double> read(const TaskRequest& request, bool greedy) {
    const EncodedRequest encoded = encode_request(tokenizer_, request);
    const auto scored = std::ssize(encoded.continuation);
    check(encoded);
    std::vector<int32_t> tokens = encoded.context;
    tokens.insert(tokens.end(), encoded.continuation.begin(), encoded.continuation.end());
    // Too long: the beginning goes. The last token is not read.
    const int64_t excess = std::ssize(tokens) - (model_.config().max_positions + 1);
    if (excess > 0) tokens.erase(tokens.begin(), tokens.begin() + excess);
    tokens.pop_back();
    const int64_t first =
        std::ssize(tokens) - scored;  // whose hidden state predicts the continuation
    const In hidden = states_from(tokens, first);
    std::vector<double> losses(static_cast<size_t>(scored));
    model_.token_losses(hidden, encoded.continuation, losses);
    double sum = 0;
    for (const double loss : losses) sum -= loss;
    if (!std::isfinite(sum)) {
      const std::string place = find_non_finite(model_, tokens);
      throw Error(ErrorKind::failed,
                  "NaN or Inf first appears in " + (place.empty() ? "the logits" : place));
    }
    if (!greedy) return {sum};
    return {sum, is_greedy(hidden, encoded.continuation) ? 1.0 : 0.0};
  }

 private:
  void check(const EncodedRequest& encoded) const {
    if (encoded.continuation.empty())
      throw Error(ErrorKind::failed, "the tokenizer leaves nothing of a continuation");
    if (std::ssize(encoded.continuation) > model_.config().max_positions)
      throw Error(ErrorKind::usage,
                  fmt::format("a continuation of {} tokens: this model takes {}",
                              encoded.continuation.size(), model_.config().max_positions));
  }

  // Final hidden states of tokens[first..].
  In states_from(const std::vector<int32_t>& tokens, int64_t first) {
    const auto count = std::ssize(tokens);
    if (count > cache_.capacity()) {
      cache_ = model_.new_cache(std::min(model_.config().max_positions, 2 * count));
      read_.clear();
    }
    int64_t common = 0;
    while (common < std::min<int64_t>(first, std::ssize(read_)) && read_[common] == tokens[common])
      ++common;
    cache_.truncate(common);
    read_.resize(static_cast<size_t>(common));
    const auto fresh = std::span<const int32_t>(tokens).subspan(static_cast<size_t>(common));
    if (hidden_.rows() < std::ssize(fresh))
      hidden_ = model_.executor().allocate(std::ssize(fresh), model_.config().hidden);
    const Out hidden = hidden_.view().row_range(0, std::ssize(fresh));
    try {
      model_.forward(fresh, cache_, hidden, stop_);
    } catch (const Error& error) {
      const std::string place =
          error.kind() == ErrorKind::failed ? find_non_finite(model_, tokens) : std::string();
      if (place.empty()) throw;
      throw Error(ErrorKind::failed, "NaN or Inf first appears in " + place);
    }
    read_ = tokens;
    return hidden.row_range(first - common, count - first);
  }

  bool is_greedy(In hidden, const std::vector<int32_t>& continuation) {
    for (int64_t i = 0; i < std::ssize(continuation); ++i) {
      model_.logits(hidden.row_range(i, 1), logits_);
      const std::vector<float> row = model_.executor().download(logits_);
      if (std::max_element(row.begin(), row.end()) - row.begin() != continuation[i]) return false;
    }
    return true;
  }

  const Model& model_;
  const Tokenizer& tokenizer_;
  StopToken stop_;
  KvCache cache_;
  Matrix hidden_;
  Matrix logits_;
  std::vector<int32_t> read_;  // what the cache holds
};

std::vector<double> answer_of(RequestReader& reader, const Task& task, const TaskItem& item,
                              int64_t number) {
  try {
    std::vector<double> answer;
    for (const TaskRequest& request : item.requests) {
      const std::vector<double> numbers = reader.read(request, task.last_word);
      answer.insert(answer.end(), numbers.begin(), numbers.end());
    }
    return answer;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) throw;
    throw Error(error.kind(), error.what(),
                fmt::format("item {} of task {}", number + 1, task.name));
  }
}

// The first largest, as numpy's argmax.
int64_t first_largest(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

// lm_eval/api/metrics.py, mean_stderr.
Estimate mean_of_items(const std::vector<Unit>& units) {
  Estimate estimate = estimate_mean(units);
  if (units.size() < 2) return estimate;
  double squares = 0;
  for (const Unit& unit : units)
    squares += (unit.sum - estimate.value) * (unit.sum - estimate.value);
  const auto n = static_cast<double>(units.size());
  estimate.standard_error = std::sqrt(squares / (n - 1) / n);
  return estimate;
}

std::vector<Unit> right_answers(const TaskData& data, const std::vector<int64_t>& chosen) {
  std::vector<Unit> units;
  for (size_t i = 0; i < chosen.size(); ++i)
    units.push_back({chosen[i] == data.items[i].gold ? 1.0 : 0.0, 1});
  return units;
}

}  // namespace

EncodedRequest encode_request(const Tokenizer& tokenizer, const TaskRequest& request) {
  const std::string_view context = strip_right(request.context);
  if (context.empty()) {
    // The whole is the continuation; it is not asked for a token that it begins with.
    const int32_t prefix = prefix_of(tokenizer);
    std::vector<int32_t> whole = tokenizer.encode(request.context + request.continuation, false);
    if (whole.empty() || whole.front() != prefix) return {{prefix}, std::move(whole)};
    return {{prefix}, {whole.begin() + 1, whole.end()}};
  }
  const std::string whole_text = request.context + request.continuation;
  // No second BOS for a text that spells one.
  const auto special = [&](std::string_view text) {
    const auto bos = tokenizer.bos_id();
    return !bos || !text.starts_with(tokenizer.token_of(*bos));
  };
  EncodedRequest encoded;
  encoded.context = tokenizer.encode(context, special(context));
  const std::vector<int32_t> whole = tokenizer.encode(whole_text, special(whole_text));
  const auto split = static_cast<std::ptrdiff_t>(std::min(encoded.context.size(), whole.size()));
  encoded.continuation.assign(whole.begin() + split, whole.end());
  return encoded;
}

TaskResult measure_task(const Model& model, const Tokenizer& tokenizer, const TaskData& data,
                        const Context& context, WorkJournal* journal) {
  RequestReader reader(model, tokenizer, context.stop);
  const int64_t finished = journal != nullptr ? std::ssize(journal->finished()) : 0;
  std::vector<std::vector<double>> answers;
  context.progress->begin("task " + data.task->name, std::ssize(data.items));
  int64_t right = 0;
  for (int64_t i = 0; i < std::ssize(data.items); ++i) {
    context.stop.check();
    const TaskItem& item = data.items[i];
    if (i % kStretch == 0) reader.forget();
    const bool known = i < finished / kStretch * kStretch;
    answers.push_back(known ? journal->finished()[i] : answer_of(reader, *data.task, item, i));
    const std::vector<double>& answer = answers.back();
    if (i >= finished && journal != nullptr) journal->add(answer);
    right += data.task->last_word ? answer.at(1) != 0 : first_largest(answer) == item.gold;
    context.progress->advance(1, fmt::format("{:.1f} % so far", 100.0 * static_cast<double>(right) /
                                                                    static_cast<double>(i + 1)));
  }
  context.progress->end();
  return score_answers(data, std::move(answers));
}

TaskResult score_answers(const TaskData& data, std::vector<std::vector<double>> answers) {
  if (answers.size() != data.items.size())
    throw Error(ErrorKind::usage, "not the answers of this task");
  TaskResult r;
  r.name = data.task->name;
  r.version = data.task->version;
  r.file = data.options.file.string();
  r.shots = data.options.shots;
  r.seed = data.options.seed;
  r.items = std::ssize(data.items);
  r.original = data.original;
  r.hash = data.hash;
  std::vector<Unit> logs;
  for (size_t i = 0; i < answers.size(); ++i) {
    const std::vector<double>& answer = answers[i];
    if (answer.size() != (data.task->last_word ? 2 : data.items[i].requests.size()))
      throw Error(ErrorKind::usage, "not the answers of this task");
    if (data.task->last_word) {
      r.chosen.push_back(answer[1] != 0 ? 0 : 1);
      logs.push_back({-answer[0], 1});
      continue;
    }
    r.chosen.push_back(first_largest(answer));
    std::vector<double> per_character;
    for (size_t c = 0; c < answer.size(); ++c)
      per_character.push_back(answer[c] / static_cast<double>(data.items[i].lengths[c]));
    r.chosen_norm.push_back(first_largest(per_character));
  }
  r.answers = std::move(answers);
  r.accuracy = mean_of_items(right_answers(data, r.chosen));
  if (data.task->normalized) r.normalized = mean_of_items(right_answers(data, r.chosen_norm));
  if (data.task->last_word) r.perplexity = exp_of(estimate_mean(logs));
  return r;
}

TaskFlips count_flips(const TaskData& data, const TaskResult& result, const TaskResult& baseline) {
  if (result.hash != baseline.hash || result.items != baseline.items)
    throw Error(ErrorKind::usage, "artifact and baseline did not answer the same items");
  TaskFlips flips;
  const std::vector<Unit> here = right_answers(data, result.chosen),
                          there = right_answers(data, baseline.chosen);
  for (size_t i = 0; i < here.size(); ++i) {
    flips.to_wrong += here[i].sum < there[i].sum;
    flips.to_right += here[i].sum > there[i].sum;
    flips.changed += result.chosen[i] != baseline.chosen[i];
  }
  flips.difference = mean_of_items(differences(here, there));
  return flips;
}

}  // namespace qwb
