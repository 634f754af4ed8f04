// Unigram: the split of a piece whose tokens have the highest sum of scores (Viterbi). Scores are
// log-probabilities.
#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/base/error.h"
#include "lib/tokenizer/model.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

constexpr double kUnknownPenalty = 10.0;

class Unigram : public Model {
 public:
  Unigram(const TokenizerFile& file, int64_t unk, bool byte_fallback, const std::string& where);
  void encode(std::string_view piece, Workspace& workspace,
              std::vector<int32_t>& ids) const override;

 private:
  void find_path(std::string_view piece, std::vector<Workspace::PathEnd>& paths) const;
  void add_token(std::string_view text, std::vector<int32_t>& ids) const;

  std::vector<std::string>
      pieces_;  // sorted, so that the pieces with a common prefix are neighbours
  std::vector<int32_t> sorted_ids_;
  std::vector<double> scores_;  // by id
  StringTable vocab_;
  int32_t unk_;
  bool byte_fallback_;
  double unknown_score_ = 0;
};

Unigram::Unigram(const TokenizerFile& file, int64_t unk, bool byte_fallback,
                 const std::string& where)
    : scores_(file.scores), unk_(static_cast<int32_t>(unk)), byte_fallback_(byte_fallback) {
  if (file.vocab.empty()) throw Error(ErrorKind::failed, "the vocabulary is empty", where);
  if (unk >= static_cast<int64_t>(file.vocab.size()))
    throw Error(ErrorKind::failed, "unk_id is beyond the vocabulary", where);
  for (const auto& [token, id] : file.vocab)
    vocab_.set(token, id);  // of equal pieces the last counts
  for (const auto& [token, id] : file.vocab) {
    if (!token.empty() && vocab_.get(token) == id && std::isfinite(scores_[id]))
      sorted_ids_.push_back(id);
  }
  std::ranges::sort(sorted_ids_, {},
                    [&](int32_t id) -> const std::string& { return file.vocab[id].first; });
  for (const int32_t id : sorted_ids_) pieces_.push_back(file.vocab[id].first);
  // Pieces that no text becomes have no finite score.
  double least = std::numeric_limits<double>::infinity();
  for (const double score : scores_) {
    if (std::isfinite(score)) least = std::min(least, score);
  }
  unknown_score_ = least - kUnknownPenalty;
}

void Unigram::find_path(std::string_view piece, std::vector<Workspace::PathEnd>& paths) const {
  paths.assign(piece.size() + 1, {0, -1, -1});
  const auto improve = [&](size_t from, size_t to, double score, int32_t id) {
    const double total = paths[from].score + score;
    if (paths[to].start < 0 || total > paths[to].score)
      paths[to] = {total, static_cast<int64_t>(from), id};
  };
  for (size_t at = 0; at < piece.size();) {
    const auto character = static_cast<size_t>(char_at(piece, at).size);
    bool single = false;
    // [low, high): the pieces that begin with the `length` bytes looked at so far.
    size_t low = 0, high = pieces_.size();
    for (size_t length = 0; at + length < piece.size() && low < high; ++length) {
      const int wanted = static_cast<unsigned char>(piece[at + length]);
      const auto byte = [&](const std::string& p) {
        return length < p.size() ? static_cast<unsigned char>(p[length]) : -1;
      };
      const auto begin = pieces_.begin() + static_cast<int64_t>(low),
                 end = pieces_.begin() + static_cast<int64_t>(high);
      const auto first =
          std::partition_point(begin, end, [&](const std::string& p) { return byte(p) < wanted; });
      const auto last =
          std::partition_point(first, end, [&](const std::string& p) { return byte(p) == wanted; });
      low = static_cast<size_t>(first - pieces_.begin());
      high = static_cast<size_t>(last - pieces_.begin());
      if (low == high || pieces_[low].size() != length + 1) continue;
      const int32_t id = sorted_ids_[low];
      improve(at, at + length + 1, scores_[id], id);
      single = single || length + 1 == character;
    }
    if (!single) {
      if (unk_ < 0)
        throw Error(
            ErrorKind::failed,
            "the text has a character that the vocabulary lacks, and there is no unknown token");
      improve(at, at + character, unknown_score_, unk_);
    }
    at += character;
  }
}

void Unigram::add_token(std::string_view text, std::vector<int32_t>& ids) const {
  int32_t id = vocab_.get(text);
  if (id >= 0) return ids.push_back(id);
  if (byte_fallback_) {
    const size_t before = ids.size();
    for (const char c : text) {
      id = vocab_.get(byte_token(static_cast<unsigned char>(c)));
      if (id < 0) break;
      ids.push_back(id);
    }
    if (id >= 0) return;
    ids.resize(before);
  }
  if (unk_ < 0)
    throw Error(
        ErrorKind::failed,
        "the text has a character that the vocabulary lacks, and there is no unknown token");
  ids.push_back(unk_);
}

void Unigram::encode(std::string_view piece, Workspace& workspace,
                     std::vector<int32_t>& ids) const {
  if (piece.empty()) return;
  bool hit = false;
  WordCache::Slot* slot = workspace.cache.find(piece, hit);
  if (hit) {
    ids.insert(ids.end(), slot->ids, slot->ids + slot->count);
    return;
  }
  auto& paths = workspace.paths;
  find_path(piece, paths);
  // Backwards along the best path; neighbouring unknown characters are one token. The starts are
  // kept in workspace.list.
  auto& starts = workspace.list;
  starts.clear();
  bool open = false;  // the last start belongs to a run of unknown characters
  for (auto end = static_cast<int64_t>(piece.size()); end > 0; end = paths[end].start) {
    const auto& path = paths[end];
    const bool unknown = unk_ >= 0 && path.id == unk_;
    if (unknown && open) {
      starts.back().previous = path.start;
    } else {
      starts.push_back({0, path.start, end});
    }
    open = unknown;
  }
  const size_t before = ids.size();
  for (auto token = starts.rbegin(); token != starts.rend(); ++token) {
    add_token(piece.substr(static_cast<size_t>(token->previous),
                           static_cast<size_t>(token->next - token->previous)),
              ids);
  }
  if (slot != nullptr) WordCache::put(*slot, piece, std::span(ids).subspan(before));
}

}  // namespace

std::unique_ptr<Model> make_unigram(const TokenizerFile& file, const std::string& where) {
  const Json& model = file.root["model"];
  if (!file.scored)
    throw Error(ErrorKind::failed, "a Unigram model needs a 'vocab' list of [piece, score]", where);
  const int64_t unk = json_int(model, "unk_id", where + ": model", -1);
  if (unk < -1) throw Error(ErrorKind::failed, "unk_id is negative", where);
  return std::make_unique<Unigram>(
      file, unk, json_bool(model, "byte_fallback", where + ": model", false), where);
}

}  // namespace qwb::tokenizer
