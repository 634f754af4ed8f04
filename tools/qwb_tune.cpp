// qwb-tune: an adapter is tuned beside a frozen base.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>

#include "formats/hf/checkpoint.h"
#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/exec/executor.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/sources.h"
#include "lib/jobs/tune_job.h"
#include "tools/common/tool.h"
#include "tools/tune/options.h"

namespace qwb {
namespace {

constexpr char kTuneExamples[] = R"(Examples:
  qwb-tune --model ./llama-nf4 --data lima --out ./llama-lima
  qwb-tune --model ./llama-gptq --data chats.jsonl --rank 64 --targets q_proj v_proj --dry-run
  qwb-tune --model ./model.gguf --data notes.txt --length 1024 --epochs 1 --out ./notes
  qwb-eval ./llama-nf4 --adapter ./llama-lima --ppl
The adapter's folder is the only thing on standard output; it is one that PEFT reads.)";

// What a folder or file is called, without an ending that only says of what kind it is.
std::string short_name(const std::string& name) {
  const Path plain = std::filesystem::absolute(name).lexically_normal();
  const Path last = plain.has_filename() ? plain.filename() : plain.parent_path().filename();
  for (const char* ending : {".gguf", ".jsonl", ".txt"}) {
    if (last.extension() == ending) return last.stem().string();
  }
  return last.string();
}

std::string default_out(const std::string& model, const std::string& data) {
  return "./" + short_name(model) + "-" + short_name(data);
}

TuneRequest request_of(TuneOptions& o, Tool& tool) {
  TuneRequest request = o.request;
  const Path model = choose_model(o.model, tool.context());
  tool.reads(model);
  request.model = model;
  request.base = o.model.empty() ? model.string() : o.model;
  request.data = o.data;
  request.file =
      o.data == "demo" ? demo_path("text/calib.jsonl") : calibration_file(o.data, tool.context());
  tool.reads(request.file);
  if (!o.chat_template.empty()) {
    request.chat_template = o.chat_template;
    tool.reads(o.chat_template);
  }
  request.resume = !o.no_resume;
  request.replace = tool.outputs().force();
  const Path out = o.out.empty() ? Path(default_out(request.base, o.data)) : Path(o.out);
  // The adapter of a run that was interrupted makes room for that of the whole run.
  const bool goes_on = std::filesystem::exists(out.string() + ".tune/state");
  request.out = goes_on ? std::filesystem::absolute(out).lexically_normal()
                        : tool.outputs().folder(out, "--out");
  return request;
}

void tell_plan(const TuneJob& job, Tool& tool) {
  const TunePlan& p = job.plan();
  const double share = 100.0 * static_cast<double>(p.supervised) / static_cast<double>(p.tokens);
  tool.note(fmt::format("{} modules, {} values to learn", p.modules,
                        human_number(static_cast<double>(p.values))));
  tool.note(fmt::format("{} documents of {} tokens, {:.1f} % of them learned; {} held out",
                        p.documents, human_number(static_cast<double>(p.tokens)), share, p.held));
  tool.note(fmt::format("{} steps, {} tokens at a time, memory {}", p.steps, p.micro_tokens,
                        human_bytes(p.memory)));
  std::string sample = job.sample();
  if (sample.size() > 600) sample = sample.substr(0, sample.find_first_of(" \n", 560)) + " ...";
  tool.note("the first document, what is not learned in [[ ]]:\n" + sample);
}

void tell_result(const Json& done, Tool& tool) {
  const Json& result = done["result"];
  const Json& held = result["held_out"];
  if (!held["before"].is_null()) {
    const auto loss = [](const Json& one) {
      const Json& error = one["error"];
      return fmt::format("{:.4f} ± {:.4f}", one["loss"].get<double>(),
                         error.is_number() ? error.get<double>() : 0.0);
    };
    const Json& after = held["after"];
    std::string change;
    if (json_has(after, "change_error")) {
      change = fmt::format(" (changed by {:+.4f} ± {:.4f})", after["change"].get<double>(),
                           after["change_error"].get<double>());
    }
    tool.note(fmt::format("held-out loss {} before, {} after{}; best {:.4f} at step {}",
                          loss(held["before"]), loss(after), change,
                          held["best"]["loss"].get<double>(), held["best"]["step"].get<int64_t>()));
  }
  tool.note(fmt::format("done: {} steps in {}, {} tokens/s, peak {}",
                        result["steps"].get<int64_t>(),
                        human_duration(result["seconds"].get<double>()),
                        human_number(result["tokens_per_s"].get<double>()),
                        human_bytes(static_cast<int64_t>(result["peak_mb"].get<double>() * 1e6))));
}

int tune(const CLI::App& app, TuneOptions& o, Tool& tool) {
  if (tool.dry_run()) keep_no_memos();
  tool.reuse_large_buffers();
  apply_tune_options(app, o);
  const std::shared_ptr<const Executor> executor = make_executor(
      computes_in_bf16(o) ? ExecutorKind::bf16 : ExecutorKind::fast, tool.context().threads);
  const TuneRequest request = request_of(o, tool);
  TuneJob job(request, executor, tool.context());
  tell_plan(job, tool);
  if (tool.dry_run()) {
    const double seconds = job.estimate_seconds(tool.context());
    tool.note("it will take about " + human_duration(seconds));
    if (tool.json()) {
      Json json = job.plan_json();
      json["schema"] = 1;
      json["seconds"] = seconds;
      tool.print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    }
    return 0;
  }
  const Json done = job.run(tool.context(), [&](const Json& line) {
    if (line.contains("held_out"))
      tool.note(fmt::format("step {}: held-out loss {:.4f}", line["step"].get<int64_t>(),
                            line["held_out"]["loss"].get<double>()));
  });
  tell_result(done, tool);
  if (tool.json()) {
    Json json = done;
    json["schema"] = 1;
    json["folder"] = request.out.string();
    tool.print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  } else {
    tool.print(request.out.string() + "\n");
  }
  return 0;
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {.name = "qwb-tune",
                              .summary = "Tune a LoRA adapter beside a frozen, quantized base.",
                              .examples = qwb::kTuneExamples,
                              .has_dry_run = true,
                              .writes = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::TuneOptions>();
    qwb::add_tune_options(app, *options);
    return [options, &app, &tool] { return qwb::tune(app, *options, tool); };
  });
}
