// qwb-serve: models and artifacts behind OpenAI's HTTP API, and side by side on a page.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/jobs/result_cache.h"
#include "lib/serve/api/answer_meter.h"
#include "lib/serve/api/service.h"
#include "lib/serve/http/log_line.h"
#include "lib/serve/http/server.h"
#include "tools/common/meter_flags.h"
#include "tools/common/tool.h"
#include "tools/serve/models.h"
#include "tools/serve/options.h"

namespace qwb {
namespace {

using serve::ServedModel;

constexpr const char* kExamples =
    "Examples:\n"
    "  qwb-serve                                  the newest artifact in the cache, on "
    "http://127.0.0.1:8080\n"
    "  qwb-serve full=MODEL nf4=ARTIFACT --port 9000      both side by side on the page\n"
    "  qwb-serve MODEL --host 0.0.0.0 --api-key-file keys.txt --allow-host gpu.example.org\n"
    "  curl -s localhost:8080/v1/completions -H 'Content-Type: application/json' \\\n"
    "    -d '{\"prompt\": \"Once upon a time\", \"max_tokens\": 12}'\n"
    "The same request gives the same answer, whatever else runs beside it.";

void tell_ready(const std::vector<ServedModel>& models, const serve::Server& server,
                const ServeOptions& o, Tool& tool) {
  const bool six = o.server.address.find(':') != std::string::npos;
  const std::string url = fmt::format(
      "http://{}:{}", six ? "[" + o.server.address + "]" : o.server.address, server.port());
  Json names = Json::array();
  std::string list;
  for (const ServedModel& model : models) {
    names.push_back(model.name);
    list += fmt::format("{}{} (context {})", list.empty() ? "" : ", ", model.name, model.context);
  }
  if (tool.json())
    tool.print(
        Json({{"schema", 1}, {"url", url}, {"port", server.port()}, {"models", names}}).dump() +
        "\n");
  tool.note(fmt::format("ready on {}: {}; {} at once, {} of keys and values{}", url, list,
                        o.service.engine.slots, human_bytes(o.service.engine.kv_bytes),
                        o.service.page ? "; the page is at " + url + "/" : ""));
}

// What the page tells beside the answers: joules, and results of earlier evaluations.
void prepare_comparisons(ServeOptions& o, Tool& tool) {
  const Context& context = tool.context();
  if (o.service.page) o.service.results = std::make_shared<const ResultCache>(context.silent());
  if (o.no_energy) return;
  EnergyOptions energy;
  apply_meter_flags(o.meter, energy);
  o.service.meter = std::make_shared<serve::AnswerMeter>(energy, o.idle, context);
}

int serve_models(ServeOptions& o, Tool& tool) {
  check_network(o);
  read_report(o);
  std::vector<ServedModel> models = open_models(o, tool);
  plan_models(models, o);
  if (tool.dry_run()) return tell_plan(models, o, tool);
  prepare_comparisons(o, tool);
  serve::Service service(std::move(models), o.service);
  serve::Server server(service, o.server, [&](const serve::RequestLog& log) {
    if (log.quiet || tool.quiet()) return;
    if (o.log_format == "text") return tool.note(serve::log_line(log, false));
    fmt::print(stderr, "{}\n", serve::log_line(log, true));  // nothing before the JSON
  });
  tell_ready(service.models(), server, o, tool);
  if (server.run(tool.context().stop)) return 0;
  tool.log_error("some answers took longer than --shutdown-timeout and were cut off");
  return static_cast<int>(ErrorKind::interrupted);
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {
      .name = "qwb-serve",
      .summary = "Serves models through OpenAI's HTTP API, and a page that puts them side by side.",
      .examples = qwb::kExamples,
      .has_dry_run = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::ServeOptions>();
    qwb::add_serve_options(app, *options);
    return [options, &tool] { return qwb::serve_models(*options, tool); };
  });
}
