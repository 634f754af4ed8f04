// qwb-inspect: what is in a checkpoint or an artifact.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/store.h"
#include "formats/qwb/artifact.h"
#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/exec/devices.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/describe.h"
#include "lib/jobs/describe_adapter.h"
#include "lib/jobs/preview.h"
#include "lib/jobs/sources.h"
#include "tools/common/model_flags.h"
#include "tools/common/tool.h"

namespace qwb {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  qwb-inspect                                       the newest artifact in the cache\n"
    "  qwb-inspect MODEL ARTIFACT --modules              two folders, with their modules\n"
    "  qwb-inspect ARTIFACT --module model.layers.0.mlp.up_proj\n"
    "  qwb-inspect ARTIFACT --verify                     is every byte what it was (exit 4 if "
    "not)\n"
    "  qwb-inspect Qwen/Qwen3-8B                         a model of the Hub that is not here: is "
    "it "
    "supported,\n"
    "                                                    its sizes by method; only config.json is "
    "fetched\n"
    "  qwb-inspect --devices                             the GPUs that --device cuda can take\n"
    "  qwb-inspect ARTIFACT --all --json | jq '.modules[] | select(.output_error > 0.01) | .name'";

struct Options {
  std::vector<std::string> folders;
  bool modules = false, tensors = false, all = false, verify = false, no_hash = false,
       devices = false;
  std::string module;
};

void add_options(CLI::App& app, Options& o) {
  add_models(app, o.folders, "FOLDER",
             "Models, artifacts or LoRA adapters: folders, or names on the Hub (default: the "
             "newest artifact in "
             "the cache, else "
             "the model of QWB_MODEL, else the demo)");
  app.add_flag(
      "--modules", o.modules,
      "List the modules: shape, codec, method, bits, bits per weight, errors, damping, time");
  app.add_flag("--tensors", o.tensors, "List the stored tensors: type, shape, bytes, file");
  app.add_flag("--all", o.all, "--modules and --tensors");
  app.add_option("--module", o.module, "Show one module or tensor, with statistics of its values")
      ->type_name("NAME");
  app.add_flag("--verify", o.verify,
               "Compare every file of an artifact with qwb.sums; exit 4 if one differs");
  app.add_flag("--devices", o.devices,
               "List the GPUs of this machine instead: memory, driver, what this build is for");
  app.add_flag("--no-hash", o.no_hash,
               "Leave out the content hash, for which every byte is read once");
}

// Throws verification, naming the files, if an artifact's bytes are not what they were.
void verify(const Path& folder, const StopToken& stop) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder / "qwb.json", ignored) &&
      !std::filesystem::exists(folder / "qwb.sums", ignored)) {
    throw Error(ErrorKind::usage, "only artifacts can be verified: this folder has no qwb.sums",
                folder.string());
  }
  require_undamaged(folder, stop);
}

std::string plain(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// "a 1, b 2" of the object's leaves.
std::string list(const Json& object) {
  std::string text;
  for (const auto& [name, value] : object.items()) {
    if (!value.is_null()) text += (text.empty() ? "" : ", ") + name + " " + plain(value);
  }
  return text;
}

std::string with_exact(int64_t value, const std::string& rounded) {
  return fmt::format("{} ({})", rounded, value);
}

void print_fields(const std::vector<std::pair<std::string, std::string>>& fields, Tool& tool) {
  size_t width = 0;
  for (const auto& [name, value] : fields) width = std::max(width, value.empty() ? 0 : name.size());
  for (const auto& [name, value] : fields) {
    if (!value.empty()) tool.print(fmt::format("  {:<{}}  {}\n", name, width, value));
  }
}

void print_summary(const Json& r, Tool& tool) {
  const auto text = [&](const char* name) {
    return json_has(r, name) ? plain(r.at(name)) : std::string();
  };
  const int64_t parameters = r.at("parameters").get<int64_t>();
  const int64_t bytes = r.at("bytes").get<int64_t>();
  tool.print(text("path") + "\n");
  std::vector<std::pair<std::string, std::string>> fields = {
      {"format", text("format")}, {"architecture", text("architecture")}};
  if (r.at("sizes").is_null()) fields.back().second += " (cannot be run by this build)";
  for (const auto& [name, value] : r.at("sizes").items()) fields.emplace_back(name, plain(value));
  fields.emplace_back("parameters",
                      with_exact(parameters, human_number(static_cast<double>(parameters))));
  fields.emplace_back("bytes", with_exact(bytes, human_bytes(bytes)) + ", files " +
                                   human_bytes(r.at("file_bytes").get<int64_t>()));
  fields.emplace_back("bpw", fmt::format("{:.4g}", r.at("bpw").get<double>()));
  fields.emplace_back("hash", text("hash"));
  const bool mixed = r.contains("methods") && r.at("methods").size() > 1;
  fields.emplace_back(
      "method", text("method") + (mixed ? ": modules by method " + list(r.at("methods")) : ""));
  fields.emplace_back("bits", text("bits"));
  for (const char* name : {"settings", "source", "calibration"}) {
    if (json_has(r, name))
      fields.emplace_back(mixed && name == std::string("settings") ? "settings of most" : name,
                          r.at(name).is_object() ? list(r.at(name)) : plain(r.at(name)));
  }
  if (r.contains("method") && !json_has(r, "calibration"))
    fields.emplace_back("calibration", "none");
  fields.emplace_back("made by", json_has(r, "qwb_version")
                                     ? "qwb " + text("qwb_version") + ", isa " + text("isa")
                                     : "");
  if (r.contains("kept") && !r.at("kept").empty())
    fields.emplace_back("kept", fmt::format("{} modules as they were", r.at("kept").size()));
  if (json_has(r, "verified")) fields.emplace_back("verified", "every file matches qwb.sums");
  print_fields(fields, tool);
}

std::string figure(const Json& module, const char* name) {
  return json_has(module, name) ? fmt::format("{:.3g}", module.at(name).get<double>()) : "-";
}

void print_modules(const Json& modules, Tool& tool) {
  using Align = Table::Align;
  Table table({{"module"},
               {"shape", Align::right, 3},
               {"codec", Align::left, 2},
               {"method", Align::left, 1},
               {"bits", Align::right, 1},
               {"bpw", Align::right, 1},
               {"weight error", Align::right, 2},
               {"rounding error", Align::right, 3},
               {"output error", Align::right, 1},
               {"damping", Align::right, 4},
               {"dead", Align::right, 4},
               {"seconds", Align::right, 4}});
  for (const Json& m : modules) {
    const std::string codec =
        plain(m.at("codec")) + (json_has(m, "dtype") ? " " + plain(m.at("dtype")) : "");
    table.add_row(
        {plain(m.at("name")), fmt::format("{} x {}", plain(m.at("out")), plain(m.at("in"))), codec,
         json_has(m, "method") ? plain(m.at("method")) : "-",
         json_has(m, "bits") ? plain(m.at("bits")) : "-",
         json_has(m, "bpw") ? fmt::format("{:.3f}", m.at("bpw").get<double>()) : "-",
         figure(m, "weight_error"), figure(m, "rounding_error"), figure(m, "output_error"),
         figure(m, "damping"), figure(m, "dead_columns"), figure(m, "seconds")});
  }
  tool.print_table(std::move(table));
}

void print_tensors(const Json& tensors, Tool& tool) {
  using Align = Table::Align;
  Table table({{"tensor"},
               {"type"},
               {"shape", Align::right, 1},
               {"bytes", Align::right, 1},
               {"file", Align::left, 2}});
  for (const Json& t : tensors) {
    table.add_row({plain(t.at("name")), plain(t.at("dtype")),
                   shape_text(t.at("shape").get<Shape>()), plain(t.at("bytes")),
                   plain(t.at("file"))});
  }
  tool.print_table(std::move(table));
}

void print_module(const Json& module, Tool& tool) {
  std::vector<std::pair<std::string, std::string>> fields;
  for (const auto& [name, value] : module.items()) {
    if (name == "values") {
      for (const auto& [figure, number] : value.items())
        fields.emplace_back(figure == "zeros" ? "share of zeros" : figure, plain(number));
    } else if (!value.is_null() && name != "name") {
      fields.emplace_back(name, value.is_object() ? list(value) : plain(value));
    }
  }
  tool.print(plain(module.at("name")) + "\n");
  print_fields(fields, tool);
}

void inspect_adapter(const Path& folder, const Options& o, Tool& tool) {
  if (o.verify || o.tensors || !o.module.empty())
    throw Error(ErrorKind::usage, "of an adapter there are --modules and --json", folder.string());
  const Json r = describe_adapter(folder, o.modules || o.all);
  if (tool.json()) return tool.print(r.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  const auto count = r.at("parameters").get<int64_t>();
  std::vector<std::pair<std::string, std::string>> fields = {
      {"format", "adapter (LoRA), " + plain(r.at("format"))},
      {"base", json_has(r, "base") ? plain(r.at("base")) : ""},
      {"rank", plain(r.at("rank"))},
      {"alpha", plain(r.at("alpha")) + (r.at("rslora").get<bool>() ? ", over sqrt(rank)" : "")},
      {"modules", plain(r.at("adapted"))},
      {"parameters", with_exact(count, human_number(static_cast<double>(count)))},
      {"hash", plain(r.at("hash"))}};
  if (!r.at("replaced").empty()) fields.emplace_back("replaces", plain(r.at("replaced")));
  tool.print(plain(r.at("path")) + "\n");
  print_fields(fields, tool);
  if (!r.contains("modules")) return;
  using Align = Table::Align;
  Table table({{"module"},
               {"shape", Align::right},
               {"rank", Align::right},
               {"scale", Align::right},
               {"norm of what is added", Align::right}});
  for (const Json& m : r.at("modules")) {
    table.add_row({plain(m.at("name")),
                   fmt::format("{} x {}", plain(m.at("out")), plain(m.at("in"))),
                   plain(m.at("rank")), plain(m.at("scale")), figure(m, "delta")});
  }
  tool.print_table(std::move(table));
}

void inspect_one(const Path& folder, const Options& o, Tool& tool) {
  std::error_code ignored;
  const bool exists = std::filesystem::exists(folder, ignored);
  if (o.verify && exists)
    verify(folder, tool.context().stop);  // first: damage must not show as something else
  if (is_adapter_folder(folder)) return inspect_adapter(folder, o, tool);
  require_model_folder(folder);
  const OpenModel open = open_model(folder, tool.context());
  Json record;
  if (o.module.empty()) {
    record = describe_model(
        open, {o.modules || o.all, o.tensors || o.all, !o.no_hash, default_memo_folder()},
        tool.context());
    if (o.verify) record["verified"] = true;
  } else {
    record = {{"schema", 1},
              {"path", folder.string()},
              {"module", describe_module(open, o.module, tool.context())}};
  }
  if (tool.json()) {
    tool.print(record.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    return;
  }
  if (record.contains("module")) return print_module(record.at("module"), tool);
  print_summary(record, tool);
  if (record.contains("modules")) {
    print_modules(record.at("modules"), tool);
    for (const Json& line : record.contains("report") ? record.at("report") : Json::array())
      tool.print(plain(line) + "\n");
  }
  if (record.contains("tensors")) print_tensors(record.at("tensors"), tool);
}

void print_preview(const Json& r, Tool& tool) {
  using Align = Table::Align;
  const auto bytes = [&](const Json& of, const char* name) {
    return human_bytes(of.at(name).get<int64_t>());
  };
  tool.print(plain(r.at("path")) + "\n");
  const bool supported = r.at("supported").get<bool>();
  std::vector<std::pair<std::string, std::string>> fields = {
      {"architecture", plain(r.at("architecture"))},
      {"supported", supported ? "yes" : "no: " + plain(r.at("why"))},
      {"files", bytes(r, "file_bytes") + ", not here: only config.json was read"}};
  if (r.contains("parameters")) {
    for (const auto& [name, value] : r.at("sizes").items()) fields.emplace_back(name, plain(value));
    const auto all = r.at("parameters").get<int64_t>(),
               used = r.at("used_parameters").get<int64_t>();
    fields.emplace_back(
        "parameters",
        human_number(static_cast<double>(all)) +
            (used == all ? "" : ", a token uses " + human_number(static_cast<double>(used))));
    fields.emplace_back("cache", fmt::format("{} for {} tokens", bytes(r, "cache_bytes"),
                                             r.at("context").get<int64_t>()));
  }
  print_fields(fields, tool);
  if (!r.contains("methods")) return;
  Table table({{"method"},
               {"bits", Align::right},
               {"bpw", Align::right},
               {"size", Align::right},
               {"memory to run", Align::right}});
  for (const Json& m : r.at("methods"))
    table.add_row({plain(m.at("name")), plain(m.at("bits")),
                   fmt::format("{:.2f}", m.at("bpw").get<double>()), bytes(m, "bytes"),
                   bytes(m, "memory")});
  tool.print_table(std::move(table));
}

// A model of the Hub whose weights are not here: the exit code, that of "unsupported" for what this
// build does not run. Nothing: it is something else.
std::optional<int> preview_one(const std::string& name, const Options& o, Tool& tool) {
  RemoteModel remote;
  if (o.modules || o.tensors || o.all || o.verify || !o.module.empty() ||
      !find_remote_model(name, tool.context(), remote))
    return std::nullopt;
  const Json record = preview_model(remote);
  if (tool.json()) {
    tool.print(record.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  } else {
    print_preview(record, tool);
  }
  return record.at("supported").get<bool>() ? 0 : static_cast<int>(ErrorKind::unsupported);
}

Json device_json(const Gpu& card) {
  return {{"device", "cuda:" + std::to_string(card.index)},
          {"name", card.name},
          {"uuid", card.uuid},
          {"capability", fmt::format("{}.{}", card.major, card.minor)},
          {"processors", card.processors},
          {"memory", card.memory},
          {"free", card.free},
          {"problem", card.problem.empty() ? Json(nullptr) : Json(card.problem)}};
}

int show_devices(const Options& o, Tool& tool) {
  if (!o.folders.empty())
    throw Error(ErrorKind::usage, "--devices looks at no model", o.folders.front());
  const Gpus all = list_gpus();
  const auto text = [](const std::string& value) {
    return value.empty() ? Json(nullptr) : Json(value);
  };
  if (tool.json()) {
    Json record = {{"schema", 1},
                   {"devices", Json::array()},
                   {"problem", text(all.problem)},
                   {"driver", text(all.driver)},
                   {"runtime", text(all.runtime)},
                   {"built_for", text(all.built_for)}};
    for (const Gpu& card : all.cards) record["devices"].push_back(device_json(card));
    tool.print(record.dump() + "\n");
    return 0;
  }
  if (all.cards.empty()) {
    tool.print("no GPU: " + (all.problem.empty() ? "the machine has none" : all.problem) + "\n");
    if (!all.advice.empty()) tool.print("  " + all.advice + "\n");
  }
  for (const Gpu& card : all.cards) {
    tool.print(fmt::format("cuda:{}\n", card.index));
    print_fields({{"name", card.name},
                  {"uuid", card.uuid},
                  {"capability", fmt::format("{}.{}, {} multiprocessors", card.major, card.minor,
                                             card.processors)},
                  {"memory", human_bytes(card.memory) + ", free " + human_bytes(card.free)},
                  {"problem", card.problem}},
                 tool);
  }
  if (!all.built_for.empty())
    tool.print(fmt::format("built for {} with CUDA {}; the driver knows CUDA {}\n", all.built_for,
                           all.runtime, all.driver.empty() ? "-" : all.driver));
  return 0;
}

// A folder that fails does not keep the others from being shown; the first failure's code is the
// result.
int inspect(const Options& o, Tool& tool) {
  if (o.devices) return show_devices(o, tool);
  std::vector<std::string> folders = o.folders;
  ChosenArtifact chosen;
  if (folders.empty()) {
    chosen = choose_artifact(tool.context());
    folders.push_back(chosen.folder.string());
  }
  int code = 0;
  for (const std::string& folder : folders) {
    try {
      tool.context().stop.check();
      if (const auto preview = preview_one(folder, o, tool)) {
        if (code == 0) code = *preview;
      } else {
        inspect_one(model_folder(folder, tool.context()), o, tool);
      }
    } catch (const Error& error) {
      tool.log_error(error.what());
      if (code == 0 || error.kind() == ErrorKind::interrupted) code = error.exit_code();
      if (error.kind() == ErrorKind::interrupted) break;
    }
  }
  return code;
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {.name = "qwb-inspect",
                              .summary = "Tells what is in checkpoints, artifacts and adapters.",
                              .examples = qwb::kExamples};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::Options>();
    qwb::add_options(app, *options);
    return [options, &tool] { return qwb::inspect(*options, tool); };
  });
}
