#include "lib/serve/compare/compare_request.h"

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/serve/api/api_error.h"
#include "lib/serve/api/fields.h"

namespace qwb::serve {
namespace {

// Of the comparison, not of a column.
constexpr std::array<std::string_view, 7> kOwnFields = {"columns", "models", "base",      "mode",
                                                        "first",   "along",  "self_check"};
// Of the OpenAI routes, for a column or for all.
constexpr std::array<std::string_view, 20> kAnswerFields = {"messages",
                                                            "prompt",
                                                            "tools",
                                                            "stop",
                                                            "seed",
                                                            "chat_template_kwargs",
                                                            "temperature",
                                                            "top_p",
                                                            "top_k",
                                                            "min_p",
                                                            "n_predict",
                                                            "max_completion_tokens",
                                                            "max_tokens",
                                                            "repeat_penalty",
                                                            "repetition_penalty",
                                                            "ignore_eos",
                                                            "cache_prompt",
                                                            "frequency_penalty",
                                                            "return_tokens",
                                                            "presence_penalty"};

bool has(const auto& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Those that every comparison decides on itself: only their one sense is taken.
bool is_decided(const Fields& fields, const std::string& name) {
  if (name == "n") {
    if (fields.integer(name, 1, kMostAnswers).value_or(1) != 1)
      fields.refuse(name, "a column holds one answer");
    return true;
  }
  if (name == "stream") {
    if (!fields.boolean(name).value_or(true)) fields.refuse(name, "a comparison is a stream");
    return true;
  }
  return false;
}

// The fields of the answers in `object`, of the whole request or of a column. Others are refused
// unless `taken` says that they are its own; null counts as absent.
Json answer_fields(const Json& object, const std::string& prefix,
                   const std::function<bool(const std::string&)>& taken) {
  const Fields fields(object, prefix);
  Json found = Json::object();
  for (const auto& [key, value] : object.items()) {
    if (value.is_null() || taken(key) || is_decided(fields, key)) continue;
    if (!has(kAnswerFields, key)) fields.refuse(key, "is no field of a comparison");
    found[key] = value;
  }
  return found;
}

// One object for each column, with its model.
std::vector<Json> column_objects(const Json& request, const Service& service) {
  const Fields fields(request);
  const Json *columns = fields.find("columns"), *models = fields.find("models");
  std::vector<Json> objects;
  if (columns != nullptr) {
    if (models != nullptr) fields.refuse("models", "stands in columns already");
    const bool sound =
        columns->is_array() &&
        std::all_of(columns->begin(), columns->end(), [](const Json& c) { return c.is_object(); });
    if (!sound) fields.refuse("columns", "must be a list of objects");
    objects.assign(columns->begin(), columns->end());
  } else if (models != nullptr) {
    const bool sound =
        models->is_array() &&
        std::all_of(models->begin(), models->end(), [](const Json& m) { return m.is_string(); });
    if (!sound) fields.refuse("models", "must be a list of names");
    for (const Json& name : *models) objects.push_back({{"model", name}});
  } else {
    for (const ServedModel& model : service.models()) objects.push_back({{"model", model.name}});
  }
  const std::string field = columns != nullptr ? "columns" : "models";
  if (objects.empty() || objects.size() > kMostColumns)
    fields.refuse(field, "there may be 1 to 16 columns");
  return objects;
}

}  // namespace

Json column_body(const CompareRequest& request, const ColumnRequest& column) {
  Json body = request.shared;
  for (const auto& [key, value] : column.own.items()) body[key] = value;
  body["model"] = column.model->name;
  return body;
}

CompareRequest read_compare_request(const Json& request, const Service& service) {
  const Fields fields(request);
  CompareRequest r;
  r.shared = answer_fields(request, {}, [](const auto& key) { return has(kOwnFields, key); });
  size_t chats = 0;
  for (const Json& object : column_objects(request, service)) {
    ColumnRequest column;
    column.model = &service.model(requested_model(object));
    column.own = answer_fields(object, "columns.", [](const auto& key) { return key == "model"; });
    const auto given = [&](const char* field) {
      return r.shared.contains(field) || column.own.contains(field);
    };
    if (given("messages") && given("prompt")) fields.refuse("prompt", "stands beside messages");
    chats += given("messages") ? 1 : 0;
    r.columns.push_back(std::move(column));
  }
  r.chat = chats > 0;
  if (chats != 0 && chats != r.columns.size())
    fields.refuse("messages", "is missing in some of the columns");
  const std::string base = fields.text("base").value_or(service.base().name);
  const auto found = std::find_if(r.columns.begin(), r.columns.end(),
                                  [&](const ColumnRequest& c) { return c.model->name == base; });
  static_cast<void>(service.model(base));  // 404 for a name that nobody has
  r.compared = found != r.columns.end();
  r.base = r.compared ? static_cast<size_t>(found - r.columns.begin()) : 0;
  const std::string mode = fields.text("mode").value_or("in_turns");
  if (mode != "in_turns" && mode != "at_once") fields.refuse("mode", "must be in_turns or at_once");
  r.at_once = mode == "at_once";
  r.first =
      static_cast<size_t>(fields.integer("first", 0, INT32_MAX).value_or(0)) % r.columns.size();
  r.along = fields.boolean("along").value_or(true);
  r.self_check = fields.boolean("self_check").value_or(true);
  return r;
}

}  // namespace qwb::serve
