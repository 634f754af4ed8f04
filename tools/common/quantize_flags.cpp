#include "tools/common/quantize_flags.h"

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/names.h"
#include "lib/jobs/choose.h"
#include "tools/common/device_flags.h"
#include "tools/common/model_flags.h"
#include "tools/common/number_checks.h"
#include "tools/manual/declaration.h"

namespace qwb {
namespace {

std::vector<std::string> all_method_names() {
  std::vector<std::string> names;
  for (const auto& method : methods()) names.push_back(method->name());
  return names;
}

std::string method_help() {
  std::string text = "how to quantize:";
  for (const auto& method : methods()) text += "\n" + method->name() + ": " + method->summary();
  return text;
}

}  // namespace

QuantizeFlags::QuantizeFlags(CLI::App& app) {
  add_model(app, model_,
            "folder with the checkpoint, or its name on the Hub [$QWB_MODEL, else the demo llama]");
  add_device_flag(app, device_,
                  "What calibration runs on; other methods have the same bits anywhere");
  chosen_ =
      app.add_option("--method", method_, method_help())->capture_default_str()->type_name("NAME");
  offer(chosen_, all_method_names());
  parameters_ = std::make_unique<MethodFlags>(app);
  add_plan_flags(app);
  add_calibration_flags(app);
}

void QuantizeFlags::add_plan_flags(CLI::App& app) {
  constexpr const char* kGroup =
      "Which modules (patterns: * ? [0-3] [!0-3], on the whole name or what follows one of its "
      "dots)";
  const auto patterns = [&](const char* flag, std::vector<std::string>& target, const char* help) {
    app.add_option(flag, target, help)
        ->type_name("PATTERN")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->group(kGroup);
  };
  patterns("--include", include_, "only the modules that match (may be repeated)");
  patterns("--exclude", exclude_, "the modules that match stay as they are (may be repeated)");
  app.add_flag("--lm-head", lm_head_, "quantize the output embedding too")->group(kGroup);
  app.add_flag("--embeddings", embeddings_,
               "quantize the token embeddings too (rtn in place of a calibrated method)")
      ->group(kGroup);
  app.add_option("--plan", plan_,
                 "JSON file that refines the flags above: {\"default\": {\"method\": \"gptq\", "
                 "\"bits\": 4}, "
                 "\"lm_head\": true, \"rules\": [{\"match\": \"*.down_proj\", \"method\": \"rtn\", "
                 "\"bits\": "
                 "8}, {\"match\": \"layers.0.*\", \"method\": \"skip\"}]}; later rules win")
      ->type_name("FILE")
      ->group(kGroup);
}

void QuantizeFlags::add_calibration_flags(CLI::App& app) {
  constexpr const char* kGroup = "Calibration";
  CLI::Option* calib =
      app.add_option(
             "--calib", calib_,
             "calibration text: lima, demo, a .jsonl, a .txt, a data set on the Hub (OWNER/NAME or "
             "OWNER/NAME:FILE), or a set saved as .qwbcalib; rows of a .jsonl have text, page or "
             "content, messages or conversations, prompt and completion, instruction, input and "
             "output, or question and answer; may be repeated, "
             "and :N behind a name gives it N times the windows of one without [demo]")
          ->type_name("C[:N]")
          ->expected(1)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
          ->group(kGroup);
  offer(calib, {"demo", "lima"});
  const auto window_option = [&](CLI::Option* option, const char* type) {
    if (type != nullptr) option->type_name(type);
    option->group(kGroup);
    window_options_.push_back(option);
    return option;
  };
  window_option(
      app.add_option("--samples", samples_, "calibration windows")->check(between(1, 1 << 30)), "N")
      ->capture_default_str();
  window_option(
      app.add_option("--length", length_, "tokens a window [the model's context, at most 2048]")
          ->check(between(1, 1 << 30)),
      "L");
  seeded_ = window_option(
      app.add_option("--seed", seed_,
                     "draw the windows at random with this seed [take the first ones]")
          ->check(between(0, 0x1p63)),
      "S");
  window_option(
      app.add_flag("--documents", documents_,
                   "one window a document (those that are long enough) instead of a running text"),
      nullptr);
  window_option(app.add_flag("--chat-template", chat_template_,
                             "render conversations with the model's chat template"),
                nullptr);
}

PlanRequest QuantizeFlags::plan() const {
  PlanFile file;
  if (!plan_.empty()) file = parse_plan(read_text(plan_), plan_);
  const bool from_file = !file.method.empty() && chosen_->count() == 0;
  PlanRequest plan;
  plan.method = &find_method(from_file ? file.method : method_);
  if (!file.method.empty() && !same_name(file.method, plan.method->name())) {
    throw Error(ErrorKind::usage,
                "its default is " + file.method + ", and --method says " + method_, plan_,
                "leave one of them out");
  }
  plan.given = file.given;
  const Json flags = parameters_->given(*plan.method);
  for (const auto& [name, value] : flags.items()) plan.given[name] = value;
  if (plan.given.contains("bits") && fixed_bits(*plan.method) > 0) plan.given.erase("bits");
  plan.include = include_;
  plan.exclude = exclude_;
  plan.output_embedding = lm_head_ || file.output_embedding;
  plan.embeddings = embeddings_ || file.embeddings;
  plan.rules = std::move(file.rules);
  return plan;
}

CalibrationRequest QuantizeFlags::calibration() const {
  CalibrationRequest calibration;
  for (const std::string& text : calib_)
    calibration.sources.push_back(parse_calibration_source(text));
  calibration.samples = samples_;
  calibration.length = length_;
  calibration.documents = documents_;
  if (seeded_->count() > 0) calibration.seed = seed_;
  return calibration;
}

QuantizeRequest QuantizeFlags::request(Tool& tool) const {
  QuantizeRequest request;
  request.plan = plan();
  request.model = choose_model(model_, tool.context());
  tool.reads(request.model);
  if (!plan_.empty()) tool.reads(plan_);
  request.device = chosen_device(device_, tool);
  request.chat_template = chat_template_;
  request.calibration = calibration();
  for (const CalibrationSource& source : request.calibration.sources) tool.reads(source.name);
  for (const CLI::Option* option : window_options_)
    request.calibration_flags = request.calibration_flags || option->count() > 0;
  return request;
}

}  // namespace qwb
