// What a model lost and what it costs, one model after the other: the texts by their names, results
// that are found again in the cache.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/evaluate/options.h"
#include "lib/evaluate/record.h"

namespace qwb {

class Evaluation;

// The text called "demo" (also by no name: then that is told), "wikitext2" (wikitext.h), a file, or
// a file of a data set on the Hub as OWNER/NAME:FILE. Throws not_found with the way to get it.
EvaluationText evaluation_text(const std::string& name, const Context& context);

struct EvaluateRequest {
  EvaluationOptions options = {};  // text and keeper of its quality are set by the job
  std::string text = {};           // of perplexity and divergence, see evaluation_text()
  bool keep = true;                // results in the cache, and find them there
  Path cache = {};                 // its root; empty: that of this user
};

// A model that was measured.
struct Evaluated {
  Path folder;
  EvaluationRecord record;  // record_json() of it is what qwb-eval prints
};

class EvaluateJob {
 public:
  // Reads the text. Throws what evaluation_text() and Evaluation throw.
  EvaluateJob(EvaluateRequest request, const Context& context);
  ~EvaluateJob();
  // Speed and energy are measured of all models in turns: names them before the first run. Models
  // are folders, files, or names on the Hub. One that is none is reported by its own run.
  void prepare(const std::vector<std::string>& models);
  // Measures one. Throws verification if it is an artifact whose bytes are not what they were, and
  // what Evaluation::run throws; single measurements that failed are in the record's problems.
  Evaluated run(const std::string& model);

 private:
  Context context_;
  std::unique_ptr<Evaluation> evaluation_;
};

}  // namespace qwb
