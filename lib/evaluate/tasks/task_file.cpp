#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/text_file.h"
#include "lib/evaluate/tasks/python_random.h"
#include "lib/evaluate/tasks/task.h"
#include "lib/evaluate/unicode_text.h"

namespace qwb {
namespace {

struct Line {
  Json json;
  TaskDocument document;
};

std::string line_place(const Path& file, int64_t number) {
  return fmt::format("{}:{}", file.string(), number);
}

// Answers that come apart from their questions, a line each.
class Labels {
 public:
  Labels(const Task& task, const Path& file, const Path& labels)
      : key_(task.label_key), file_(labels), named_(!labels.empty()) {
    const Path beside = file.parent_path() / (file.stem().string() + "-labels.lst");
    if (key_.empty() && !labels.empty())
      throw Error(ErrorKind::usage, "the answers of " + task.name + " stand in its lines",
                  labels.string());
    std::error_code ignored;
    if (file_.empty() && !key_.empty() && std::filesystem::exists(beside, ignored)) file_ = beside;
  }
  // Answers that the user named come before those in the lines.
  void complete(Json& line) {
    if (file_.empty() || !line.is_object() || (json_has(line, key_) && !named_)) return;
    if (lines_.empty()) read();
    if (next_ >= lines_.size())
      throw Error(ErrorKind::failed, "there are fewer answers than questions", file_.string());
    line[key_] = lines_[next_++];
  }
  void require_end() const {
    if (next_ != 0 && next_ != lines_.size())
      throw Error(ErrorKind::failed,
                  fmt::format("there are {} answers for {} questions", lines_.size(), next_),
                  file_.string());
  }

 private:
  void read() {
    std::istringstream text(read_text_file(file_));
    for (std::string line; std::getline(text, line);) {
      if (!strip(line).empty()) lines_.emplace_back(strip(line));
    }
  }
  std::string key_;
  Path file_;
  bool named_;
  std::vector<std::string> lines_;
  size_t next_ = 0;
};

std::vector<Line> read_lines(const Task& task, const Path& file, const Path& label_file = {}) {
  std::vector<Line> lines;
  Labels labels(task, file, label_file);
  std::istringstream text(read_text_file(file));
  int64_t number = 0;
  for (std::string line; std::getline(text, line);) {
    ++number;
    if (strip(line).empty()) continue;
    const std::string where = line_place(file, number);
    Json json = parse_json(line, where);
    labels.complete(json);
    TaskDocument document = task.read(json, where);
    for (const std::string& continuation : document.continuations) {
      if (strip(continuation).empty()) throw Error(ErrorKind::failed, "a choice is empty", where);
    }
    lines.push_back({std::move(json), std::move(document)});
  }
  labels.require_end();
  if (lines.empty()) throw Error(ErrorKind::failed, "the task file has no items", file.string());
  return lines;
}

// An item with its answer, as an example for another one.
std::string example_text(const TaskDocument& d) {
  const auto at = [&](const std::vector<std::string>& list) {
    return list.size() > 1 ? list[d.gold] : list.front();
  };
  return at(d.contexts) + " " + at(d.continuations) + "\n\n";
}

// lm_eval/api/samplers.py, ContextSampler.sample: one generator for all items in turn. From the
// items' own file one more is drawn, and the item itself is taken out.
class Examples {
 public:
  Examples(const std::vector<Line>& pool, bool own, const TaskOptions& options)
      : pool_(pool), own_(own), shots_(options.shots), random_(options.seed) {
    if (shots_ + (own ? 1 : 0) > std::ssize(pool))
      throw Error(ErrorKind::usage,
                  fmt::format("{} examples cannot be drawn from {} items", shots_, pool.size()),
                  (own ? options.file : options.examples).string());
  }
  std::string text(const Json& item) {
    if (shots_ == 0) return {};
    std::vector<int64_t> drawn = random_.sample(std::ssize(pool_), shots_ + (own_ ? 1 : 0));
    if (own_) std::erase_if(drawn, [&](int64_t i) { return pool_[i].json == item; });
    if (std::ssize(drawn) < shots_) drawn = among_others(item);
    drawn.resize(static_cast<size_t>(shots_));
    std::string text;
    for (const int64_t i : drawn) text += example_text(pool_[i].document);
    return text;
  }

 private:
  // The file has the item more than once.
  std::vector<int64_t> among_others(const Json& item) {
    std::vector<int64_t> others, drawn;
    for (int64_t i = 0; i < std::ssize(pool_); ++i) {
      if (pool_[i].json != item) others.push_back(i);
    }
    for (const int64_t i : random_.sample(std::ssize(others), shots_)) drawn.push_back(others[i]);
    return drawn;
  }
  const std::vector<Line>& pool_;
  bool own_;
  int64_t shots_;
  PythonRandom random_;
};

TaskItem make_item(const Task& task, const TaskDocument& d, const std::string& examples) {
  TaskItem item;
  item.gold = d.gold;
  const std::string space = task.last_word ? "" : " ";
  for (const std::string& context : d.contexts) {
    for (const std::string& continuation : d.continuations)
      item.requests.push_back({examples + context, space + continuation});
  }
  for (const std::string& choice : d.choices)
    item.lengths.push_back(std::max<int64_t>(1, count_characters(choice)));
  return item;
}

std::string hash_of(const TaskData& data) {
  Hasher hasher;
  for (const TaskItem& item : data.items) {
    for (const TaskRequest& request : item.requests)
      hasher.field(request.context).field(request.continuation);
    for (const int64_t length : item.lengths) hasher.field(std::to_string(length));
    hasher.field(std::to_string(item.gold));
  }
  return hasher.hex();
}

int64_t option_number(const std::string& key, const std::string& value) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < 0 ||
      number > UINT32_MAX)
    throw Error(ErrorKind::usage, "--task: " + key + " must be a number, not '" + value + "'");
  return number;
}

}  // namespace

TaskOptions parse_task_options(const std::string& text) {
  TaskOptions options;
  const size_t equals = text.find('=');
  if (equals == std::string::npos)
    throw Error(ErrorKind::usage, "--task needs NAME=FILE, not '" + text + "'");
  options.name = find_task(text.substr(0, equals)).name;
  std::istringstream rest(text.substr(equals + 1));
  std::string part;
  std::getline(rest, part, ',');
  options.file = part;
  if (part.empty()) throw Error(ErrorKind::usage, "--task " + options.name + " needs a file");
  while (std::getline(rest, part, ',')) {
    const size_t split = part.find('=');
    const std::string key = part.substr(0, split),
                      value = split == std::string::npos ? "" : part.substr(split + 1);
    if (key == "shots") {
      options.shots = option_number(key, value);
    } else if (key == "limit") {
      options.limit = option_number(key, value);
    } else if (key == "seed") {
      options.seed = static_cast<uint32_t>(option_number(key, value));
    } else if (key == "examples") {
      options.examples = value;
    } else if (key == "labels") {
      options.labels = value;
    } else {
      throw Error(ErrorKind::usage, "--task: unknown '" + part + "'", {},
                  "there are: shots, limit, examples, labels, seed");
    }
  }
  return options;
}

TaskData load_task(const TaskOptions& options) {
  TaskData data;
  data.task = &find_task(options.name);
  data.options = options;
  const std::vector<Line> lines = read_lines(*data.task, options.file, options.labels);
  data.original = std::ssize(lines);
  const bool own = options.examples.empty();
  const std::vector<Line> other =
      own || options.shots == 0 ? std::vector<Line>() : read_lines(*data.task, options.examples);
  Examples examples(own || options.shots == 0 ? lines : other, own && options.shots > 0, options);
  for (int64_t i = 0;
       i < (options.limit > 0 ? std::min(options.limit, data.original) : data.original); ++i) {
    const Line& line = lines[i];
    data.items.push_back(make_item(*data.task, line.document, examples.text(line.json)));
  }
  data.hash = hash_of(data);
  return data;
}

}  // namespace qwb
