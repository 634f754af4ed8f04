#include "lib/tune/documents.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/text_file.h"

namespace qwb {
namespace {

// The tokens [first, end) that an assistant wrote.
struct AnswerSpan {
  size_t first, end;
};

int64_t shared_prefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

// One conversation on its way to a document.
class Rendering {
 public:
  Rendering(const Conversation& conversation, const Tokenizer& tokenizer, const RenderTurns& render,
            std::string where)
      : conversation_(conversation),
        tokenizer_(tokenizer),
        render_(render),
        where_(std::move(where)),
        text_(text(conversation.messages.size(), false)),
        tokens_(tokenizer.encode(text_, false)) {}

  const std::vector<int32_t>& tokens() const { return tokens_; }
  std::vector<AnswerSpan> answers() const {
    std::vector<AnswerSpan> spans;
    for (size_t i = 0; i < conversation_.messages.size(); ++i) {
      if (json_string(conversation_.messages[i], "role", where_, "") != "assistant") continue;
      spans.push_back({place(text(i, true), i), place(text(i + 1, false), i)});
    }
    return spans;
  }

 private:
  // What the template writes of the first messages.
  std::string text(size_t count, bool add_generation_prompt) const {
    Conversation part = conversation_;
    part.messages.erase(part.messages.begin() + static_cast<Json::difference_type>(count),
                        part.messages.end());
    try {
      return render_(part, add_generation_prompt);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted) throw;
      throw Error(error.kind(), error.what(), where_);
    }
  }

  // The token behind this beginning. Where the next letters join its last ones in one token, that
  // token counts as what comes behind.
  size_t place(const std::string& beginning, size_t message) const {
    if (!text_.starts_with(beginning)) {
      throw Error(ErrorKind::unsupported,
                  "the template writes the messages before number " + std::to_string(message + 1) +
                      " in another way once more follow",
                  where_, "which tokens are the answer cannot be told; use --loss all");
    }
    const std::vector<int32_t> ids = tokenizer_.encode(beginning, false);
    const int64_t shared = shared_prefix(ids, tokens_);
    constexpr int64_t kJoined = 4;
    if (std::ssize(ids) - shared > kJoined) {
      throw Error(ErrorKind::unsupported,
                  "the tokens before message " + std::to_string(message + 1) +
                      " change with what follows them",
                  where_, "which tokens are the answer cannot be told; use --loss all");
    }
    return static_cast<size_t>(shared);
  }

  const Conversation& conversation_;
  const Tokenizer& tokenizer_;
  const RenderTurns& render_;
  std::string where_;
  std::string text_;
  std::vector<int32_t> tokens_;
};

class Reader {
 public:
  Reader(const DocumentRequest& request, const Tokenizer& tokenizer, const RenderTurns& render)
      : request_(request), tokenizer_(tokenizer), render_(render) {}

  void text(const std::string& text, int64_t row) {
    TrainingDocument document;
    document.row = row;
    document.tokens = tokenizer_.encode(text, true);
    if (!request_.end_tokens.empty() && (document.tokens.empty() || !ends(document.tokens.back())))
      document.tokens.push_back(static_cast<int32_t>(request_.end_tokens.front()));
    document.weights.assign(document.tokens.size(), 1);
    add(std::move(document));
  }

  void turns(const Conversation& conversation, int64_t row, const std::string& where) {
    set_.has_turns = true;
    const Rendering rendering(conversation, tokenizer_, render_, where);
    TrainingDocument document;
    document.row = row;
    document.tokens = rendering.tokens();
    document.weights.assign(document.tokens.size(), static_cast<float>(request_.prompt_weight));
    if (request_.prompt_weight < 1) {
      for (const AnswerSpan& span : rendering.answers()) {
        ++set_.answers;
        const auto begin = document.tokens.begin();
        set_.ended += std::any_of(begin + static_cast<int64_t>(span.first),
                                  begin + static_cast<int64_t>(span.end),
                                  [&](int32_t token) { return ends(token); })
                          ? 1
                          : 0;
        std::fill(document.weights.begin() + static_cast<int64_t>(span.first),
                  document.weights.begin() + static_cast<int64_t>(span.end), 1.0f);
      }
    }
    add(std::move(document));
  }

  DocumentSet finish() {
    Hasher hasher;
    for (const TrainingDocument& document : set_.documents) {
      hasher.bytes(std::as_bytes(std::span(document.tokens)));
      hasher.bytes(std::as_bytes(std::span(document.weights)));
    }
    set_.hash = hasher.hex();
    return std::move(set_);
  }

 private:
  bool ends(int32_t token) const {
    return std::ranges::find(request_.end_tokens, int64_t{token}) != request_.end_tokens.end();
  }

  void add(TrainingDocument document) {
    const auto length = static_cast<size_t>(request_.length);
    if (document.tokens.size() > length) {
      ++set_.cut;
      document.tokens.resize(length);
      document.weights.resize(length);
    }
    if (!document.weights.empty()) document.weights.front() = 0;  // nothing comes before it
    if (document.supervised() == 0) {
      ++set_.left_out;
      return;
    }
    set_.documents.push_back(std::move(document));
  }

  const DocumentRequest& request_;
  const Tokenizer& tokenizer_;
  const RenderTurns& render_;
  DocumentSet set_;
};

void read_lines(const Path& file, Reader& reader, const Context& context) {
  const std::string text = read_text_file(file);
  int64_t row = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line(text.data() + begin, end - begin);
    begin = end + 1;
    ++row;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    context.stop.check();
    const std::string where = file.string() + ":" + std::to_string(row);
    const Json json = parse_json(line, where);
    const char* field = text_field(json);
    if (field != nullptr && has_turns(json)) {
      throw Error(ErrorKind::unsupported,
                  std::string("the row has both '") + field + "' and a conversation", where,
                  "leave out what is not to be learned");
    }
    if (field != nullptr) {
      reader.text(json_string(json, field, where), row);
    } else {
      reader.turns(parse_conversation(line, where), row, where);
    }
  }
}

}  // namespace

double TrainingDocument::weight() const {
  return std::accumulate(weights.begin(), weights.end(), 0.0);
}

int64_t TrainingDocument::supervised() const {
  return std::count_if(weights.begin(), weights.end(), [](float weight) { return weight > 0; });
}

int64_t DocumentSet::tokens() const {
  int64_t sum = 0;
  for (const TrainingDocument& document : documents) sum += std::ssize(document.tokens);
  return sum;
}

int64_t DocumentSet::supervised() const {
  int64_t sum = 0;
  for (const TrainingDocument& document : documents) sum += document.supervised();
  return sum;
}

DocumentSet read_documents(const DocumentRequest& request, const Tokenizer& tokenizer,
                           const RenderTurns& render, const Context& context) {
  Reader reader(request, tokenizer, render);
  if (is_json_lines(request.file)) {
    read_lines(request.file, reader, context);
  } else {
    reader.text(read_text_file(request.file), 1);
  }
  DocumentSet set = reader.finish();
  if (set.documents.empty()) {
    throw Error(
        ErrorKind::usage, "no token of the data would be learned", request.file.string(),
        set.left_out > 0
            ? "its " + std::to_string(set.left_out) + " rows have no answer within the first " +
                  std::to_string(request.length) + " tokens: raise --length, or use --loss all"
            : "the file is empty");
  }
  return set;
}

std::string marked_text(const TrainingDocument& document, const Tokenizer& tokenizer) {
  std::string text;
  const std::span<const int32_t> tokens(document.tokens);
  for (size_t begin = 0; begin < tokens.size();) {
    size_t end = begin;
    const bool counts = document.weights[begin] > 0;
    while (end < tokens.size() && (document.weights[end] > 0) == counts) ++end;
    const std::string part = tokenizer.decode(tokens.subspan(begin, end - begin), false);
    text += counts ? part : "[[" + part + "]]";
    begin = end;
  }
  return text;
}

}  // namespace qwb
