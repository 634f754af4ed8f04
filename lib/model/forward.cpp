// Model::forward: batches of sequences, cut into steps.
#include <algorithm>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "lib/model/block.h"
#include "lib/model/model.h"

namespace qwb {
namespace {

// Tokens of a sequence that go through the blocks together: bounds the activations' memory and
// fixes the shapes of its products. Sequences share a step while it has no more of them.
constexpr int64_t kChunk = 1024;

}  // namespace

// One step: the next tokens of some sequences go through all blocks together.
class BatchStep {
 public:
  // The next tokens of one sequence.
  struct Part {
    size_t sequence;
    std::span<const int32_t> tokens;
    Out hidden;  // where their final states go
    std::shared_ptr<const RotaryTable> rotary = nullptr;
  };
  BatchStep(const Model& model, std::span<const Sequence> sequences,
            std::vector<std::optional<Error>>& errors)
      : model_(model), sequences_(sequences), errors_(errors) {}

  void run(std::vector<Part> parts) {
    if (model_.listing_ != nullptr) throw std::logic_error("the model was not loaded to run whole");
    parts_ = std::move(parts);
    begin();
    for (int64_t i = 0; i < model_.config().layers && !parts_.empty(); ++i) {
      drop_if([&](const Part& part, Out) { sequences_[part.sequence].stop.check(); });
      if (parts_.empty()) return;
      for (size_t p = 0; p < parts_.size(); ++p) batch_->set_cache(p, cache(parts_[p]).layer(i));
      model_.blocks_[i].forward(x_, *batch_);
      mark(i);
    }
    each_part([&](const Part& part, Out x) {
      cache(part).advance(std::ssize(part.tokens));
      model_.final_norm(x, part.hidden);
    });
    check_marks();
  }

 private:
  KvCache& cache(const Part& part) const { return *sequences_[part.sequence].cache; }

  void begin() {
    int64_t rows = 0;
    for (Part& part : parts_) {
      const int64_t count = std::ssize(part.tokens);
      part.rotary = std::make_shared<const RotaryTable>(model_.executor(), model_.config().rope,
                                                        cache(part).length(), count);
      rows += count;
    }
    x_ = model_.executor().allocate(rows, model_.config().hidden);
    each_part([&](const Part& part, Out x) { model_.embed(part.tokens, cache(part).length(), x); });
    make_batch();
  }

  // Whether the output of block `index` is finite, of each part. Looked at when the step is over:
  // a device would have to be waited for after every block.
  void mark(int64_t index) {
    each_part([&](const Part& part, Out x) {
      Matrix& marks = marks_[part.sequence];
      if (marks.columns() == 0) marks = model_.executor().allocate(1, model_.config().layers);
      model_.executor().mark_finite(x, marks.view().column_range(index, 1));
    });
  }
  void check_marks() {
    for (const Part& part : parts_) {
      const std::vector<float> finite = model_.executor().download(marks_.at(part.sequence));
      const auto bad = std::find(finite.begin(), finite.end(), 0.0f);
      if (bad == finite.end()) continue;
      errors_[part.sequence] =
          Error(ErrorKind::failed,
                "NaN or Inf in the output of block " + std::to_string(bad - finite.begin()), {},
                "the weights are damaged or overflow in this precision");
    }
  }

  void make_batch() {
    std::vector<SequencePart> parts;
    for (const Part& part : parts_) parts.push_back({std::ssize(part.tokens), *part.rotary, {}});
    batch_.emplace(std::move(parts));
  }

  // body(part, its rows of x)
  template <class Body>
  void each_part(const Body& body) {
    int64_t first = 0;
    for (const Part& part : parts_) {
      body(part, x_.view().row_range(first, std::ssize(part.tokens)));
      first += std::ssize(part.tokens);
    }
  }

  // Parts for which the check throws leave the batch; the others' rows move together.
  template <class Check>
  void drop_if(const Check& check) {
    int64_t left = 0, before = x_.rows();
    each_part([&](const Part& part, Out x) {
      try {
        check(part, x);
        left += x.rows;
      } catch (const Error& error) {
        errors_[part.sequence] = error;
      }
    });
    if (left == before) return;
    Matrix rest = model_.executor().allocate(left, x_.columns());
    int64_t first = 0;
    each_part([&](const Part& part, Out x) {
      if (errors_[part.sequence]) return;
      model_.executor().copy(x, rest.view().row_range(first, x.rows));
      first += x.rows;
    });
    x_ = std::move(rest);
    std::erase_if(parts_, [&](const Part& part) { return errors_[part.sequence].has_value(); });
    make_batch();
  }

  const Model& model_;
  std::span<const Sequence> sequences_;
  std::vector<std::optional<Error>>& errors_;
  std::vector<Part> parts_;
  std::optional<Batch> batch_;
  Matrix x_;                        // their residual streams
  std::map<size_t, Matrix> marks_;  // [1, layers] of each sequence
};

namespace {

// What is left to do of a sequence.
struct Pending {
  size_t sequence;
  std::span<const int32_t> tokens;
  Out hidden;
};

// The next step: shortest first, so that single tokens stand side by side.
std::vector<BatchStep::Part> next_parts(std::vector<Pending>& pending) {
  std::stable_sort(pending.begin(), pending.end(), [](const Pending& a, const Pending& b) {
    return a.tokens.size() < b.tokens.size();
  });
  std::vector<BatchStep::Part> parts;
  int64_t rows = 0;
  for (Pending& p : pending) {
    const int64_t count = std::min(kChunk, std::ssize(p.tokens));
    if (!parts.empty() && rows + count > kChunk) break;
    parts.push_back(
        {p.sequence, p.tokens.first(static_cast<size_t>(count)), p.hidden.row_range(0, count)});
    p.tokens = p.tokens.subspan(static_cast<size_t>(count));
    p.hidden = p.hidden.row_range(count, p.hidden.rows - count);
    rows += count;
  }
  return parts;
}

void check_caches(std::span<const Sequence> sequences) {
  for (size_t i = 0; i < sequences.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (sequences[i].cache == sequences[k].cache)
        throw Error(ErrorKind::usage, "a cache stands twice in a batch");
    }
  }
}

}  // namespace

std::vector<std::optional<Error>> Model::forward(std::span<const Sequence> sequences,
                                                 Out hidden) const {
  check_caches(sequences);
  std::vector<std::optional<Error>> errors(sequences.size());
  std::vector<Pending> pending;
  std::vector<int64_t> before;
  int64_t first = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& sequence = sequences[i];
    before.push_back(sequence.cache->length());
    const int64_t count = std::ssize(sequence.tokens);
    try {
      check_tokens(sequence.tokens, *sequence.cache);
      pending.push_back({i, sequence.tokens, hidden.row_range(first, count)});
    } catch (const Error& error) {
      errors[i] = error;
    }
    first += count;
  }
  const auto restore = [&](size_t i) { sequences[i].cache->truncate(before[i]); };
  try {
    while (true) {
      std::erase_if(pending,
                    [&](const Pending& p) { return p.tokens.empty() || errors[p.sequence]; });
      if (pending.empty()) break;
      BatchStep(*this, sequences, errors).run(next_parts(pending));
    }
  } catch (...) {
    for (size_t i = 0; i < sequences.size(); ++i) restore(i);
    throw;
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (errors[i]) restore(i);
  }
  return errors;
}

}  // namespace qwb
