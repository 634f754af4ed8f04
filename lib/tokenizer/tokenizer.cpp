#include "lib/tokenizer/tokenizer.h"

#include "lib/base/error.h"
#include "lib/tokenizer/tokenizer_impl.h"
#include "lib/tokenizer/unicode.h"

namespace qwb {

using tokenizer::kText;
using tokenizer::TextPart;

namespace {

// Feeds the model, piece by piece.
struct ModelSink : tokenizer::PieceSink {
  ModelSink(const tokenizer::Model& to, tokenizer::Workspace& with, std::vector<int32_t>& out)
      : model(to), workspace(with), ids(out) {}
  void piece(std::string_view text, bool) override { model.encode(text, workspace, ids); }
  const tokenizer::Model& model;
  tokenizer::Workspace& workspace;
  std::vector<int32_t>& ids;
};

}  // namespace

void Tokenizer::Impl::encode_text(std::string_view text, std::vector<int32_t>& out) const {
  auto loan = workspaces.borrow();
  ModelSink sink(*model, *loan, out);
  std::vector<TextPart> raw, parts;
  raw_tokens.split(text, raw);
  std::string normalized;
  for (const TextPart& part : raw) {
    if (part.id >= 0) {
      out.push_back(part.id);
      continue;
    }
    std::string_view view = text.substr(part.begin, part.end - part.begin);
    bool at_start = part.begin == 0;
    if (normalizer) {
      normalized.assign(view);
      normalizer->apply(normalized, at_start);
      view = normalized;
    }
    parts.clear();
    normalized_tokens.split(view, parts);
    for (const TextPart& piece : parts) {
      if (piece.id >= 0) {
        out.push_back(piece.id);
      } else if (pre_tokenizer) {
        pre_tokenizer->cut(view.substr(piece.begin, piece.end - piece.begin),
                           at_start && piece.begin == 0, sink);
      } else {
        sink.piece(view.substr(piece.begin, piece.end - piece.begin), false);
      }
    }
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::string repaired;
  if (!tokenizer::is_valid_utf8(text)) {
    repaired = tokenizer::sanitize(text);
    text = repaired;
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  if (!add_special_tokens) {
    impl_->encode_text(text, ids);
    return ids;
  }
  for (const int32_t id : impl_->specials) {
    if (id == kText) {
      impl_->encode_text(text, ids);
    } else {
      ids.push_back(id);
    }
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  StreamDecoder decoder = stream(skip_special_tokens);
  std::string text;
  for (const int32_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

StreamDecoder Tokenizer::stream(bool skip_special_tokens) const {
  return {impl_, skip_special_tokens};
}

int64_t Tokenizer::vocab_size() const {
  return static_cast<int64_t>(impl_->tokens.size());
}

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  const int32_t id = impl_->ids.get(token);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

std::string Tokenizer::token_of(int32_t id) const {
  return id >= 0 && id < vocab_size() ? impl_->tokens[id] : "";
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && impl_->special[id];
}

std::optional<int32_t> Tokenizer::bos_id() const {
  return impl_->bos;
}
std::optional<int32_t> Tokenizer::eos_id() const {
  return impl_->eos;
}
std::string Tokenizer::note() const {
  return impl_->note;
}

const std::map<std::string, std::string>& Tokenizer::named_tokens() const {
  return impl_->named;
}

std::string Tokenizer::content_hash() const {
  return impl_->hash;
}

std::vector<int32_t> Tokenizer::special_prefix() const {
  std::vector<int32_t> ids;
  for (const int32_t id : impl_->specials) {
    if (id == kText) break;
    ids.push_back(id);
  }
  return ids;
}

struct StreamDecoder::State {
  std::vector<std::unique_ptr<tokenizer::DecodeStep>> steps;
  std::string out;
  bool skip_special = false;
};

StreamDecoder::StreamDecoder(std::shared_ptr<const Tokenizer::Impl> impl, bool skip_special_tokens)
    : impl_(std::move(impl)), state_(std::make_unique<State>()) {
  state_->skip_special = skip_special_tokens;
  impl_->decoder->add_steps(state_->steps);
  for (size_t i = 0; i < state_->steps.size(); ++i) {
    state_->steps[i]->connect(i + 1 < state_->steps.size() ? state_->steps[i + 1].get() : nullptr,
                              &state_->out);
  }
}
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;
StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::push(int32_t id) {
  const auto at = static_cast<size_t>(id);
  if (id < 0 || at >= impl_->tokens.size() || impl_->tokens[at].empty()) return {};
  if (state_->skip_special && impl_->skipped[at]) return {};
  state_->out.clear();
  if (state_->steps.empty()) return impl_->tokens[at];
  state_->steps.front()->push(impl_->tokens[at], true);
  return std::move(state_->out);
}

std::string StreamDecoder::finish() {
  state_->out.clear();
  if (!state_->steps.empty()) state_->steps.front()->finish();
  return std::move(state_->out);
}

}  // namespace qwb
