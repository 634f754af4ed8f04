// The one reader of texts from users: texts to measure on or to calibrate with, tasks, prompts.
// Anything but UTF-8 text is refused by name instead of being measured as if it were text.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb {

// The text of a file as it is (line ends too), without a UTF-8 byte order mark. Throws not_found
// and `failed` as read_text() does, and as check_text().
std::string read_text_file(const Path& file, int64_t max_bytes = int64_t{1} << 34);

// The same for bytes that have been read already, from standard input say. Throws unsupported for
// UTF-16 and UTF-32 (by their mark, or the zeros between Latin letters), archives, models and
// pictures (by their first bytes) and Git LFS pointers; `failed` for bytes that are no UTF-8, with
// the place of the first.
std::string checked_text(std::string bytes, const std::string& where);

// The field of a row that is its text, read in the same way to measure on and to calibrate with:
// "text", "page" (of wikitext_document_level) or, in a row that is no turn of a conversation,
// "content". Null if there is none of them.
const char* text_field(const Json& row);
// What a row has instead, for messages: "messages, id"; empty if it has no fields.
std::string row_fields(const Json& row);

// True if the file holds a JSON value a line: .jsonl, .ndjson, .jsonlines or .jl. Throws
// unsupported for .json, .csv and .tsv, which are neither that nor a text.
bool is_json_lines(const Path& file);

}  // namespace qwb
