// Measures what a model lost: perplexity, divergence from the unquantized model, answers to tasks,
// each compared with the unquantized model where it can be found. Finished results and windows are
// kept and found again.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/error.h"
#include "lib/evaluate/keeper.h"
#include "lib/evaluate/options.h"
#include "lib/evaluate/originals.h"
#include "lib/evaluate/record.h"
#include "lib/evaluate/subject.h"

namespace qwb {

// Raised when a change gives other figures for the same model and text: kept results are then
// measured again.
inline constexpr int64_t kEvaluationVersion = 1;

class Quality {
 public:
  // Throws usage for an unknown protocol, and what load_task throws.
  Quality(QualityOptions options, const Context& context);

  bool needs_tokenizer() const {
    return options_.perplexity || options_.divergence || !tasks_.empty();
  }

  // Called around the perplexity of a subject, with the number of tokens read: for energy. While
  // `before` is set, kept results are not used.
  struct Meter {
    std::function<void()> before;
    std::function<void(int64_t tokens)> after;
  };
  // Models beside which others are measured: any may be the original of one that has moved.
  void consider(const std::vector<Path>& folders) { originals_.consider(folders); }

  // The subject's own figures. `forward` names how it computes (int8_forward_json), for the keys of
  // results. True if the model ran. Throws only an interrupt; other errors become problems.
  bool measure(const Subject& subject, const Json& forward, QualityRecord& record,
               const Meter& meter = {});
  // Its comparison with the unquantized model. Throws as measure() does.
  void compare(const Subject& subject, const Json& forward, QualityRecord& record);

 private:
  PerplexityResult perplexity_of(const Subject& subject, const Json& forward, bool keep, bool& ran);
  TaskResult answers_of(const Subject& subject, const Json& forward, const TaskData& data,
                        bool& ran);
  void diverge(const Subject& subject, const Json& forward, const Subject& base,
               QualityRecord& record);
  void compare_tasks(const Subject& base, const std::string& key, QualityRecord& record);
  std::optional<Path> baseline_of(const Subject& subject);
  std::optional<Path> required_baseline_of(const Subject& subject, const QualityRecord& record);
  bool is_baseline(const Subject& subject) const;
  // Throws verification if the model at the place that the artifact names has changed since, or is
  // quantized itself. For a --baseline, which the user chose, this is only a note.
  void check_baseline(const Subject& subject, const Subject& base);
  bool divergence_brings_perplexity(const Subject& subject);
  void remember(const Subject& subject, const QualityRecord& record);
  void attempt(const Subject& subject, QualityRecord& record,
               const std::function<void()>& work) const;

  std::optional<Json> key_of(const Subject& subject, const Json& forward,
                             const std::string& kind) const;
  std::optional<Json> find(const std::optional<Json>& key) const;
  std::unique_ptr<WorkJournal> journal(const std::optional<Json>& key) const;
  void keep(const std::optional<Json>& key, const Json& result, WorkJournal* journal) const;

  QualityOptions options_;
  Context context_;
  Originals originals_;
  std::vector<TaskData> tasks_;
  // Of unquantized models, by their folder; tasks in the order of tasks_.
  std::map<std::string, PerplexityResult> perplexities_;
  std::map<std::string, std::vector<TaskResult>> answers_;
};

}  // namespace qwb
