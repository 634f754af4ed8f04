#include "tools/tune/options.h"

#include "lib/base/error.h"
#include "lib/base/names.h"
#include "tools/common/model_flags.h"
#include "tools/common/number_checks.h"
#include "tools/common/tool.h"
#include "tools/manual/declaration.h"

namespace qwb {
namespace {

void add_tuned_factor_flags(CLI::App& app, TuneOptions& o) {
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

void add_tuned_data_flags(CLI::App& app, TuneOptions& o) {
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

void add_tuned_optimizer_flags(CLI::App& app, TuneOptions& o) {
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
}

void add_tuned_adamw_flags(CLI::App& app, TuneOptions& o) {
  TuneSettings& s = o.request.settings;
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

void add_tune_run_flags(CLI::App& app, TuneOptions& o) {
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
void apply_preset_behind_flags(const CLI::App& app, TuneOptions& o) {
  TuneSettings& s = o.request.settings;
  if (o.preset.empty()) return;
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

// Whether the word is the other one.
bool is_other(const std::string& given, const char* flag, const char* usual, const char* other) {
  if (given.empty() || same_name(given, usual)) return false;
  if (same_name(given, other)) return true;
  throw Error(ErrorKind::usage, "'" + given + "' is unknown", flag,
              std::string(usual) + " or " + other);
}

}  // namespace

void add_tune_options(CLI::App& app, TuneOptions& options) {
  add_model(app, options.model,
            "The base, in any format: a folder, a file, or its name on the Hub");
  const auto add = [&](const char* group, void (*flags)(CLI::App&, TuneOptions&)) {
    const size_t before = app.get_options().size();
    flags(app, options);
    const auto all = app.get_options();
    for (size_t i = before; i < all.size(); ++i) all[i]->group(group);
  };
  add("Data", add_tuned_data_flags);
  add("The adapter", add_tuned_factor_flags);
  add("Steps", add_tuned_optimizer_flags);
  add("Steps", add_tuned_adamw_flags);
  add("The run", add_tune_run_flags);
}

void apply_tune_options(const CLI::App& app, TuneOptions& o) {
  apply_preset_behind_flags(app, o);
  TuneSettings& s = o.request.settings;
  if (!o.schedule.empty()) s.schedule = parse_schedule(lower_case(o.schedule));
  s.completions = !is_other(o.loss, "--loss", "completions", "all");
  s.eight_bit = is_other(o.optimizer, "--optimizer", "adamw", "adamw8");
  s.gaussian = is_other(o.init, "--init", "default", "gaussian");
  s.pack = !is_other(o.pack, "--pack", "on", "off");
  if (same_name(o.recompute, "on")) {
    o.request.recompute = Recompute::on;
  } else if (is_other(o.recompute, "--recompute", "auto", "off")) {
    o.request.recompute = Recompute::off;
  }
}

bool computes_in_bf16(const TuneOptions& o) {
  return is_other(o.compute, "--compute", "f32", "bf16");
}

}  // namespace qwb
