// A tool that does whatever a test of the common frame asks for.
#include <unistd.h>

#include <new>
#include <stdexcept>

#include "lib/base/error.h"
#include "lib/jobs/choose.h"
#include "tools/common/tool.h"

namespace {

struct Options {
  std::string action;
  std::string model;
};

int act(const Options& options, qwb::Tool& tool) {
  if (options.action == "flags") {
    tool.note("narration");
    tool.print(std::string("json ") + (tool.json() ? "1" : "0") + " dry-run " +
               (tool.dry_run() ? "1" : "0") + " threads " +
               std::to_string(tool.context().threads.count()) + " color " +
               (tool.color_stdout() ? "1" : "0") + "\n");
  }
  if (options.action == "fail")
    throw qwb::Error(qwb::ErrorKind::verification, "wrong\nbytes", "file", "fetch it again");
  if (options.action == "memory") throw std::bad_alloc();
  if (options.action == "other") throw std::runtime_error("something else");
  if (options.action == "seven") return 7;
  if (options.action == "model")
    tool.print(qwb::choose_model(options.model, tool.context()).string() + "\n");
  if (options.action == "wait" || options.action == "stubborn") {
    tool.note("ready");
    for (;;) {
      if (options.action == "wait") tool.context().stop.check();
      usleep(10'000);
    }
  }
  if (options.action == "flood") {
    for (int i = 0; i < 10'000; ++i) tool.print(std::string(1000, 'x') + "\n");
  }
  if (options.action == "bar") {
    tool.progress().begin("counting", 10);
    for (int i = 0; i < 10; ++i) {
      usleep(30'000);
      tool.progress().advance(1, "detail");
      if (i == 4) tool.print("data\n");
    }
    tool.progress().end();
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const qwb::ToolText text = {.name = "qwb-probe",
                              .summary = "Does what a test asks for.",
                              .examples = "Examples:\n  qwb-probe flags",
                              .has_dry_run = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<Options>();
    app.add_option("ACTION", options->action, "what to do")->required();
    app.add_option("--model", options->model, "a model");
    return [options, &tool] { return act(*options, tool); };
  });
}
