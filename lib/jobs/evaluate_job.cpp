#include "lib/jobs/evaluate_job.h"

#include <memory>
#include <system_error>
#include <utility>

#include "lib/base/error.h"
#include "lib/evaluate/session.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/result_cache.h"
#include "lib/jobs/sources.h"
#include "lib/jobs/wikitext.h"

namespace qwb {
namespace {

EvaluationOptions complete_options(EvaluateRequest request, const Context& context) {
  QualityOptions& quality = request.options.quality;
  if (quality.perplexity || quality.divergence)
    quality.text = evaluation_text(request.text, context);
  if (request.keep) quality.keeper = std::make_shared<ResultCache>(context, request.cache);
  return std::move(request.options);
}

}  // namespace

EvaluationText evaluation_text(const std::string& name, const Context& context) {
  if (name.empty() || name == "demo") {
    const Path file = demo_path("text/eval.txt");
    if (name.empty())
      context.progress->note("text " + file.string() + " (the demo; --text chooses another)");
    return read_evaluation_text(file);
  }
  if (name == "wikitext2") return wikitext2_text(context);
  std::error_code ignored;
  if (!std::filesystem::exists(name, ignored) && name.find(':') != std::string::npos)
    return read_evaluation_text(calibration_file(name, context));
  return read_evaluation_text(name);
}

EvaluateJob::EvaluateJob(EvaluateRequest request, const Context& context)
    : context_(context),
      evaluation_(
          std::make_unique<Evaluation>(complete_options(std::move(request), context), context)) {}

EvaluateJob::~EvaluateJob() = default;

void EvaluateJob::prepare(const std::vector<std::string>& models) {
  std::vector<Path> folders;
  for (const std::string& model : models) {
    try {
      folders.push_back(model_folder(model, context_));
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted) throw;
    }
  }
  evaluation_->prepare(folders);
}

Evaluated EvaluateJob::run(const std::string& model) {
  const Path folder = model_folder(model, context_);
  require_model_folder(folder);
  require_undamaged_if_summed(folder, context_.stop);
  return {folder, evaluation_->run(folder)};
}

}  // namespace qwb
