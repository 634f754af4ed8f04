#include "lib/serve/compare/compare_request.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "lib/serve/api/api_error.h"
#include "lib/serve/api/fields.h"

namespace qwb::serve {
namespace {

// Fields of the comparison, and those of the OpenAI routes that it sets itself.
constexpr std::array<std::string_view, 13> kOwnFields = {
    "columns", "models",         "base",     "mode",         "first", "along", "self_check",
    "stream",  "stream_options", "logprobs", "top_logprobs", "echo",  "n"};

Json shared_body(const Json& request) {
  Json body = Json::object();
  for (const auto& [key, value] : request.items()) {
    if (std::find(kOwnFields.begin(), kOwnFields.end(), key) == kOwnFields.end()) body[key] = value;
  }
  return body;
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

void refuse_several_answers(const Fields& fields) {
  if (fields.integer("n", 1, kMostAnswers).value_or(1) != 1)
    fields.refuse("n", "a column holds one answer");
  if (fields.boolean("echo").value_or(false)) fields.refuse("echo", "is not implemented here");
}

}  // namespace

CompareRequest read_compare_request(const Json& request, const Service& service) {
  const Fields fields(request);
  refuse_several_answers(fields);
  CompareRequest r;
  const Json shared = shared_body(request);
  size_t chats = 0;
  for (const Json& object : column_objects(request, service)) {
    ColumnRequest column;
    column.model = &service.model(requested_model(object));
    column.body = shared;
    const Json own = shared_body(object);
    for (const auto& [key, value] : own.items()) column.body[key] = value;
    column.body["model"] = column.model->name;
    if (column.body.contains("messages") && column.body.contains("prompt"))
      fields.refuse("prompt", "stands beside messages");
    chats += column.body.contains("messages") ? 1 : 0;
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
