#include "lib/model/prefill.h"

#include <algorithm>

#include "lib/base/error.h"

namespace qwb {

void prefill(const Model& model, std::span<const int32_t> tokens, KvCache& cache, Out logits,
             const StopToken& stop, const std::function<void(std::span<const int32_t>)>& on_piece) {
  if (tokens.empty()) throw Error(ErrorKind::usage, "an empty prompt cannot be continued");
  if (cache.length() + std::ssize(tokens) > cache.capacity()) {
    throw Error(ErrorKind::usage,
                "the sequence of " + std::to_string(cache.length() + std::ssize(tokens)) +
                    " tokens does not fit the context of " + std::to_string(cache.capacity()));
  }
  model.check_length(cache.length() + std::ssize(tokens));
  while (!tokens.empty()) {
    const int64_t count =
        std::min(std::ssize(tokens), kPrefillPiece - cache.length() % kPrefillPiece);
    const std::span<const int32_t> piece = tokens.first(static_cast<size_t>(count));
    tokens = tokens.subspan(static_cast<size_t>(count));
    const Matrix hidden = model.executor().allocate(count, model.config().hidden);
    model.forward(piece, cache, hidden, stop);
    if (on_piece) on_piece(piece);
    if (tokens.empty()) model.logits(hidden.view().row_range(count - 1, 1), logits);
  }
}

std::vector<float> KeptSequence::read(std::span<const int32_t> prompt, const StopToken& stop) {
  if (prompt.empty()) throw Error(ErrorKind::usage, "an empty prompt cannot be continued");
  const auto [mine, other] = std::ranges::mismatch(tokens_, prompt);
  const int64_t shared = mine - tokens_.begin();
  // The last token is always read: its logits are wanted.
  const int64_t most = std::min({shared, whole_, std::ssize(prompt) - 1});
  shorten(most / kPrefillPiece * kPrefillPiece);
  reused_ = std::ssize(tokens_);
  prompt_ = std::ssize(prompt);
  make_room(prompt_);
  return feed(prompt.subspan(static_cast<size_t>(reused_)), stop);
}

std::vector<float> KeptSequence::append(int32_t token, const StopToken& stop) {
  if (!cache_) throw Error(ErrorKind::usage, "a sequence begins with a prompt");
  make_room(std::ssize(tokens_) + 1);
  const Executor& executor = model_.executor();
  const Matrix hidden = executor.allocate(1, model_.config().hidden);
  const Matrix logits = executor.allocate(1, model_.config().vocab);
  model_.forward(std::span(&token, 1), *cache_, hidden, stop);
  tokens_.push_back(token);
  model_.logits(hidden, logits);
  return executor.download(logits);
}

std::vector<float> KeptSequence::back_to(int64_t length, const StopToken& stop) {
  if (length < prompt_ || length > std::ssize(tokens_) || prompt_ == 0)
    throw Error(ErrorKind::usage, "the sequence has no such place in its answer");
  const std::vector<int32_t> before(tokens_.begin(), tokens_.begin() + length);
  if (length > prompt_) {
    shorten(length - 1);
    return append(before.back(), stop);
  }
  shorten((prompt_ - 1) / kPrefillPiece * kPrefillPiece);
  return feed(std::span(before).subspan(tokens_.size()), stop);
}

// The next tokens of the prompt.
std::vector<float> KeptSequence::feed(std::span<const int32_t> tokens, const StopToken& stop) {
  const Executor& executor = model_.executor();
  const Matrix logits = executor.allocate(1, model_.config().vocab);
  prefill(model_, tokens, *cache_, logits, stop, [&](std::span<const int32_t> piece) {
    tokens_.insert(tokens_.end(), piece.begin(), piece.end());
    if (std::ssize(piece) == kPrefillPiece) whole_ = std::ssize(tokens_);
  });
  return executor.download(logits);
}

void KeptSequence::make_room(int64_t tokens) {
  if (!cache_) {
    cache_ = model_.new_cache(tokens + kPrefillPiece);
  } else if (tokens > cache_->capacity()) {
    cache_->grow(model_.executor(), std::max(tokens + kPrefillPiece, 2 * cache_->capacity()));
  }
}

void KeptSequence::shorten(int64_t length) {
  tokens_.resize(static_cast<size_t>(length));
  whole_ = std::min(whole_, length / kPrefillPiece * kPrefillPiece);
  if (cache_) cache_->truncate(length);
}

}  // namespace qwb
