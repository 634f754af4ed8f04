#include "tools/chat/answer_report.h"

#include <fmt/format.h>

#include "lib/base/text.h"

namespace qwb {
namespace {

constexpr int kCounterSteps = 50;  // a step more or less is then 2 % (energy.md)

std::string speed_of(int64_t tokens, double seconds) {
  if (tokens <= 0 || seconds <= 0) return "-";
  return human_number(static_cast<double>(tokens) / seconds);
}

Json rate_of(int64_t tokens, double seconds) {
  return tokens > 0 && seconds > 0 ? Json(static_cast<double>(tokens) / seconds) : Json(nullptr);
}

std::string joules_text(double joules, const std::string& method, const std::string& quality) {
  return (quality == "estimated" ? "~" : "") + human_number(joules) + " J (" + method + ")";
}

Json energy_json(const AnswerEnergy& energy, int64_t tokens) {
  if (!energy.figure) return {{"joules", nullptr}, {"reason", energy.reason}};
  const EnergyFigure& figure = *energy.figure;
  Json json = {{"joules", figure.joules}, {"method", figure.method},   {"device", figure.device},
               {"domain", figure.domain}, {"quality", figure.quality}, {"seconds", figure.seconds},
               {"watts", figure.watts}};
  if (!figure.remark.empty()) json["remark"] = figure.remark;
  json["joules_per_token"] =
      tokens > 0 ? Json(figure.joules / static_cast<double>(tokens)) : Json(nullptr);
  return json;
}

}  // namespace

AnswerMeter::AnswerMeter(const EnergyOptions& options, bool estimates) {
  auto meter = std::make_unique<EnergyMeter>(options);
  if (!meter->measures() && !estimates) return;
  least_ = meter->seconds_for_steps(kCounterSteps);
  meter_ = std::move(meter);
}

void AnswerMeter::start() {
  if (meter_) meter_->start();
}

AnswerEnergy AnswerMeter::stop() {
  AnswerEnergy energy;
  if (!meter_) return energy;
  energy.asked = true;
  const EnergyReport report = meter_->stop();
  energy.figure = report.total;
  for (const std::string& reason : report.reasons)
    energy.reason += (energy.reason.empty() ? "" : "; ") + reason;
  if (energy.figure && energy.figure->quality == "measured" && energy.figure->seconds < least_) {
    energy.figure.reset();
    energy.reason = fmt::format("shorter than the {} of {} counter steps", human_duration(least_),
                                kCounterSteps);
  }
  return energy;
}

std::string energy_text(const AnswerEnergy& energy) {
  if (!energy.asked) return {};
  if (!energy.figure) return "energy n/a (" + energy.reason + ")";
  return joules_text(energy.figure->joules, energy.figure->method, energy.figure->quality);
}

std::string stats_text(const Answer& answer, const AnswerEnergy& energy) {
  const int64_t tokens = std::ssize(answer.tokens);
  std::string text =
      fmt::format("{} tokens, {} tokens/s, first after {} ({} prompt tokens, {} kept)", tokens,
                  speed_of(tokens - 1, answer.decode_seconds),
                  human_duration(answer.prefill_seconds), answer.prompt.size(), answer.reused);
  const std::string joules = energy_text(energy);
  return joules.empty() ? text : text + ", " + joules;
}

std::string ending_text(const Answer& answer) {
  switch (answer.finish) {
    case FinishReason::length:
      return "the answer ends here: --max-tokens";
    case FinishReason::context:
      return "the answer ends here: the context is full";
    case FinishReason::cut:
    case FinishReason::eos:
    case FinishReason::stop:
      break;
  }
  return {};
}

Json answer_json(const Answer& answer, const AnswerEnergy& energy) {
  const int64_t tokens = std::ssize(answer.tokens), prompt = std::ssize(answer.prompt);
  Json json = {
      {"content", answer.content},
      {"reasoning", answer.reasoning},
      {"finish", finish_name(answer.finish)},
      {"prompt_tokens", prompt},
      {"reused_tokens", answer.reused},
      {"tokens", tokens},
      {"ids", answer.tokens},
      {"end_token", answer.end_token ? Json(*answer.end_token) : Json(nullptr)},
      {"seed", answer.seed},
      {"prefill_seconds", answer.prefill_seconds},
      {"decode_seconds", answer.decode_seconds},
      {"prefill_tokens_per_second", rate_of(prompt - answer.reused, answer.prefill_seconds)},
      {"decode_tokens_per_second", rate_of(tokens - 1, answer.decode_seconds)}};
  if (answer.finish == FinishReason::stop) json["stop"] = answer.stop;
  if (energy.asked) json["energy"] = energy_json(energy, tokens);
  return json;
}

void ChatTotals::add(const Answer& answer, const AnswerEnergy& energy) {
  ++answers;
  prompt_tokens += std::ssize(answer.prompt);
  reused_tokens += answer.reused;
  tokens += std::ssize(answer.tokens);
  decoded += answer.tokens.empty() ? 0 : std::ssize(answer.tokens) - 1;
  prefill_seconds += answer.prefill_seconds;
  decode_seconds += answer.decode_seconds;
  if (!energy.figure) return;
  joules += energy.figure->joules;
  ++measured;
  method = energy.figure->method;
  quality = energy.figure->quality;
}

std::string ChatTotals::text() const {
  std::string text = fmt::format(
      "{} answers, {} tokens, {} tokens/s; {} prompt tokens, {} of them kept, {} tokens/s", answers,
      tokens, speed_of(decoded, decode_seconds), prompt_tokens, reused_tokens,
      speed_of(prompt_tokens - reused_tokens, prefill_seconds));
  if (measured > 0)
    text += fmt::format("; {} in {} answers", joules_text(joules, method, quality), measured);
  return text;
}

}  // namespace qwb
