// Calibration sets: text from files, cut into windows of tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/progress.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {

struct CalibrationRequest {
  // What the user called it: "lima", "demo", or a path; the tools know which file that is.
  std::string source = "demo";
  int64_t samples = 128;  // windows
  int64_t length = 512;   // tokens a window
  // Absent: the first windows of the text. Present: windows drawn without replacement with this seed.
  std::optional<uint64_t> seed;
  bool documents = false;  // one window a document (its beginning; shorter documents are left out) instead of
                           // a running text
};

struct CalibrationSet {
  std::string name;
  std::vector<std::vector<int32_t>> windows;  // all of the same length
  int64_t length = 0;
  std::string hash;  // XXH3-128 of the windows' tokens
  Json manifest;     // for qwb.json: name, hash, tokens, windows, length, seed, template

  int64_t tokens() const { return static_cast<int64_t>(windows.size()) * length; }
};

// Turns the messages of one conversation ([{role, content}, ...]) into text: a chat template.
using RenderChat = std::function<std::string(const Json& messages)>;

// The texts of a file: a .txt is one text; each line of a .jsonl gives one, from its field `text` (string),
// `conversations` (strings in turn order, or {from, value}) or `messages` ({role, content}). Turns are joined
// by a blank line, or rendered by `chat` if there is one. Throws `failed` naming the line that is broken.
std::vector<std::string> calibration_texts(const Path& file, const RenderChat& chat);

// Texts joined by a blank line, tokenized once without special tokens and cut into disjoint windows. Throws
// `failed` if there is not one whole window; says through `progress` when there are fewer than asked for.
CalibrationSet make_calibration_set(const CalibrationRequest& request, const Path& file,
                                    const Tokenizer& tokenizer, const RenderChat& chat, Progress& progress);

}  // namespace qwb
