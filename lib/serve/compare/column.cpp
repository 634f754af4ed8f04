#include "lib/serve/compare/column.h"

#include <cmath>
#include <utility>

#include "lib/serve/api/answer_json.h"
#include "lib/serve/api/job_request.h"
#include "lib/tokenizer/token_bytes.h"

namespace qwb::serve {
namespace {

Json candidate_json(const Candidate& candidate) {
  if (candidate.probability) return {{"probability", *candidate.probability}, {"below", nullptr}};
  return {{"probability", nullptr}, {"below", candidate.below}};
}

Json chance_json(const Tokenizer& tokenizer, const TokenChance& chance) {
  return {{"token", chance.token},
          {"text", token_bytes(tokenizer, chance.token)},
          {"probability", std::exp(chance.logprob)}};
}

Json position_json(const Tokenizer& tokenizer, const AlongToken& token) {
  Json json = {{"token", token.token},
               {"text", token_bytes(tokenizer, token.token)},
               {"kl", token.kl},
               {"rank", token.rank},
               {"base_probability", token.base_probability},
               {"probability", token.probability},
               {"same_top", token.same_top},
               {"top", Json::array()}};
  for (const TokenChance& chance : token.top) json["top"].push_back(chance_json(tokenizer, chance));
  return json;
}

}  // namespace

std::vector<int32_t> Column::tokens() const {
  std::vector<int32_t> ids;
  for (const ScoredToken& token : made) ids.push_back(token.token);
  return ids;
}

Column read_column(const ServedModel& model, const Json& body, bool chat, uint64_t seed) {
  Column column;
  column.model = &model;
  try {
    column.request =
        chat ? read_chat_request(body, model.defaults) : read_text_request(body, model.defaults);
    if (!chat && column.request.prompts.size() != 1)
      throw ApiError(400, "prompt: a column holds one text", "prompt");
    if (!column.request.seeded && !column.greedy()) column.request.sampling.seed = seed;
    read_tokens(model, column.request);
    column.prompt = std::move(*column.request.prompts.front().tokens);
  } catch (const ApiError& error) {
    column.error = error;
  } catch (const Error& error) {
    column.error = api_error(error);
  }
  // What has become tokens is not kept.
  column.request.prompts.clear();
  column.request.messages = column.request.tools = column.request.variables = nullptr;
  return column;
}

Job column_job(const Column& column, Service& service, const std::string& owner) {
  Job job = job_of(*column.model, column.request, column.prompt, service);
  if (column.greedy()) job.top = kDepartureTop;
  job.owner = owner;
  job.cut = column.cut.token();
  try {
    service.engine().check(column.model->engine(), job);
  } catch (const Error& error) {
    throw ApiError(400, error.what(), "max_tokens");
  }
  return job;
}

Json column_json(const Column& column, size_t index) {
  Json json = {{"column", index}, {"model", column.model->name}};
  json["prompt_tokens"] = column.prompt.size();
  json["prompt"] = column.prompt;
  json["settings"] = settings_json(column.request.sampling);
  return json;
}

Json finish_event(const Column& column, size_t index) {
  const int64_t kv = kv_cache_bytes(column.model->loaded.model->config(),
                                    std::ssize(column.prompt) + std::ssize(column.made));
  return {{"type", "finish"},
          {"column", index},
          {"finish", column.finish},
          {"tokens", column.tokens()},
          {"kv_bytes", kv},
          {"usage", usage_json(column.counts)},
          {"timings", timings_json(column.counts)}};
}

Json departure_event(const Column& base, const Column& column, size_t index,
                     const std::string& reason) {
  Json json = {{"type", "departure"}, {"column", index}, {"reason", nullptr}};
  json["equal_tokens"] = json["departure"] = nullptr;
  if (!reason.empty()) {
    json["reason"] = reason;
    return json;
  }
  json["equal_tokens"] = equal_tokens(base.made, column.made);
  const auto departure = first_departure(base.made, column.made);
  if (!departure) return json;
  const Tokenizer& tokenizer = *base.model->loaded.tokenizer;
  const auto side = [&](int32_t token, const Candidate& by_base, const Candidate& by_column) {
    return Json{{"token", token},
                {"text", token_bytes(tokenizer, token)},
                {"by_base", candidate_json(by_base)},
                {"by_column", candidate_json(by_column)}};
  };
  json["departure"] = {
      {"index", departure->index},
      {"base", side(departure->base_token, departure->base_of_base, departure->base_of_other)},
      {"column", side(departure->other_token, departure->other_of_base, departure->other_of_other)},
      {"nearly_even", departure->nearly_even}};
  return json;
}

Json along_event(const Tokenizer& tokenizer, const std::vector<AlongToken>& tokens, size_t index,
                 const std::string& reason) {
  Json json = {{"type", "along"}, {"column", index}, {"reason", nullptr}};
  if (!reason.empty()) {
    json["reason"] = reason;
    return json;
  }
  int64_t same = 0;
  double kl = 0;
  Json positions = Json::array();
  for (const AlongToken& token : tokens) {
    same += token.same_top ? 1 : 0;
    kl += token.kl;
    positions.push_back(position_json(tokenizer, token));
  }
  const auto count = static_cast<double>(tokens.size());
  json["tokens"] = tokens.size();
  json["same"] = same;
  json["agreement"] = static_cast<double>(same) / count;
  json["mean_kl"] = kl / count;
  json["positions"] = std::move(positions);
  return json;
}

}  // namespace qwb::serve
