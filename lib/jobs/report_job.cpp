#include "lib/jobs/report_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <system_error>

#include "cache/store.h"
#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/evaluate/subject.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/sources.h"
#include "lib/report/builder.h"
#include "lib/report/clean_text.h"
#include "lib/report/kept.h"
#include "lib/report/record_file.h"
#include "lib/report/render.h"

namespace qwb {
namespace {

// A path, or NAME=PATH where no file has the whole name.
std::pair<std::string, std::string> split_input(const std::string& input) {
  std::error_code ignored;
  const size_t equals = input.find('=');
  if (equals == std::string::npos || equals == 0 || std::filesystem::exists(input, ignored))
    return {"", input};
  return {input.substr(0, equals), input.substr(equals + 1)};
}

// What earlier evaluations kept in the cache, newest first; read once.
std::vector<report::KeptResult> kept_results() {
  std::vector<report::KeptResult> kept;
  try {
    for (const CacheEntry& entry : Store({.root = default_cache_root() / "results"}).list()) {
      const Path file = entry.data / "result.json";
      try {
        kept.push_back({entry.fields, parse_json(read_text(file), file.string())});
      } catch (const Error&) {
        continue;  // damaged: it is measured again some day
      }
    }
  } catch (const Error&) {
    return kept;  // no cache
  }
  return kept;
}

// Other names are those of models, perhaps on the Hub: nobody means one by "results.json".
bool is_result_file(const Path& path) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored))
    return !std::filesystem::is_directory(path, ignored) && !detect_model(path);
  return has_suffix(path.native(), ".json") || has_suffix(path.native(), ".jsonl");
}

class Reader {
 public:
  Reader(const ReportRequest& request, const Context& context,
         const std::function<void(const Error&)>& on_problem)
      : request_(request), context_(context), on_problem_(on_problem), builder_(request.title) {}

  ReportInputs all() {
    std::vector<std::pair<std::string, std::string>> folders;
    // Files first: of a folder only what they lack is taken.
    for (const std::string& input : request_.inputs) {
      const auto [name, path] = split_input(input);
      if (is_result_file(path))
        attempt([&, n = name, p = path] { add_file(n, p); });
      else
        folders.emplace_back(name, path);
    }
    for (const auto& [name, path] : folders) attempt([&, n = name, p = path] { add_folder(n, p); });
    inputs_.report = builder_.build();
    if (inputs_.report.versions.empty()) {
      if (inputs_.code == 0) inputs_.code = 1;
      return std::move(inputs_);
    }
    for (const std::string& module : request_.modules) add_histograms(module);
    if (!request_.modules.empty()) attempt([this] { require_quantized(); });
    return std::move(inputs_);
  }

 private:
  template <typename Work>
  void attempt(Work work) {
    try {
      context_.stop.check();
      work();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted) throw;
      problem(error);
    }
  }

  void problem(const Error& error) {
    on_problem_(error);
    builder_.add_problem(error.what());
    inputs_.report.problems.push_back(report::clean_text(error.what()));
    if (inputs_.code == 0) inputs_.code = error.exit_code();
  }

  void add_file(const std::string& name, const std::string& path) {
    const report::ResultFile file = report::read_results(path);
    for (const report::ResultLine& line : file.results)
      attempt([&] { builder_.add(line.record, line.where, name); });
    for (const Error& error : file.problems) problem(error);
  }

  void add_folder(const std::string& name, const std::string& path) {
    const Path folder = model_folder(path, context_);
    require_model_folder(folder);
    const Subject subject = open_subject(folder, false, context_);
    EvaluationRecord model;
    model.artifact = folder.string();
    model.method = subject.method;
    model.bits = subject.bits;
    model.bpw = subject.bpw;
    model.bytes = subject.tensor_bytes;
    std::vector<Json> records;
    if (request_.cached) records = cached_records(model, subject);
    if (records.empty()) records.push_back(record_json(model));
    for (const Json& record : records) builder_.add(record, folder.string(), name, true);
  }

  std::vector<Json> cached_records(EvaluationRecord& model, const Subject& subject) {
    if (!kept_) kept_ = kept_results();
    if (kept_->empty()) return {};
    if (const auto base = baseline_folder(subject)) {
      std::error_code ignored;
      model.quality.baseline = std::filesystem::weakly_canonical(*base, ignored).string();
    }
    std::string source_hash;
    if (json_has(subject.open.manifest, "source"))
      source_hash = json_string(subject.open.manifest.at("source"), "hash", "qwb.json", "");
    const Path memo = default_memo_folder();
    return report::kept_records(model, subject.open.content_hash(memo, context_), source_hash,
                                *kept_);
  }

  // The original for a version: --baseline, what its qwb.json names, or the only original of the
  // report.
  Path baseline_for(const report::Version& version) {
    if (!request_.baseline.empty()) return model_folder(request_.baseline, context_);
    if (version.making) {
      if (const auto folder = report::source_folder(*version.making, version.artifact))
        return *folder;
    }
    for (const report::Version& other : inputs_.report.versions) {
      if (other.original) return other.artifact;
    }
    throw Error(ErrorKind::not_found, "no original to compare the weights with", version.artifact,
                "name it by --baseline");
  }

  // The original must be what the artifact was made from. Of one that the user names it is only
  // told.
  const OpenModel& original_of(const report::Version& version) {
    const Path folder = baseline_for(version);
    const OpenModel& original = open(folder);
    const std::string made_from = version.making ? version.making->source_hash : "";
    if (made_from.empty() || original.content_hash(default_memo_folder(), context_) == made_from)
      return original;
    const std::string what =
        "this is not the model that " + version.artifact + " was made from (another content)";
    if (request_.baseline.empty())
      throw Error(ErrorKind::verification, what, folder.string(),
                  "name the original by --baseline");
    if (noted_.insert(folder.string()).second)
      context_.progress->note(folder.string() + ": " + what);
    return original;
  }

  const OpenModel& open(const Path& folder) {
    auto& model = open_[folder.string()];
    if (!model) {
      require_model_folder(folder);
      model = std::make_unique<OpenModel>(open_model(folder, context_.silent()));
    }
    return *model;
  }

  void require_quantized() const {
    const auto& versions = inputs_.report.versions;
    if (std::all_of(versions.begin(), versions.end(),
                    [](const report::Version& v) { return v.original; }))
      throw Error(ErrorKind::failed,
                  "--module compares quantized versions with their original, and no input is one");
  }

  void add_histograms(const std::string& module) {
    for (size_t v = 0; v < inputs_.report.versions.size(); ++v) {
      const report::Version& version = inputs_.report.versions[v];
      if (version.original) continue;
      attempt([&] {
        const OpenModel& original = original_of(version);
        inputs_.histograms.push_back(
            {module, v,
             report::histogram_pair(report::module_weight(original, module),
                                    report::module_weight(open(version.artifact), module), module,
                                    context_)});
      });
    }
  }

  const ReportRequest& request_;
  const Context& context_;
  const std::function<void(const Error&)>& on_problem_;
  std::set<std::string> noted_;  // folders of originals that are not what they should be
  report::ReportBuilder builder_;
  ReportInputs inputs_;
  std::optional<std::vector<report::KeptResult>> kept_;
  std::map<std::string, std::unique_ptr<OpenModel>> open_;
};

}  // namespace

ReportInputs read_report_inputs(const ReportRequest& request, const Context& context,
                                const std::function<void(const Error&)>& problem) {
  return Reader(request, context, problem).all();
}

}  // namespace qwb
