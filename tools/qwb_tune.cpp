// qwb-tune: an adapter is tuned beside a frozen base.
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/hf/checkpoint.h"
#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/base/text.h"
#include "lib/exec/executor.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/sources.h"
#include "lib/jobs/tune_job.h"
#include "tools/common/model_flags.h"
#include "tools/common/number_checks.h"
#include "tools/common/tool.h"
#include "tools/manual/declaration.h"

namespace qwb {
namespace {

constexpr char kTuneExamples[] = R"(Examples:
  qwb-tune --model ./llama-nf4 --data lima --out ./llama-lima
  qwb-tune --model ./llama-gptq --data chats.jsonl --rank 64 --targets q_proj v_proj --dry-run
  qwb-tune --model ./model.gguf --data notes.txt --length 1024 --epochs 1 --out ./notes
  qwb-eval ./llama-nf4 --adapter ./llama-lima --ppl
The adapter's folder is the only thing on standard output; it is one that PEFT reads.)";

struct Options {
  std::string model, data, out, preset, schedule, loss, optimizer, init, recompute, compute, pack;
  std::string chat_template;
  TuneRequest request;
  bool no_resume = false;
};

void add_factor_flags(CLI::App& app, Options& o) {
  TuneSettings& s = o.request.settings;
  app.add_option("--rank", s.rank, "Rank of the factors")
      ->check(between(1, 4096))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--alpha", s.alpha, "What they add is multiplied by alpha / rank")
      ->check(above(0))
      ->capture_default_str()
      ->type_name("X");
  app.add_flag("--rslora", s.rslora, "Multiply it by alpha / sqrt(rank)");
  app.add_option(
         "--targets", s.targets,
         "Modules to adapt: all-linear, or patterns on their names (q_proj, 'mlp.*') [all-linear]")
      ->type_name("PATTERN...");
  app.add_option("--dropout", s.dropout, "Share of the factors' inputs that is left out")
      ->check(between(0, 0.99))
      ->capture_default_str()
      ->type_name("P");
  offer(app.add_option("--init", o.init,
                       "How A begins: default (uniform) or gaussian; B is zero [default]")
            ->type_name("WORD"),
        {"default", "gaussian"});
}

void add_data_flags(CLI::App& app, Options& o) {
  TuneSettings& s = o.request.settings;
  app.add_option(
         "--data", o.data,
         "lima, demo, a .jsonl file (conversations, questions and answers, or texts), a .txt "
         "file, or a data set of the Hub")
      ->required()
      ->type_name("DATA");
  app.add_option("--length", s.length, "Cut documents off behind so many tokens")
      ->check(between(2, 0x1p31))
      ->capture_default_str()
      ->type_name("N");
  offer(app.add_option(
               "--loss", o.loss,
               "completions: learn what assistants wrote; all: learn every token [completions]")
            ->type_name("WORD"),
        {"completions", "all"});
  app.add_option("--prompt-weight", s.prompt_weight,
                 "What the other tokens count with --loss completions")
      ->check(between(0, 1))
      ->capture_default_str()
      ->type_name("X");
  offer(app.add_option("--pack", o.pack, "on: short documents go through the model together [on]")
            ->type_name("WORD"),
        {"on", "off"});
  app.add_option("--holdout", s.holdout, "Documents kept apart to measure on")
      ->check(at_least(0))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--template", o.chat_template, "A chat template of your own (Jinja)")
      ->type_name("FILE");
}

void add_optimizer_flags(CLI::App& app, Options& o) {
  TuneSettings& s = o.request.settings;
  offer(app.add_option(
               "--preset", o.preset,
               "qlora: rank 64, alpha 16, dropout 0.1, constant rate, clip 0.3; lima: 15 epochs, "
               "batch 64, beta2 0.95, rate 1e-4; flags beat it")
            ->type_name("NAME"),
        {"qlora", "lima"});
  app.add_option("--epochs", s.epochs, "How often the data is gone through")
      ->check(above(0))
      ->capture_default_str()
      ->type_name("X");
  app.add_option("--steps", s.steps, "So many steps instead")->check(at_least(1))->type_name("N");
  app.add_option("--lr", s.rate, "Learning rate")
      ->check(above(0))
      ->capture_default_str()
      ->type_name("X");
  offer(app.add_option("--schedule", o.schedule,
                       "linear or cosine (down to a tenth), or constant [linear]")
            ->type_name("WORD"),
        {"linear", "constant", "cosine"});
  app.add_option("--warmup", s.warmup, "Share of the steps in which the rate rises")
      ->check(between(0, 1))
      ->capture_default_str()
      ->type_name("X");
  app.add_option("--batch", s.batch, "Documents a step")
      ->check(at_least(1))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--clip", s.clip, "Bound of the gradient's norm; 0: none")
      ->check(at_least(0))
      ->capture_default_str()
      ->type_name("X");
  app.add_option("--weight-decay", s.weight_decay, "Decay of the factors towards the base")
      ->check(at_least(0))
      ->capture_default_str()
      ->type_name("X");
  app.add_option("--beta1", s.beta1, "AdamW: decay of the first moments")
      ->check(between(0, 0.9999999))
      ->capture_default_str()
      ->type_name("X");
  app.add_option("--beta2", s.beta2, "AdamW: decay of the second moments")
      ->check(between(0, 0.9999999))
      ->capture_default_str()
      ->type_name("X");
  offer(app.add_option("--optimizer", o.optimizer,
                       "adamw, or adamw8 with its moments in 8 bits [adamw]")
            ->type_name("WORD"),
        {"adamw", "adamw8"});
  app.add_option("--lora-plus", s.lora_plus, "Learning rate of B over that of A (LoRA+)")
      ->check(above(0))
      ->capture_default_str()
      ->type_name("X");
  app.add_option("--neftune", s.neftune,
                 "Noise on the embeddings (NEFTune's alpha; 5 is usual); 0: none")
      ->check(at_least(0))
      ->capture_default_str()
      ->type_name("X");
  app.add_option("--seed", s.seed,
                 "Of the first factors, the order of documents, dropout and noise")
      ->capture_default_str()
      ->type_name("N");
}

void add_run_flags(CLI::App& app, Options& o) {
  TuneRequest& r = o.request;
  offer(app.add_option("--recompute", o.recompute,
                       "on: compute a block's activations twice rather than keep them; off: keep "
                       "all; auto: as many as half of the memory holds [auto]")
            ->type_name("WORD"),
        {"auto", "on", "off"});
  app.add_option("--micro-tokens", r.micro_tokens,
                 "Tokens that go through the model together [--length]")
      ->check(at_least(1))
      ->type_name("N");
  add_size(app, "--max-memory", r.max_memory, "Take at most this much memory [what is free]");
  offer(app.add_option("--compute", o.compute,
                       "f32, or bf16 operands in products with weights (fast where the processor "
                       "has units for them) [f32]")
            ->type_name("TYPE"),
        {"f32", "bf16"});
  app.add_option("--eval-every", r.eval_every, "Epochs from one measurement to the next")
      ->check(above(0))
      ->capture_default_str()
      ->type_name("X");
  app.add_option("--patience", r.patience,
                 "End after so many measurements without a better one; 0: never")
      ->check(at_least(0))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--save-every", r.save_every, "Steps from one saved state to the next")
      ->check(at_least(1))
      ->type_name("N");
  app.add_flag("--no-resume", o.no_resume, "Begin anew where an earlier run stopped");
  app.add_flag("--keep-state", r.keep_state, "Leave OUT.tune, the state, behind");
  app.add_option("--out", o.out, "Folder of the adapter [./MODEL-DATA]")->type_name("DIR");
}

// A preset stands behind the flags that were given.
void apply(CLI::App& app, Options& o) {
  TuneSettings& s = o.request.settings;
  if (!o.preset.empty()) {
    const TuneSettings given = s;
    apply_preset(o.preset, s);
    const auto keep = [&](const char* flag, auto TuneSettings::*field) {
      if (app.get_option(flag)->count() > 0) s.*field = given.*field;
    };
    keep("--rank", &TuneSettings::rank);
    keep("--alpha", &TuneSettings::alpha);
    keep("--dropout", &TuneSettings::dropout);
    keep("--epochs", &TuneSettings::epochs);
    keep("--lr", &TuneSettings::rate);
    keep("--warmup", &TuneSettings::warmup);
    keep("--batch", &TuneSettings::batch);
    keep("--clip", &TuneSettings::clip);
    keep("--beta2", &TuneSettings::beta2);
  }
  const auto one_of = [](const std::string& given, const char* flag, const char* usual,
                         const char* other) {
    if (given.empty() || same_name(given, usual)) return false;
    if (same_name(given, other)) return true;
    throw Error(ErrorKind::usage, "'" + given + "' is unknown", flag,
                std::string(usual) + " or " + other);
  };
  if (!o.schedule.empty()) s.schedule = parse_schedule(lower_case(o.schedule));
  s.completions = !one_of(o.loss, "--loss", "completions", "all");
  s.eight_bit = one_of(o.optimizer, "--optimizer", "adamw", "adamw8");
  s.gaussian = one_of(o.init, "--init", "default", "gaussian");
  s.pack = !one_of(o.pack, "--pack", "on", "off");
  if (same_name(o.recompute, "on")) {
    o.request.recompute = Recompute::on;
  } else if (one_of(o.recompute, "--recompute", "auto", "off")) {
    o.request.recompute = Recompute::off;
  }
}

std::string default_out(const std::string& model, const std::string& data) {
  const auto stem = [](const std::string& name) {
    const Path plain = std::filesystem::absolute(name).lexically_normal();
    return (plain.has_filename() ? plain : plain.parent_path()).stem().string();
  };
  return "./" + stem(model) + "-" + stem(data);
}

TuneRequest request_of(Options& o, Tool& tool) {
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

int tune(CLI::App& app, Options& o, Tool& tool) {
  if (tool.dry_run()) keep_no_memos();
  tool.reuse_large_buffers();
  apply(app, o);
  const bool narrow = !o.compute.empty() && same_name(o.compute, "bf16");
  if (!o.compute.empty() && !narrow && !same_name(o.compute, "f32"))
    throw Error(ErrorKind::usage, "'" + o.compute + "' is unknown", "--compute", "f32 or bf16");
  const std::shared_ptr<const Executor> executor =
      make_executor(narrow ? ExecutorKind::bf16 : ExecutorKind::fast, tool.context().threads);
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
    auto options = std::make_shared<qwb::Options>();
    qwb::add_model(app, options->model,
                   "The base, in any format: a folder, a file, or its name on the Hub");
    qwb::add_data_flags(app, *options);
    qwb::add_factor_flags(app, *options);
    qwb::add_optimizer_flags(app, *options);
    qwb::add_run_flags(app, *options);
    return [options, &app, &tool] { return qwb::tune(app, *options, tool); };
  });
}
