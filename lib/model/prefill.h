// Reading a prompt: in pieces at fixed places, so that what was read once can be kept.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "lib/base/stop.h"
#include "lib/model/model.h"

namespace qwb {

// Products of many rows and of few are computed in different ways, and so are a token read in a
// prompt and the same token decoded. Pieces that always begin and end at multiples of this length
// from the beginning of the sequence make a prompt that is read anew and one whose beginning is
// kept run the same products: the same bits.
inline constexpr int64_t kPrefillPiece = 256;

// Appends `tokens` (at least one) to the sequence in `cache`, in pieces that end where the sequence
// has a multiple of kPrefillPiece tokens, and writes the logits behind the last of them, f32 [1,
// vocab]. `on_piece` is told the tokens of every piece once it is in the cache. Throws what
// Model::forward throws; the cache then holds the pieces before.
void prefill(const Model& model, std::span<const int32_t> tokens, KvCache& cache, Out logits,
             const StopToken& stop = {},
             const std::function<void(std::span<const int32_t>)>& on_piece = {});

// A sequence that keeps its keys and values from one prompt to the next. Its logits have the bits
// of a sequence that never saw another prompt.
class KeptSequence {
 public:
  // The model must outlive it.
  explicit KeptSequence(const Model& model) : model_(model) {}

  // Makes `prompt` (at least one token) the sequence: keeps the whole pieces of the longest
  // beginning that it shares with the tokens before, as far as those were read as prompts, and
  // reads the rest. The logits behind its last token. Throws what Model::forward throws; the
  // sequence stays usable.
  std::vector<float> read(std::span<const int32_t> prompt, const StopToken& stop);
  // Appends a token of the answer; the logits behind it.
  std::vector<float> append(int32_t token, const StopToken& stop);
  // Forgets all but the first `length` tokens, at least the prompt, and gives the logits behind
  // them once more. Throws usage for another length.
  std::vector<float> back_to(int64_t length, const StopToken& stop);

  // Prompt and answer so far.
  const std::vector<int32_t>& tokens() const { return tokens_; }
  int64_t reused() const { return reused_; }  // tokens of the last prompt that were kept

 private:
  std::vector<float> feed(std::span<const int32_t> tokens, const StopToken& stop);
  void make_room(int64_t tokens);
  void shorten(int64_t length);

  const Model& model_;
  std::optional<KvCache> cache_;
  std::vector<int32_t> tokens_;  // those whose keys and values are in the cache
  int64_t prompt_ = 0;           // of these, the tokens of the prompt
  int64_t whole_ = 0;            // of these, the tokens of whole pieces
  int64_t reused_ = 0;
};

}  // namespace qwb
