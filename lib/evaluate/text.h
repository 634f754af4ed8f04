// A text to measure on, as documents: a plain file is one, a jsonl file has one a line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/file.h"

namespace qwb {

struct EvaluationDocument {
  std::string text;  // what the model reads
  // Of the document before any preprocessing, as lm-eval counts: pieces between runs of white space
  // (white space at an end adds an empty piece), and bytes of UTF-8.
  int64_t words = 0;
  int64_t bytes = 0;
};

struct EvaluationText {
  std::string name;  // for errors
  std::string hash;  // XXH3-128 of the source's bytes
  // The protocols that read one text: a plain file's bytes; the rows of a jsonl file joined by two
  // newlines, as the GPTQ code and transformers' page on perplexity join the rows of a data set.
  std::string whole;
  // llama.cpp reads the file's bytes; the same as `whole` but for wikitext_text().
  std::string raw;
  std::vector<EvaluationDocument> documents;  // for lm-eval
};

// One document.
EvaluationText plain_text(std::string text, const std::string& name);
// One document a line: {"text": ...}, {"content": ...}, or {"page": ...}, which the model reads as
// lm-eval's task wikitext detokenizes it. Empty lines are skipped. Throws `failed` naming file and
// line.
EvaluationText jsonl_text(std::string_view lines, const std::string& name);
// wiki.test.raw in the three forms in which tools read it: the rows of Hugging Face's
// wikitext-2-raw-v1 (its lines, each with its newline, blank ones empty) joined by two newlines;
// its bytes; the pages of EleutherAI/wikitext_document_level, which begin at lines "= Title =".
EvaluationText wikitext_text(std::string raw, const std::string& name);
// The same text from the rows of wikitext-2-raw-v1, {"text": ...} a line, of which the file's lines
// can be had back: blank ones (" \n" in the file) are empty rows. Throws `failed` naming file and
// line.
EvaluationText wikitext_jsonl_text(std::string_view lines, const std::string& name);
// By the file's name: .jsonl as above, all else as plain text, both read by read_text_file().
// Throws not_found, `failed`, unsupported.
EvaluationText read_evaluation_text(const Path& file);

// lm-eval's wikitext_detokenizer (lm_eval/tasks/wikitext/preprocess_wikitext.py).
std::string detokenize_wikitext(std::string text);
// len(re.split(r"\s+", text)) of Python.
int64_t count_words(std::string_view text);

}  // namespace qwb
