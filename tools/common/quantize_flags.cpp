#include "tools/common/quantize_flags.h"

#include "tools/common/choose.h"
#include "tools/common/pull.h"

namespace qwb {
namespace {

std::string method_help() {
  std::string text = "how to quantize:";
  for (const auto& method : methods()) text += "\n" + method->name() + ": " + method->summary();
  return text;
}

}  // namespace

QuantizeFlags::QuantizeFlags(CLI::App& app) {
  app.add_option("--model", model_, "folder with the checkpoint, or its name on the Hub [$QWB_MODEL, else the demo llama]")
      ->type_name("MODEL");
  app.add_option("--method", method_, method_help())->capture_default_str()->type_name("NAME");
  parameters_ = std::make_unique<MethodFlags>(app);
  constexpr const char* kGroup = "Calibration";
  app.add_option("--calib", calib_, "calibration set: lima, demo, a .jsonl, a .txt, a data set on the Hub (OWNER/NAME[:FILE]) [demo]")
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

QuantizeRequest QuantizeFlags::request(Tool& tool) const {
  QuantizeRequest request;
  request.method = &find_method(method_);
  request.settings = parameters_->settings(*request.method);
  request.model = choose_model(model_, tool.progress());
  request.chat_template = chat_template_;
  fill_calibration(request, tool);
  return request;
}

void QuantizeFlags::fill_calibration(QuantizeRequest& request, Tool& tool) const {
  CalibrationRequest& calibration = request.calibration;
  calibration.source = calib_;
  if (!request.method->needs_calibration()) {
    if (!calib_.empty()) tool.note("method " + method_ + " needs no calibration: --calib is ignored");
    return;
  }
  if (calib_.empty()) {
    calibration.source = "demo";
    tool.note("no --calib given: calibrating with the demo text");
  }
  request.calibration_file = calibration.source == "demo" ? demo_path("text/calib.jsonl")
                                                          : calibration_source(calibration.source, tool.progress());
  calibration.samples = samples_;
  calibration.length = length_;
  calibration.documents = documents_;
  if (seeded_->count() > 0) calibration.seed = seed_;
}

}  // namespace qwb
