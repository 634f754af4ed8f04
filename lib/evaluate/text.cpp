#include "lib/evaluate/text.h"

#include <fmt/format.h>

#include <utility>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/json.h"
#include "lib/base/text_file.h"
#include "lib/evaluate/unicode_text.h"
#include "lib/quantize/calibrate/conversation.h"

namespace qwb {
namespace {

EvaluationDocument document(std::string text, std::string_view original) {
  return {std::move(text), count_words(original), static_cast<int64_t>(original.size())};
}

void require_text(const EvaluationText& text) {
  if (text.whole.empty()) throw Error(ErrorKind::failed, "the text is empty", text.name);
}

// The field to measure on. A conversation is none: which roles and marks belong to its text is for
// a model's template to say, and figures of different models could not be compared.
std::string evaluated_field(const Json& row, const std::string& where) {
  if (json_has(row, "page")) return "page";
  const char* field = text_field(row);
  if (field != nullptr && (json_has(row, "text") || !has_turns(row))) return field;
  const std::string has = row_fields(row);
  throw Error(ErrorKind::failed,
              has_turns(row) ? "the row is a conversation (it has " + has + "), not a text"
                             : "the row has no text" + (has.empty() ? "" : ": it has " + has),
              where, "rows with text, page or content would do");
}

// re.sub("OPEN\s*([^CLOSE]*?)\s*CLOSE", "OPEN\1CLOSE", text)
std::string trim_inside(std::string_view text, char open, char close) {
  std::string result;
  size_t done = 0;
  for (size_t begin = text.find(open); begin != std::string_view::npos;
       begin = text.find(open, done)) {
    const size_t end = text.find(close, begin + 1);
    if (end == std::string_view::npos) break;
    result.append(text, done, begin + 1 - done);
    result.append(strip(text.substr(begin + 1, end - begin - 1)));
    result += close;
    done = end + 1;
  }
  return result.append(text, done);
}

// re.sub(r"/' [0-9]/", r"/'[0-9]/", text): the replacement is meant as a pattern, but Python writes
// it as it is.
std::string replace_slashed_digits(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const bool match = text.compare(i, 3, "/' ") == 0 && i + 4 < text.size() &&
                       text[i + 3] >= '0' && text[i + 3] <= '9' && text[i + 4] == '/';
    result += match ? "/'[0-9]/" : std::string(1, text[i]);
    i += match ? 5 : 1;
  }
  return result;
}

// Calls use(line without its newline, whether it had one) for every line; a text that ends in a
// newline has no empty line after it.
template <class Use>
void for_lines(std::string_view text, const Use& use) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    const bool ended = end != std::string_view::npos;
    use(text.substr(begin, ended ? end - begin : end), ended);
    begin = ended ? end + 1 : text.size();
  }
}

std::string wikitext_rows(std::string_view raw) {
  std::string rows;
  bool first = true;
  for_lines(raw, [&](std::string_view line, bool ended) {
    if (!first) rows += "\n\n";
    first = false;
    if (!strip(line).empty()) rows.append(line).append(ended ? "\n" : "");
  });
  return rows;
}

// A line "= Title =" begins a page; deeper headings, "= = Section = =", do not. (data.split("\n")
// in Python has one more empty line after a final newline.)
std::vector<std::string> wikitext_pages(std::string_view raw) {
  std::vector<std::string> pages;
  std::string page;
  bool empty = true;
  const auto finish = [&] {
    if (!strip(page).empty()) pages.push_back(page);
    page.clear();
    empty = true;
  };
  const auto add = [&](std::string_view line) {
    const std::string joined = replace_all(replace_all(line, "= = =", "==="), "= =", "==");
    const std::string_view heading = strip(joined);
    if (heading.starts_with("= ") && heading.ends_with(" =")) finish();
    if (!empty) page += '\n';
    page.append(line);
    empty = false;
  };
  for_lines(raw, [&](std::string_view line, bool) { add(line); });
  if (raw.ends_with('\n')) add({});
  finish();
  return pages;
}

}  // namespace

int64_t count_words(std::string_view text) {
  int64_t runs = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size();) {
    const size_t space = space_at(text, i);
    runs += space > 0 && !inside;
    inside = space > 0;
    i += space > 0 ? space : 1;
  }
  return runs + 1;
}

std::string detokenize_wikitext(std::string s) {
  const auto replace = [&s](std::string_view from, std::string_view to) {
    s = replace_all(s, from, to);
  };
  replace("s '", "s'");
  s = replace_slashed_digits(s);
  for (const char* mark : {"-", ",", "."}) replace(fmt::format(" @{}@ ", mark), mark);
  for (const char* mark : {":", ";", ".", "!", "?", ","})
    replace(fmt::format(" {} ", mark), fmt::format("{} ", mark));
  s = trim_inside(s, '(', ')');
  s = trim_inside(s, '[', ']');
  s = trim_inside(s, '{', '}');
  s = trim_inside(s, '"', '"');
  s = trim_inside(s, '\'', '\'');
  replace("= = = =", "====");
  replace("= = =", "===");
  replace("= =", "==");
  replace(" \u00b0 ", "\u00b0");
  replace(" \n", "\n");
  replace("\n ", "\n");
  replace(" N ", " 1 ");
  replace(" 's", "'s");
  return s;
}

EvaluationText plain_text(std::string text, const std::string& name) {
  EvaluationText result;
  result.name = name;
  result.hash = hash_hex(as_bytes(text));
  result.documents.push_back(document(text, text));
  result.raw = text;
  result.whole = std::move(text);
  require_text(result);
  return result;
}

EvaluationText jsonl_text(std::string_view lines, const std::string& name) {
  EvaluationText result;
  result.name = name;
  result.hash = hash_hex(as_bytes(lines));
  int64_t number = 0;
  for_lines(lines, [&](std::string_view line, bool) {
    ++number;
    if (strip(line).empty()) return;
    const std::string where = fmt::format("{}:{}", name, number);
    const Json json = parse_json(line, where);
    const std::string field = evaluated_field(json, where);
    const bool page = field == "page";
    const std::string text = json_string(json, field, where);
    result.documents.push_back(document(page ? detokenize_wikitext(text) : text, text));
    result.whole += (result.documents.size() > 1 ? "\n\n" : "") + text;
  });
  result.raw = result.whole;
  require_text(result);
  return result;
}

EvaluationText wikitext_text(std::string raw, const std::string& name) {
  EvaluationText result;
  result.name = name;
  result.hash = hash_hex(as_bytes(raw));
  result.whole = wikitext_rows(raw);
  for (const std::string& page : wikitext_pages(raw))
    result.documents.push_back(document(detokenize_wikitext(page), page));
  result.raw = std::move(raw);
  require_text(result);
  return result;
}

EvaluationText wikitext_jsonl_text(std::string_view lines, const std::string& name) {
  std::string raw;
  int64_t number = 0;
  for_lines(lines, [&](std::string_view line, bool) {
    ++number;
    if (strip(line).empty()) return;
    const std::string where = fmt::format("{}:{}", name, number);
    const std::string row = json_string(parse_json(line, where), "text", where);
    raw += row.empty() ? " \n" : row;
  });
  return wikitext_text(std::move(raw), name);
}

EvaluationText read_evaluation_text(const Path& file) {
  const bool lines = is_json_lines(file);
  std::string text = read_text_file(file);
  return lines ? jsonl_text(text, file.string()) : plain_text(std::move(text), file.string());
}

}  // namespace qwb
