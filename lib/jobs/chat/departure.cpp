#include "lib/jobs/chat/departure.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "lib/report/clean_text.h"

namespace qwb {
namespace {

// Two candidates whose probabilities are within this share of each other: rounding of any kind
// could have turned them round.
constexpr double kNearlyEven = 0.1;

std::vector<int32_t> with_end(const Answer& answer) {
  std::vector<int32_t> tokens = answer.tokens;
  if (answer.end_token) tokens.push_back(*answer.end_token);
  return tokens;
}

std::string reason_against(const ChatModel& base, const Answer& base_answer, const ChatModel& other,
                           const Answer& other_answer, const ChatSettings& settings) {
  if (base.tokenizer().content_hash() != other.tokenizer().content_hash())
    return "the tokenizers differ";
  if (settings.sampling.temperature > 0)
    return "the answers are drawn at random; departures are those of greedy ones";
  if (base_answer.prompt != other_answer.prompt)
    return "the conversations before this answer differ";
  return {};
}

std::string token_text(const ChatModel& model, const Answer& answer, int64_t index, int32_t token) {
  if (index == std::ssize(answer.tokens)) return "<end>";
  const std::string text = model.tokenizer().decode(std::vector<int32_t>{token}, false);
  // Tokens that begin a word may lose their blank when they stand alone.
  return text.empty() ? model.tokenizer().token_of(token) : text;
}

bool nearly_even(const Departure& d) {
  const double larger = std::max(d.base_probability, d.other_probability);
  return larger - std::min(d.base_probability, d.other_probability) <= kNearlyEven * larger;
}

}  // namespace

Comparison compare_answers(ChatModel& base, const Answer& base_answer, const ChatModel& other,
                           const Answer& other_answer, const ChatSettings& settings,
                           const StopToken& stop) {
  Comparison result;
  result.reason = reason_against(base, base_answer, other, other_answer, settings);
  if (!result.reason.empty()) return result;
  const std::vector<int32_t> a = with_end(base_answer), b = with_end(other_answer);
  const auto [left, right] = std::ranges::mismatch(a, b);
  result.equal = left - a.begin();
  if (left == a.end() || right == b.end()) return result;
  const std::vector<double> probabilities = base.probabilities_at(base_answer, result.equal, stop);
  const auto probability = [&](int32_t token) {
    return probabilities.at(static_cast<size_t>(token));
  };
  result.departure = Departure{.index = result.equal,
                               .base_token = *left,
                               .other_token = *right,
                               .base_text = token_text(base, base_answer, result.equal, *left),
                               .other_text = token_text(other, other_answer, result.equal, *right),
                               .base_probability = probability(*left),
                               .other_probability = probability(*right)};
  return result;
}

std::string comparison_text(const Comparison& comparison, const std::string& base_name) {
  if (!comparison.reason.empty())
    return "departure from " + base_name + ": n/a, " + comparison.reason;
  if (!comparison.departure)
    return fmt::format("no departure from {} in {} tokens", base_name, comparison.equal);
  const Departure& d = *comparison.departure;
  const auto shown = [](const std::string& text) { return "'" + report::clean_text(text) + "'"; };
  return fmt::format("departs from {} at token {}: {} {:.1f} % became {} {:.1f} %{}", base_name,
                     d.index + 1, shown(d.base_text), 100 * d.base_probability, shown(d.other_text),
                     100 * d.other_probability, nearly_even(d) ? " (nearly even)" : "");
}

Json comparison_json(const Comparison& comparison, const std::string& base_name) {
  Json json = {{"base", base_name}};
  if (!comparison.reason.empty()) {
    json["departure"] = nullptr;
    json["reason"] = comparison.reason;
    return json;
  }
  json["equal_tokens"] = comparison.equal;
  if (!comparison.departure) {
    json["departure"] = nullptr;
    return json;
  }
  const Departure& d = *comparison.departure;
  json["departure"] = {
      {"index", d.index},
      {"base",
       {{"token", d.base_token}, {"text", d.base_text}, {"probability", d.base_probability}}},
      {"other",
       {{"token", d.other_token}, {"text", d.other_text}, {"probability", d.other_probability}}},
      {"nearly_even", nearly_even(d)}};
  return json;
}

}  // namespace qwb
