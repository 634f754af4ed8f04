#include "tools/common/quantize_flags.h"

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "tools/common/choose.h"

namespace qwb {
namespace {

std::string method_help() {
  std::string text = "how to quantize:";
  for (const auto& method : methods()) text += "\n" + method->name() + ": " + method->summary();
  return text;
}

}  // namespace

QuantizeFlags::QuantizeFlags(CLI::App& app) {
  app.add_option("--model", model_, "folder with the checkpoint [$QWB_MODEL, else the demo llama]")
      ->type_name("DIR");
  chosen_ = app.add_option("--method", method_, method_help())->capture_default_str()->type_name("NAME");
  parameters_ = std::make_unique<MethodFlags>(app);
  add_plan_flags(app);
  add_calibration_flags(app);
}

void QuantizeFlags::add_plan_flags(CLI::App& app) {
  constexpr const char* kGroup =
      "Which modules (patterns: * ? [0-3] [!0-3], on the whole name or what follows one of its dots)";
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
                 "JSON file that refines the flags above: {\"default\": {\"method\": \"gptq\", \"bits\": 4}, "
                 "\"lm_head\": true, \"rules\": [{\"match\": \"*.down_proj\", \"method\": \"rtn\", \"bits\": "
                 "8}, {\"match\": \"layers.0.*\", \"method\": \"skip\"}]}; later rules win")
      ->type_name("FILE")
      ->group(kGroup);
}

void QuantizeFlags::add_calibration_flags(CLI::App& app) {
  constexpr const char* kGroup = "Calibration";
  app.add_option("--calib", calib_, "calibration set: lima, demo, a .jsonl or a .txt [demo]")
      ->type_name("C")
      ->group(kGroup);
  app.add_option("--samples", samples_, "calibration windows")
      ->capture_default_str()
      ->type_name("N")
      ->group(kGroup);
  app.add_option("--length", length_, "tokens a window [the model's context, at most 2048]")
      ->type_name("L")
      ->group(kGroup);
  seeded_ = app.add_option("--seed", seed_, "draw the windows at random with this seed [take the first ones]")
                ->type_name("S")
                ->group(kGroup);
  app.add_flag("--documents", documents_, "one window a document instead of a running text")->group(kGroup);
  app.add_flag("--chat-template", chat_template_, "render conversations with the model's chat template")
      ->group(kGroup);
}

PlanRequest QuantizeFlags::plan() const {
  PlanFile file;
  if (!plan_.empty()) file = parse_plan(read_text(plan_), plan_);
  const bool from_file = !file.method.empty() && chosen_->count() == 0;
  PlanRequest plan;
  plan.method = &find_method(from_file ? file.method : method_);
  if (!file.method.empty() && file.method != plan.method->name()) {
    throw Error(ErrorKind::usage, "its default is " + file.method + ", and --method says " + method_, plan_,
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
  calibration.source = calib_;
  calibration.samples = samples_;
  calibration.length = length_;
  calibration.documents = documents_;
  if (seeded_->count() > 0) calibration.seed = seed_;
  return calibration;
}

QuantizeRequest QuantizeFlags::request(Tool& tool) const {
  QuantizeRequest request;
  request.plan = plan();
  request.model = choose_model(model_, tool.progress());
  request.chat_template = chat_template_;
  request.calibration = calibration();
  return request;
}

}  // namespace qwb
