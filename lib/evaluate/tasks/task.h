// Multiple-choice and last-word tasks from local jsonl files, asked and scored as lm-eval (0.4.13)
// does it: the same preprocessing, contexts, few-shot examples, tokenization and scores.
//
// A task is one file and one line in task_list.cpp: how a line of its jsonl becomes a TaskDocument.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb {

// One question. Either one context and several continuations, or several contexts and one
// continuation (WinoGrande); a last-word task has one of each.
struct TaskDocument {
  std::vector<std::string> contexts;
  std::vector<std::string>
      continuations;                 // without the space before them; of last-word tasks with it
  std::vector<std::string> choices;  // whose characters acc_norm divides by
  int64_t gold = 0;                  // the right choice
};

struct Task {
  std::string name;
  double version = 1;
  std::string summary;
  bool last_word =
      false;  // acc: is every token of the continuation the most likely one; and perplexity
  bool normalized = false;     // reports acc_norm
  std::string label_key = {};  // where published files have answers apart (NAME-labels.lst, a line
                               // each): the field they belong into
  std::function<TaskDocument(const Json& line, const std::string& where)> read;
};
const std::vector<Task>& tasks();
// Throws usage, listing the names.
const Task& find_task(std::string_view name);

Task hellaswag_task();
Task arc_task(const std::string& name);
Task piqa_task();
Task winogrande_task();
Task lambada_task(const std::string& name);
Task boolq_task();

// One context and continuation to score, as texts; the continuation begins with the space between
// them.
struct TaskRequest {
  std::string context;
  std::string continuation;
};

struct TaskItem {
  std::vector<TaskRequest> requests;  // one per choice
  std::vector<int64_t>
      lengths;  // of the choices, in characters (not bytes: as lm-eval's acc_norm does)
  int64_t gold = 0;
};

struct TaskOptions {
  std::string name;
  Path file;
  int64_t shots = 0;
  int64_t limit = 0;   // the first items only; 0: all
  Path examples = {};  // few-shot examples come from this file (the training part, say); empty:
                       // from `file` itself, never an item's own
  Path labels = {};  // the answers, a line each; empty: in `file`, or beside it as NAME-labels.lst
  uint32_t seed = 1234;  // of the draw of examples: lm-eval's default
};
// "NAME=FILE[,shots=N][,limit=N][,examples=FILE][,labels=FILE][,seed=N]". Throws usage.
TaskOptions parse_task_options(const std::string& text);

struct TaskData {
  const Task* task = nullptr;
  TaskOptions options;
  int64_t original = 0;  // items in the file
  std::vector<TaskItem> items;
  std::string hash;  // XXH3-128 of all requests, lengths and answers
};
// Throws not_found, `failed` naming file and line, usage for more examples than there are.
TaskData load_task(const TaskOptions& options);

}  // namespace qwb
