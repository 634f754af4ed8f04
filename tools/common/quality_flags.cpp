#include "tools/common/quality_flags.h"

#include <fmt/format.h>

#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/sources.h"
#include "tools/common/command_line.h"
#include "tools/common/number_checks.h"
#include "tools/common/quantities.h"
#include "tools/manual/declaration.h"

namespace qwb {
namespace {

std::string protocol_help() {
  std::string text = "How perplexity is measured:";
  for (const Protocol& protocol : protocols())
    text += "\n" + protocol.name + " (" + protocol.summary + ")";
  return text;
}

std::string task_help() {
  std::string text =
      "Answer a task from a jsonl file: "
      "NAME=FILE[,shots=N][,limit=N][,examples=FILE][,labels=FILE][,seed=N]. "
      "Scored as lm-eval does: acc, acc_norm (per character), flips against the baseline. May be "
      "given "
      "several "
      "times. NAME:";
  for (const Task& task : tasks()) text += "\n" + task.name + " (" + task.summary + ")";
  return text;
}

void add_perplexity_flags(CLI::App& app, QualityFlags& f) {
  app.add_flag("--ppl", f.ppl, "Measure perplexity (the default if nothing is asked for)");
  std::vector<std::string> names;
  for (const Protocol& protocol : protocols()) names.push_back(protocol.name);
  app.add_option("--protocol", f.protocol, protocol_help())
      ->check(one_of(names))
      ->type_name("NAME")
      ->capture_default_str();
  CLI::Option* text =
      app.add_option("--text", f.text,
                     "What to measure on: a text file, a .jsonl file with a document a line "
                     "(\"text\", \"page\" or \"content\"), "
                     "wikitext2, OWNER/NAME:FILE of a data set on the Hub (default: demo)")
          ->type_name("TEXT");
  offer(text, {"demo", "wikitext2"});
  app.add_option("--context", f.context,
                 "Tokens of a window (default: see --protocol; lm-eval: the model's limit)")
      ->check(between(4, 0x1p30))
      ->type_name("N");
  app.add_option("--stride", f.stride,
                 "hf-stride: tokens between the starts of windows (default: half the context)")
      ->check(between(1, 0x1p30))
      ->type_name("N");
  app.add_option(
         "--windows", f.windows,
         "Use only the first N windows (lm-eval: documents; the figure then belongs to them alone)")
      ->check(between(1, 0x1p40))
      ->type_name("N");
}

}  // namespace

void add_quality_flags(CLI::App& app, QualityFlags& f) {
  add_perplexity_flags(app, f);
  app.add_flag(
      "--kl", f.kl,
      "Measure the divergence from the unquantized model, on the tokens of --protocol and --text");
  CLI::Option* task = app.add_option("--task", f.tasks, task_help())
                          ->type_name("TASK")
                          ->expected(1)
                          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  std::vector<std::string> task_words;
  for (const Task& known : tasks()) task_words.push_back(known.name + "=");
  offer(task, task_words);
  app.add_option("--lm-eval-json", f.lm_eval_json, "Write the tasks' results as lm-eval does, too")
      ->type_name("FILE");
  auto* baseline =
      app.add_option("--baseline", f.baseline,
                     "The unquantized model to compare with (default: the one the artifact names)")
          ->type_name("FOLDER");
  app.add_flag("--no-baseline", f.no_baseline, "Compare with no unquantized model")
      ->excludes(baseline);
  app.add_option("--max-kl", f.max_kl,
                 "Fail (exit 6) if the mean divergence is larger; asks for --kl")
      ->check(at_least(0))
      ->type_name("X");
  app.add_option("--max-ppl-ratio", f.max_ratio,
                 "Fail (exit 6) if the perplexity is more than this many times the baseline's; "
                 "asks for --ppl")
      ->check(above(0))
      ->type_name("X");
  add_size(app, "--max-bytes", f.max_bytes, "Fail (exit 6) if all tensors take more, 120M say");
  app.add_flag("--fresh", f.fresh, "Measure again what an earlier run has measured");
}

QualityOptions quality_options(const QualityFlags& f, bool nothing_else, Tool& tool) {
  if (f.no_baseline && (f.kl || f.max_kl || f.max_ratio))
    throw Error(ErrorKind::usage,
                "--kl, --max-kl and --max-ppl-ratio need the baseline that --no-baseline refuses");
  QualityOptions q;
  q.divergence = f.kl || f.max_kl.has_value();
  q.perplexity =
      f.ppl || f.max_ratio.has_value() || (nothing_else && !q.divergence && f.tasks.empty());
  q.compare = !f.no_baseline;
  q.fresh = f.fresh;
  q.protocol = {f.protocol, f.context, f.stride, f.windows};
  if (!f.baseline.empty()) {
    q.baseline = model_folder(f.baseline, tool.context());
    require_model_folder(*q.baseline);
    require_undamaged_if_summed(*q.baseline, tool.context().stop);
    tool.reads(*q.baseline);
  }
  for (const std::string& task : f.tasks) {
    q.tasks.push_back(parse_task_options(task));
    for (const Path& file : {q.tasks.back().file, q.tasks.back().examples, q.tasks.back().labels})
      tool.reads(file);
  }
  if (!f.lm_eval_json.empty() && q.tasks.empty())
    throw Error(ErrorKind::usage, "--lm-eval-json writes the results of tasks: name one by --task");
  if (!f.text.empty()) tool.reads(f.text);
  return q;
}

std::vector<std::string> gate_failures(const QualityFlags& f, const QualityRecord& record,
                                       int64_t bytes, bool is_original) {
  std::vector<std::string> reasons;
  // The original itself loses nothing; a plain model that nobody calls so may be anything.
  const char* why =
      record.is_baseline
          ? ": nothing names the original of this model (name it by --baseline, or evaluate an "
            "artifact made from this one beside it)"
          : "";
  if (f.max_kl && !(record.is_baseline && is_original)) {
    if (!record.divergence) {
      reasons.push_back(std::string("the divergence could not be measured (--max-kl)") + why);
    } else if (!(record.divergence->mean_kl.value <= *f.max_kl)) {
      reasons.push_back(fmt::format("the mean divergence is {:.6g}, --max-kl {:g}",
                                    record.divergence->mean_kl.value, *f.max_kl));
    }
  }
  if (f.max_ratio && !(record.is_baseline && is_original)) {
    if (!record.ratio) {
      reasons.push_back(std::string("there is no ratio of perplexities (--max-ppl-ratio)") + why);
    } else if (!(record.ratio->ratio.value <= *f.max_ratio)) {
      reasons.push_back(fmt::format("the ratio of perplexities is {:.6g}, --max-ppl-ratio {:g}",
                                    record.ratio->ratio.value, *f.max_ratio));
    }
  }
  if (f.max_bytes > 0 && bytes > f.max_bytes)
    reasons.push_back(fmt::format("the tensors take {} bytes, --max-bytes {}", bytes, f.max_bytes));
  return reasons;
}

void write_lm_eval_json(const Path& file, const Path& model, const QualityRecord& record,
                        bool replace, const Context& context) {
  const Subject subject = open_subject(model, true, context);
  const Json json = lm_eval_json(record.tasks, model.string(), subject.tokenizer.value(),
                                 subject.model->config());
  const std::string text = json_text(json);
  write_file_atomically(file, as_bytes(text), replace);
}

}  // namespace qwb
