// The text of `--text wikitext2`: wiki.test.raw of wikitext-2-raw-v1, wherever it is.
#pragma once

#include <string>

#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/evaluate/text.h"

namespace qwb {

// From the folder QWB_DATA: wiki.test.raw, wikitext-2-raw/wiki.test.raw, wikitext-2-raw-v1.zip, or
// wikitext2.jsonl (the rows of the Hub's Salesforce/wikitext). Else from the Hub's ggml-org/ci,
// which has the zip file that llama.cpp's scripts download; what its cache has is used without a
// request. Throws not_found with the ways to get it.
EvaluationText wikitext2_text(const Context& context);

// A member of a zip file, by the end of its name; at most `limit` bytes. Throws `failed` for a
// damaged file.
std::string read_zip_member(const Path& archive, const std::string& name_end, int64_t limit);

}  // namespace qwb
