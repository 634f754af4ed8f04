// Answers of a model to a task's items, and what they are worth.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/json.h"
#include "lib/evaluate/keeper.h"
#include "lib/evaluate/statistics.h"
#include "lib/evaluate/tasks/task.h"
#include "lib/model/model.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {

// Items whose answer is right with one model and wrong with the other: equal accuracies can hide
// many.
struct TaskFlips {
  int64_t to_wrong = 0;  // right with the baseline
  int64_t to_right = 0;
  int64_t changed = 0;  // another choice, right or wrong; for last-word tasks the two above
  Estimate difference;  // accuracy - baseline's, paired over items
};

struct TaskResult {
  std::string name;
  double version = 1;
  std::string file;
  int64_t shots = 0;
  uint32_t seed = 0;
  int64_t items = 0;
  int64_t original = 0;  // items in the file
  std::string hash;      // of requests and answers (TaskData)
  // Standard errors: the sample's deviation over sqrt(items), as lm-eval has them; intervals:
  // statistics.h.
  Estimate accuracy;
  std::optional<Estimate> normalized;  // acc_norm
  std::optional<Estimate> perplexity;  // last-word tasks: exp(-mean log-likelihood of the word)
  std::optional<TaskFlips> flips;      // against the baseline
  // Of every item: the log-likelihoods of its choices; of a last-word task the word's and 1 if
  // every one of its tokens is the most likely.
  std::vector<std::vector<double>> answers;
  std::vector<int64_t> chosen;       // by log-likelihood; last-word tasks: 0 right, 1 wrong
  std::vector<int64_t> chosen_norm;  // by log-likelihood per character
  bool cached = false;
};

// A context and continuation as token ids, split as lm-eval does it: spaces at the end of the
// context go to the continuation, both are tokenized together, and what exceeds the context's own
// number of tokens is the continuation. An empty context becomes the prefix token (BOS, else EOS).
struct EncodedRequest {
  std::vector<int32_t> context;
  std::vector<int32_t> continuation;
};
EncodedRequest encode_request(const Tokenizer& tokenizer, const TaskRequest& request);

// Throws usage (a continuation longer than the model's context, tokens outside of its vocabulary)
// or `failed` (NaN), naming the item. Journal: the answers, item by item.
TaskResult measure_task(const Model& model, const Tokenizer& tokenizer, const TaskData& data,
                        const Context& context, WorkJournal* journal = nullptr);

// The scores of the answers.
TaskResult score_answers(const TaskData& data, std::vector<std::vector<double>> answers);

// Throws usage unless both answered the same items.
TaskFlips count_flips(const TaskData& data, const TaskResult& result, const TaskResult& baseline);

// The part of lm-eval's results file about tasks; `model` is the folder or file.
Json lm_eval_json(const std::vector<TaskResult>& results, const std::string& model,
                  const Tokenizer& tokenizer, const ModelConfig& config);

}  // namespace qwb
