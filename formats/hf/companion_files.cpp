// Which files beside the weights go with a model wherever it goes.
#include <algorithm>
#include <array>
#include <cctype>
#include <iterator>

#include "formats/hf/checkpoint.h"
#include "lib/base/text.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

constexpr char kTemplates[] = "additional_chat_templates";

// What loading and chatting need: of a tokenizer every form, since each library reads another one.
constexpr std::array kSideFiles = {"generation_config.json",
                                   "special_tokens_map.json",
                                   "added_tokens.json",
                                   "vocab.json",
                                   "vocab.txt",
                                   "merges.txt",
                                   "spiece.model",
                                   "preprocessor_config.json",
                                   "processor_config.json"};
constexpr std::array kSidePrefixes = {"tokenizer", "chat_template", "sentencepiece"};
// Licences ask to be handed on. README.md stays: it tells the original's figures, and transformers'
// save_pretrained writes none either.
constexpr std::array kLegalWords = {"license", "licence",   "notice",      "use_policy",
                                    "copying", "copyright", "attribution", "terms_of_use"};
constexpr std::array kLegalEndings = {"", ".txt", ".md", ".rst", ".pdf", ".html", ".rtf"};
constexpr std::array kWeightEndings = {".safetensors", ".bin",  ".pt", ".pth",
                                       ".gguf",        ".onnx", ".h5"};

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool is_legal(const std::string& name) {
  const std::string lower = lower_case(name);
  const bool named = std::any_of(kLegalWords.begin(), kLegalWords.end(), [&](const char* word) {
    return lower.find(word) != std::string::npos;
  });
  // "LICENSE-MODEL" and "Llama3.1_LICENSE" have no ending that counts as one.
  const size_t dot = lower.rfind('.');
  const std::string ending = dot == std::string::npos ? "" : lower.substr(dot);
  const bool text =
      std::find(kLegalEndings.begin(), kLegalEndings.end(), ending) != kLegalEndings.end() ||
      std::any_of(kLegalWords.begin(), kLegalWords.end(),
                  [&](const char* word) { return ending.find(word) != std::string::npos; });
  return named && text;
}

bool is_side_file(const std::string& name) {
  const auto starts = [&](const char* prefix) { return name.starts_with(prefix); };
  const auto ends = [&](const char* ending) { return name.ends_with(ending); };
  if (std::any_of(kWeightEndings.begin(), kWeightEndings.end(), ends)) return false;
  return std::find(kSideFiles.begin(), kSideFiles.end(), name) != kSideFiles.end() ||
         std::any_of(kSidePrefixes.begin(), kSidePrefixes.end(), starts) ||
         name.ends_with(".tiktoken");
}

template <typename Wanted>
void add_files(const Path& folder, const std::string& prefix, Wanted wanted,
               std::vector<std::string>& names) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (wanted(name) && !is_temporary_name(name) && fs::is_regular_file(it->path(), ignored))
      names.push_back(prefix + name);
  }
  if (error) throw system_error("cannot list", folder.string(), error.value());
}

}  // namespace

std::vector<std::string> legal_files(const Path& folder) {
  std::vector<std::string> names;
  add_files(folder, "", is_legal, names);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> companion_files(const Path& folder) {
  std::vector<std::string> names;
  add_files(
      folder, "", [](const std::string& name) { return is_side_file(name) || is_legal(name); },
      names);
  std::error_code ignored;
  if (fs::is_directory(folder / kTemplates, ignored)) {
    add_files(
        folder / kTemplates, std::string(kTemplates) + "/",
        [](const std::string& name) { return name.ends_with(".jinja"); }, names);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace qwb
