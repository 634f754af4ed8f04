// Calibration sets: text from files, cut into windows of tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/quantize/calibrate/conversation.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {

// One text of a calibration set.
struct CalibrationSource {
  std::string name;   // as the user calls it: "lima", "demo", a path, a data set of the Hub
  double weight = 1;  // its share of the windows, relative to the others'
};
// "NAME" or "NAME:WEIGHT" (a file of that whole name comes first). Throws usage for a weight that
// is not above 0.
CalibrationSource parse_calibration_source(const std::string& text);

struct CalibrationRequest {
  std::vector<CalibrationSource> sources = {};
  int64_t samples = 128;  // windows
  int64_t length = 512;   // tokens a window
  // Absent: the first windows of each text. Present: windows drawn without replacement with this
  // seed.
  std::optional<uint64_t> seed = {};
  bool documents = false;  // one window a document (its beginning; shorter documents are left out)
                           // instead of a running text
};

struct CalibrationSet {
  std::string name;
  std::vector<std::vector<int32_t>> windows;  // all of the same length
  int64_t length = 0;
  std::string hash;  // XXH3-128 of the windows' tokens
  // For qwb.json: name, hash, tokens, windows, length, seed, documents, chat_template, tokenizer
  // (its hash); of several sources also sources: [{name, weight, windows}].
  Json manifest;

  int64_t tokens() const { return static_cast<int64_t>(windows.size()) * length; }
};

struct CalibrationTexts {
  std::vector<std::string> texts;
  int64_t calls_left_out =
      0;  // rows whose calls of tools are not in the text, as there was no template
};
// The texts of a file: a .txt is one text; each line of a .jsonl gives one, from its field `text`,
// `page` or `content` (text_field()) or as a conversation (conversation.h), rendered by `chat` if
// there is one. Throws naming
// the line that is broken, that no shape fits, or that the template refuses.
CalibrationTexts calibration_texts(const Path& file, const RenderChat& chat);

// Each source's texts joined by a blank line, tokenized once without special tokens and cut into
// disjoint windows; the sources' windows one after the other, their numbers in proportion to the
// weights. Where a source has fewer, the others give more. files: those of the sources, in their
// order. Throws `failed` if a source has not one whole window, usage if there are fewer samples
// than sources; says through `context` when there are fewer windows than asked for.
CalibrationSet make_calibration_set(const CalibrationRequest& request,
                                    const std::vector<Path>& files, const Tokenizer& tokenizer,
                                    const RenderChat& chat, const Context& context);

// How many windows each source gives: `samples` in proportion to the weights (largest remainders
// first, then the order), at most what is available, what one lacks spread over the others in the
// same way.
std::vector<int64_t> apportion(const std::vector<double>& weights,
                               const std::vector<int64_t>& available, int64_t samples);

// XXH3-128 of all tokens, the windows one after the other.
std::string windows_hash(const std::vector<std::vector<int32_t>>& windows);

// A set on disk, formats/qwb/qwbcalib.md: the tokens, so that the same windows can be used again,
// elsewhere too.
inline constexpr const char* kCalibrationExtension = ".qwbcalib";
std::string calibration_set_text(const CalibrationSet& set);
// Whether the file begins as such a set does.
bool is_calibration_file(const Path& file);
// Throws usage if the set was made with another tokenizer, `failed` for damage, unsupported for
// another version.
CalibrationSet load_calibration_set(const Path& file, const Tokenizer& tokenizer);

}  // namespace qwb
