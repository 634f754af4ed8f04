#include "lib/serve/api/served_model.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "formats/companions.h"
#include "lib/evaluate/subject.h"
#include "lib/exec/devices.h"
#include "lib/serve/api/api_error.h"

namespace qwb::serve {
namespace {

SamplingSettings default_sampling(const OpenModel& open, const GivenSampling& given) {
  SamplingSettings s;
  s.temperature = 1;
  if (const auto text = companion_text(open, "generation_config.json")) {
    const std::string where = "generation_config.json";
    const Json json = parse_json(*text, where);
    s.temperature = json_number(json, "temperature", where, s.temperature);
    s.top_p = json_number(json, "top_p", where, s.top_p);
    s.min_p = json_number(json, "min_p", where, s.min_p);
    s.top_k = json_int(json, "top_k", where, s.top_k);
    s.repetition_penalty = json_number(json, "repetition_penalty", where, s.repetition_penalty);
  }
  s.temperature = given.temperature.value_or(s.temperature);
  s.top_p = given.top_p.value_or(s.top_p);
  s.min_p = given.min_p.value_or(s.min_p);
  s.top_k = given.top_k.value_or(s.top_k);
  s.repetition_penalty = given.repetition_penalty.value_or(s.repetition_penalty);
  check_sampling(s);
  return s;
}

std::optional<ChatTemplate> template_of(const LoadedModel& loaded) {
  try {
    return loaded.chat_template();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::not_found) return std::nullopt;
    throw;
  }
}

}  // namespace

int64_t context_limit(const Model& model) {
  const int64_t positions = model.config().max_positions, end = model.config().rope.end;
  return end > 0 ? std::min(positions, end) : positions;
}

ServedModel served_model(std::string name, LoadedModel loaded, const GivenSampling& given) {
  ServedModel model;
  model.name = std::move(name);
  Subject subject = describe_subject(std::move(loaded));
  model.method = subject.method;
  model.bits = subject.bits;
  model.bpw = subject.bpw;
  model.bytes = subject.tensor_bytes;
  model.loaded = static_cast<LoadedModel&&>(std::move(subject));
  if (!model.loaded.additions.is_null()) {
    model.method += "+lora";
    model.kept.adapters = additions_key(model.loaded.additions);
  }
  model.kept.arithmetic = arithmetic_of(model.loaded.model->executor());
  model.chat = template_of(model.loaded);
  for (const int64_t token : model.loaded.end_tokens()) {
    if (token >= 0 && token <= INT32_MAX) model.end_tokens.push_back(static_cast<int32_t>(token));
  }
  model.defaults = default_sampling(model.loaded.open, given);
  model.context = context_limit(*model.loaded.model);
  model.created = std::time(nullptr);
  return model;
}

std::string ServedModel::without_place(std::string text) const {
  const std::string place = loaded.open.folder.string();
  for (size_t at = text.find(place); !place.empty() && at != std::string::npos;
       at = text.find(place, at + name.size()))
    text.replace(at, place.size(), name);
  return text;
}

std::string ServedModel::rendered(const CompletionRequest& request) const {
  if (!chat)
    throw ApiError(400, "the model " + name + " has no chat template: use /v1/completions",
                   "messages", "no_chat_template");
  if (!request.tools.is_null() && !chat->mentions("tools"))
    throw ApiError(400, "the chat template of " + name + " takes no tools", "tools",
                   "unsupported_value");
  try {
    return chat->render(
        request.messages,
        {.tools = request.tools, .variables = request.variables, .now = {}, .join_parts = true});
  } catch (const Error& error) {
    throw ApiError(400, without_place(error.what()), "messages", "template_error");
  }
}

}  // namespace qwb::serve
