#include "tools/serve/models.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>

#include "cache/store.h"
#include "lib/adapt/use.h"
#include "lib/base/error.h"
#include "lib/base/memory.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/sources.h"
#include "lib/model/int8_forward.h"
#include "lib/serve/api/memory_plan.h"

namespace qwb {

using serve::ServedModel;

namespace {

// "NAME=MODEL"; a name alone is that of the folder, or of the file without its ending.
struct NamedModel {
  std::string name, place;
};

NamedModel named_model(const std::string& text) {
  const size_t equals = text.find('=');
  NamedModel model{equals == std::string::npos ? "" : text.substr(0, equals),
                   equals == std::string::npos ? text : text.substr(equals + 1)};
  if (model.place.empty() || equals == 0)
    throw Error(ErrorKind::usage, "'" + text + "' is no NAME=MODEL");
  return model;
}

std::string own_name(const Path& place) {
  const Path path = std::filesystem::weakly_canonical(place);
  return std::filesystem::is_directory(path) ? path.filename().string() : path.stem().string();
}

// By what its kept results are found; empty where nothing tells this model from others.
std::string hash_for_results(const ServedModel& model, const ServeOptions& o, Tool& tool) {
  if (!o.service.page || tool.dry_run()) return {};
  try {
    return model.loaded.open.content_hash(default_memo_folder(), tool.context());
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) throw;
    return {};
  }
}

// Those of the model that is called so.
std::vector<AdapterUse> adapters_of(const std::string& name, const ServeOptions& o) {
  std::vector<AdapterUse> uses;
  for (const std::string& text : o.adapters) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos) {
      uses.push_back(parse_adapter_use(text));
    } else if (text.substr(0, equals) == name) {
      uses.push_back(parse_adapter_use(text.substr(equals + 1)));
    }
  }
  return uses;
}

// Every adapter must have found its model.
void check_adapter_names(const std::vector<ServedModel>& models, const ServeOptions& o) {
  for (const std::string& text : o.adapters) {
    const std::string name = text.substr(0, text.find('='));
    const bool known = name.size() == text.size() ||
                       std::ranges::any_of(models, [&](const auto& m) { return m.name == name; });
    if (!known) throw Error(ErrorKind::usage, "--adapter " + text + ": no model is called " + name);
  }
}

ServedModel open_served(const NamedModel& wanted, const ServeOptions& o, Tool& tool) {
  const Context& context = tool.context();
  const ChosenArtifact chosen = wanted.place.empty()
                                    ? choose_artifact(context)
                                    : ChosenArtifact{model_folder(wanted.place, context), nullptr};
  require_model_folder(chosen.folder);
  require_undamaged_if_summed(chosen.folder, context.stop);
  const Int8Forward forward = chosen_int8_forward(o.int8);
  std::string name = wanted.name;
  if (name.empty())
    name = std::filesystem::exists(wanted.place) || wanted.place.empty() ? own_name(chosen.folder)
                                                                         : wanted.place;
  LoadedModel loaded = load_model(chosen.folder,
                                  {.executor = make_executor(forward, context.threads),
                                   .hold = chosen.lease,
                                   .attach = adapters_to_attach(adapters_of(name, o))},
                                  context);
  require_int8_modules(*loaded.model, forward, chosen.folder.string());
  const Json how = int8_forward_json(*loaded.model, forward);
  ServedModel model = serve::served_model(std::move(name), std::move(loaded), o.sampling);
  model.kept.forward = how;
  model.kept.hash = hash_for_results(model, o, tool);
  return model;
}

}  // namespace

std::vector<ServedModel> open_models(const ServeOptions& o, Tool& tool) {
  std::vector<ServedModel> models;
  for (const std::string& text : o.models.empty() ? std::vector<std::string>{""} : o.models) {
    const NamedModel wanted = text.empty() ? NamedModel() : named_model(text);
    models.push_back(open_served(wanted, o, tool));
    const std::string& name = models.back().name;
    for (size_t i = 0; i + 1 < models.size(); ++i) {
      if (models[i].name == name)
        throw Error(ErrorKind::usage, "two models are called " + name, {}, "give NAME=MODEL");
    }
  }
  check_adapter_names(models, o);
  return models;
}

void plan_models(std::vector<ServedModel>& models, ServeOptions& o) {
  std::vector<serve::PlannedModel> planned;
  o.memory.slots = o.service.engine.slots;
  if (o.kv_memory > 0) o.memory.kv_bytes = o.kv_memory;
  o.memory.available = available_memory();
  for (const ServedModel& model : models) {
    planned.push_back({model.name, serve::context_limit(*model.loaded.model),
                       kv_cache_bytes(model.loaded.model->config(), 1)});
    o.memory.available -= model.loaded.model->weight_bytes().mapped;
  }
  const serve::MemoryPlan plan = plan_memory(planned, o.memory);
  o.service.engine.kv_bytes = plan.kv_bytes;
  o.service.engine.keep_prefixes = !o.no_cache_prompt;
  for (size_t i = 0; i < models.size(); ++i) models[i].context = plan.contexts[i];
}

namespace {

int64_t weights_of(const ServedModel& model) {
  const WeightBytes& bytes = model.loaded.model->weight_bytes();
  return bytes.mapped + bytes.copied + bytes.vectors;
}

}  // namespace

int tell_plan(const std::vector<ServedModel>& models, const ServeOptions& o, Tool& tool) {
  Json json = {{"schema", 1},
               {"kv_bytes", o.service.engine.kv_bytes},
               {"slots", o.service.engine.slots},
               {"models", Json::array()}};
  Table table({{"model"},
               {"weights", Table::Align::right},
               {"context", Table::Align::right},
               {"keys and values of a full text", Table::Align::right}});
  int64_t weights = 0;
  for (const ServedModel& model : models) {
    const int64_t full = kv_cache_bytes(model.loaded.model->config(), model.context);
    weights += weights_of(model);
    json["models"].push_back({{"name", model.name},
                              {"weight_bytes", weights_of(model)},
                              {"context", model.context},
                              {"kv_bytes_of_context", full}});
    table.add_row({model.name, human_bytes(weights_of(model)), std::to_string(model.context),
                   human_bytes(full)});
  }
  json["memory_bytes"] = weights + o.service.engine.kv_bytes;
  if (tool.json()) {
    tool.print(json.dump() + "\n");
    return 0;
  }
  tool.print_table(std::move(table));
  tool.print(fmt::format("{} of weights and at most {} of keys and values, for {} texts at once\n",
                         human_bytes(weights), human_bytes(o.service.engine.kv_bytes),
                         o.service.engine.slots));
  return 0;
}

}  // namespace qwb
