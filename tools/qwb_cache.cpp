// qwb-cache: what is in the cache, why something is not, and making room. A thin main over cache/.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cache/store.h"
#include "formats/qwb/artifact.h"
#include "lib/base/error.h"
#include "lib/base/text.h"
#include "tools/common/quantities.h"
#include "tools/common/quantize_flags.h"
#include "tools/common/tool.h"
#include "tools/manual/declaration.h"

namespace qwb {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  qwb-cache ls                                      what is there\n"
    "  qwb-eval $(qwb-cache path newest)                 use it\n"
    "  qwb-cache why --method gptq --bits 3              why a request is not answered from the "
    "cache\n"
    "  qwb-cache verify                                  read every byte (exit 4 if one is wrong)\n"
    "  qwb-cache gc --max-bytes 10GB --max-age 30d       make room\n"
    "The cache is $QWB_CACHE, else $XDG_CACHE_HOME/qwb, else ~/.cache/qwb.";

struct Options {
  std::vector<std::string> prefixes;
  std::string max_bytes, max_age;
  std::unique_ptr<QuantizeFlags> wanted;
};

constexpr size_t kShort = 10;

void print_json(Tool& tool, const Json& json) {
  tool.print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

// The one key that begins with `prefix`. "newest" is the newest object.
std::string resolve(const Store& store, const std::string& prefix) {
  const std::string where = store.root().string();
  if (prefix == "newest") {
    const auto entry = store.newest();
    if (entry) return entry->hex;
    throw Error(ErrorKind::not_found, "the cache is empty", where, "qwb-quantize makes artifacts");
  }
  std::vector<std::string> found;
  for (const std::string& hex : store.all_hex()) {
    if (!prefix.empty() && hex.rfind(prefix, 0) == 0) found.push_back(hex);
  }
  if (found.size() == 1) return found.front();
  if (found.empty()) {
    throw Error(ErrorKind::not_found, "no object's key begins with '" + prefix + "'", where,
                "qwb-cache ls lists the keys");
  }
  std::string candidates;
  for (size_t i = 0; i < std::min<size_t>(found.size(), 4); ++i)
    candidates += (i == 0 ? "" : ", ") + found[i];
  if (found.size() > 4) candidates += ", ...";
  throw Error(ErrorKind::not_found,
              fmt::format("{} objects' keys begin with '{}'", found.size(), prefix), where,
              "give more digits: " + candidates);
}

// The object of that key if it is there and undamaged. (A damaged one is a miss and is removed.)
CacheObject usable(const Store& store, const std::string& hex) {
  for (const CacheEntry& entry : store.list()) {
    if (entry.hex != hex) continue;
    if (const auto object = store.find(Key{entry.fields})) return *object;
  }
  throw Error(ErrorKind::not_found, "the object is damaged", hex,
              "make it again with qwb-quantize");
}

struct Description {
  std::string method, model, bits = "-";
  Json json;
};

Description describe(const CacheEntry& entry) {
  Description result;
  Json manifest = Json::object();
  try {
    const Path file = entry.data / "qwb.json";
    manifest = parse_json(read_text(file), file.string());
  } catch (const Error&) {  // removed or damaged meanwhile: the rest of the row is still right
  }
  result.method = json_has(manifest, "modules")
                      ? artifact_method(manifest)
                      : json_string(entry.fields, "method", entry.hex, "?");
  result.model = json_has(manifest, "source")
                     ? json_string(manifest.at("source"), "name", entry.hex, "-")
                     : "-";
  Json bits = nullptr;
  if (json_has(manifest, "bits")) bits = manifest.at("bits");
  if (bits.is_number()) result.bits = fmt::format("{:.4g}", bits.get<double>());
  result.json = {{"schema", 1},
                 {"key", entry.hex},
                 {"method", result.method},
                 {"bits", bits},
                 {"model", result.model},
                 {"bytes", entry.bytes},
                 {"created", entry.created},
                 {"last_used", entry.last_used},
                 {"note", entry.note},
                 {"path", entry.data.string()}};
  return result;
}

int list(const Store& store, Tool& tool) {
  using Align = Table::Align;
  Table table({{"key"},
               {"method"},
               {"bits", Align::right, 1},
               {"model", Align::left, 2},
               {"bytes", Align::right, 1},
               {"created", Align::left, 3},
               {"last used", Align::left, 4}});
  const auto entries = store.list();
  int64_t bytes = 0;
  for (const CacheEntry& entry : entries) {
    const Description description = describe(entry);
    bytes += entry.bytes;
    if (tool.json()) print_json(tool, description.json);
    table.add_row({entry.hex.substr(0, kShort), description.method, description.bits,
                   description.model, human_bytes(entry.bytes), local_time(entry.created),
                   local_time(entry.last_used)});
  }
  if (!tool.json()) tool.print_table(std::move(table));
  tool.note(fmt::format("{} object{}, {} in {}", entries.size(), entries.size() == 1 ? "" : "s",
                        human_bytes(bytes), store.root().string()));
  const size_t damaged = store.all_hex().size() - std::min(store.all_hex().size(), entries.size());
  if (damaged > 0)
    tool.note(fmt::format("{} more cannot be read: qwb-cache verify names them, gc removes them",
                          damaged));
  return 0;
}

int path(const Store& store, const Options& options, Tool& tool) {
  const CacheObject object = usable(store, resolve(store, options.prefixes.front()));
  if (tool.json()) {
    print_json(tool, {{"schema", 1}, {"key", object.hex}, {"path", object.data.string()}});
  } else {
    tool.print(object.data.string() + "\n");
  }
  return 0;
}

// What a field of the key stands for.
std::string meaning(const std::string& field) {
  if (field == "source") return "content of the checkpoint";
  if (field == "companions") return "tokenizer and other files beside the weights";
  if (field == "calibration") return "tokens of the calibration windows";
  if (field == "calibration_length") return "tokens of a calibration window";
  if (field == "isa") return "instruction set of this machine";
  if (field.find("version") != std::string::npos)
    return "version of the program's algorithm or format";
  if (field.rfind("modules.", 0) == 0) return "what the plan gives this module";
  if (field.rfind("settings.", 0) == 0) return "parameter of the method";
  return field;
}

// What differs in a module: "modules.NAME.settings.bits" gives "module .settings.bits"; empty for
// other fields.
std::string module_part(const std::string& field) {
  if (field.rfind("modules.", 0) != 0) return {};
  for (const char* part : {".settings.", ".method_version", ".method"}) {
    const size_t at = field.rfind(part);
    if (at != std::string::npos) return "module " + field.substr(at);
  }
  return "module";
}

void print_difference(const Nearest& nearest, Tool& tool) {
  Table table({{"field"}, {"stored"}, {"wanted"}, {"meaning"}});
  const auto text = [](const Json& value) {
    return value.is_null()     ? std::string("-")
           : value.is_string() ? value.get<std::string>()
                               : value.dump();
  };
  // Modules that differ in the same way share a row.
  std::vector<std::pair<const KeyDifference*, size_t>> rows;
  std::map<std::vector<std::string>, size_t> known;
  for (const KeyDifference& d : nearest.differences) {
    const std::string kind = module_part(d.field);
    const auto [place, fresh] = known.emplace(
        std::vector{kind.empty() ? d.field : kind, text(d.stored), text(d.wanted)}, rows.size());
    if (fresh) rows.emplace_back(&d, 0);
    ++rows[place->second].second;
  }
  for (const auto& [difference, count] : rows) {
    const std::string more = count > 1 ? fmt::format(" and {} more", count - 1) : "";
    table.add_row({difference->field + more, text(difference->stored), text(difference->wanted),
                   meaning(difference->field)});
  }
  const std::string note = nearest.entry.note.empty() ? "" : " (" + nearest.entry.note + ")";
  tool.print(fmt::format("not cached; the nearest object is {}{} and differs in\n",
                         nearest.entry.hex.substr(0, kShort), note));
  tool.print_table(std::move(table));
}

int why(const Store& store, const Options& options, Tool& tool) {
  const QuantizeJob job(options.wanted->request(tool), tool.context());
  const Key key = job.key(tool.context());
  const auto object = store.find(key);
  const auto nearest = object ? std::nullopt : store.why(key);
  if (tool.json()) {
    Json json = {
        {"schema", 1}, {"cached", object.has_value()}, {"key", key.hex()}, {"fields", key.fields}};
    json["path"] = object ? Json(object->data.string()) : Json(nullptr);
    json["nearest"] = nearest ? Json(nearest->entry.hex) : Json(nullptr);
    json["differences"] = Json::array();
    if (nearest) {
      for (const auto& [field, stored, wanted] : nearest->differences)
        json["differences"].push_back({{"field", field}, {"stored", stored}, {"wanted", wanted}});
    }
    print_json(tool, json);
  } else if (object) {
    tool.print(
        fmt::format("cached as {}: {}\n", object->hex.substr(0, kShort), object->data.string()));
  } else if (!nearest) {
    tool.print("not cached; the cache is empty\n");
  } else {
    print_difference(*nearest, tool);
  }
  return 0;
}

int verify(const Store& store, const Options& options, Tool& tool) {
  std::vector<std::string> keys;
  keys.reserve(options.prefixes.size());
  for (const std::string& prefix : options.prefixes) keys.push_back(resolve(store, prefix));
  if (options.prefixes.empty()) keys = store.all_hex();
  int damaged = 0;
  tool.progress().begin("verifying", static_cast<int64_t>(keys.size()));
  for (const std::string& hex : keys) {
    tool.context().stop.check();
    for (const VerifyReport& report : store.verify(hex)) {
      const bool good = report.problem.empty();
      if (tool.json()) {
        print_json(tool, {{"schema", 1},
                          {"key", hex},
                          {"ok", good},
                          {"problem", good ? Json(nullptr) : Json(report.problem)}});
      } else {
        tool.print(hex + (good ? "  ok" : "  damaged: " + report.problem) + "\n");
      }
      damaged += good ? 0 : 1;
      if (!good) tool.log_error(hex + ": " + report.problem);
    }
    tool.progress().advance(1, hex.substr(0, kShort));
  }
  tool.progress().end();
  if (damaged == 0) return 0;
  tool.note(
      fmt::format("{} of {} objects damaged; nothing will use them, and qwb-cache rm removes them",
                  damaged, keys.size()));
  return static_cast<int>(ErrorKind::verification);
}

void print_removed(const GcReport& report, Tool& tool) {
  const char* verb = tool.dry_run() ? "would remove" : "removed";
  if (tool.json()) {
    print_json(tool, {{"schema", 1},
                      {"dry_run", tool.dry_run()},
                      {"removed", report.removed},
                      {"bytes_removed", report.bytes_removed},
                      {"bytes_kept", report.bytes_kept},
                      {"in_use", report.in_use}});
  } else {
    for (const std::string& hex : report.removed) tool.print(hex + "\n");
  }
  tool.note(fmt::format("{} {} object{}, {}", verb, report.removed.size(),
                        report.removed.size() == 1 ? "" : "s", human_bytes(report.bytes_removed)));
  if (report.in_use > 0) tool.note(fmt::format("{} had to stay: in use", report.in_use));
}

int collect(const Store& store, const Options& options, Tool& tool) {
  const int64_t bytes = options.max_bytes.empty() ? -1 : parse_bytes(options.max_bytes);
  const int64_t age = options.max_age.empty() ? -1 : parse_age(options.max_age);
  if (bytes < 0 && age < 0)
    tool.note("neither --max-bytes nor --max-age given: removing only what is damaged");
  print_removed(store.gc(bytes, age, tool.dry_run()), tool);
  return 0;
}

// All prefixes are looked up before anything is removed.
int remove(const Store& store, const Options& options, Tool& tool) {
  std::set<std::string> keys;
  for (const std::string& prefix : options.prefixes) keys.insert(resolve(store, prefix));
  GcReport total;
  const auto entries = store.list();
  for (const std::string& hex : keys) {
    if (tool.dry_run()) {
      total.removed.push_back(hex);
      for (const CacheEntry& entry : entries)
        total.bytes_removed += entry.hex == hex ? entry.bytes : 0;
      continue;
    }
    const GcReport report = store.remove(hex);
    total.removed.insert(total.removed.end(), report.removed.begin(), report.removed.end());
    total.bytes_removed += report.bytes_removed;
    total.in_use += report.in_use;
  }
  for (const CacheEntry& entry : entries) total.bytes_kept += entry.bytes;
  total.bytes_kept -= total.bytes_removed;
  print_removed(total, tool);
  return total.in_use == 0 ? 0 : static_cast<int>(ErrorKind::failed);
}

using Work = int (*)(const Store&, const Options&, Tool&);

void add_commands(CLI::App& app, const std::shared_ptr<Options>& options,
                  const std::shared_ptr<Work>& chosen) {
  app.require_subcommand(0, 1);
  app.fallthrough();  // common flags may follow the command
  const auto add = [&](const char* name, const char* help, Work work) {
    CLI::App* command = app.add_subcommand(name, help);
    command->callback([chosen, work] { *chosen = work; });
    return command;
  };
  add("ls", "List the objects, newest first",
      [](const Store& s, const Options&, Tool& t) { return list(s, t); });
  const auto prefixes = [&](CLI::App* command, const char* help) {
    CLI::Option* option = command->add_option("PREFIX", options->prefixes, help)->type_name("");
    offer(option, {"newest"});
    return option;
  };
  prefixes(add("path", "Print the folder of one object", path),
           "first digits of the key, or newest")
      ->required()
      ->expected(1);
  CLI::App* reason = add(
      "why",
      "Tell whether a request (the flags of qwb-quantize) is cached, and what differs if not", why);
  options->wanted = std::make_unique<QuantizeFlags>(*reason);
  prefixes(add("verify", "Read every byte; exit 4 if an object is damaged", verify),
           "only these objects");
  CLI::App* gc =
      add("gc", "Remove what is damaged, what was not used for long, then the least recently used",
          collect);
  gc->add_option("--max-bytes", options->max_bytes, "keep at most this much (10GB, 500MiB)")
      ->type_name("SIZE");
  gc->add_option("--max-age", options->max_age, "keep what was used within this time (12h, 30d)")
      ->type_name("AGE");
  prefixes(add("rm", "Remove objects", remove), "first digits of the keys")->required();
}

std::string command_names(const CLI::App& app) {
  std::string names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names += (names.empty() ? "" : ", ") + command->get_name();
  return names;
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {.name = "qwb-cache",
                              .summary = "Look into the cache of artifacts and keep it in order.",
                              .examples = qwb::kExamples,
                              .has_dry_run = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::Options>();
    auto work = std::make_shared<qwb::Work>(nullptr);
    qwb::add_commands(app, options, work);
    return [options, work, &app, &tool] {
      if (*work == nullptr)
        throw qwb::Error(qwb::ErrorKind::usage, "no command given", {},
                         "commands: " + qwb::command_names(app));
      return (*work)(qwb::Store({.context = tool.context()}), *options, tool);
    };
  });
}
