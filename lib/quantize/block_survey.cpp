#include "lib/quantize/block_survey.h"

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/model/block_walk.h"

namespace qwb {
namespace {

// Enough to choose one of forty scalings: the demo models' perplexities with all 65,536 tokens are
// within
// 0.03 of those with these, either way.
constexpr int64_t kTokens = 16384;

int64_t surveyed(int64_t length, int64_t windows) {
  return std::clamp<int64_t>(kTokens / length, 1, windows);
}

class Surveyor {
 public:
  Surveyor(const Model& model, int64_t index, const ResidualStream& stream,
           const std::vector<size_t>& groups, const Context& context)
      : model_(model),
        stream_(stream),
        block_(model.config(), model.spec().blocks[static_cast<size_t>(index)], index,
               model.source(), model.executor()),
        rotary_(model.executor(), model.config().rope, 0, stream.length()),
        index_(index),
        operand_(model.executor().products(), Operand::Side::both, context.threads),
        context_(context),
        windows_(surveyed(stream.length(), stream.windows())),
        batch_(batch_windows(stream.length(), widest_input(model.config(), model.spec().blocks),
                             windows_)) {
    for (const size_t group : groups) {
      const int64_t size = input_size(group);
      SurveyedGroup& found = survey_[group];
      found.hessian = FloatBuffer(size * size);
      std::fill_n(found.hessian.data(), size * size, 0.0f);
      found.moments.hessian = found.hessian.data();
      magnitudes_[group].assign(static_cast<size_t>(size), 0.0);
      inputs_[group].resize(static_cast<size_t>(batch_));
    }
  }

  Survey run() {
    for (int64_t first = 0; first < windows_; first += batch_) {
      context_.stop.check();
      const int64_t count = std::min(batch_, windows_ - first);
      for_windows(context_, first, count,
                  [&](int64_t i) { forward(i * stream_.windows() / windows_, i - first); });
      for (auto& [group, found] : survey_) add(group, count, found);
    }
    for (auto& [group, found] : survey_) {
      mirror_moments(found.hessian.data(), input_size(group), context_.threads);
      for (const double sum : magnitudes_.at(group)) {
        found.moments.input_magnitude.push_back(
            static_cast<float>(sum / std::max(1.0, static_cast<double>(found.moments.tokens))));
      }
    }
    return std::move(survey_);
  }

 private:
  int64_t input_size(size_t group) const { return block_.groups()[group].in(); }

  // Inputs of one window; after the last group that is asked for there is nothing left to do.
  void forward(int64_t window, int64_t place) {
    const ModelConfig& c = model_.config();
    const int64_t length = stream_.length(), kv = c.kv_heads * c.head_dim;
    const size_t last = survey_.rbegin()->first;
    const Executor& executor = model_.executor();
    const Matrix x = executor.allocate(length, c.hidden), keys = executor.allocate(length, kv),
                 values = executor.allocate(length, kv);
    stream_.load(window, x.view().data);
    BlockWalk walk(block_, executor, {length, rotary_, {keys, values, 0}}, x);
    for (size_t group = 0; group <= last; ++group) {
      walk.next();
      if (!survey_.contains(group)) continue;
      if (!executor.all_finite(walk.input()))
        throw Error(ErrorKind::failed,
                    "NaN or Inf in the activations of block " + std::to_string(index_));
      FloatBuffer& kept = inputs_.at(group)[static_cast<size_t>(place)];
      kept = FloatBuffer(walk.input().count());
      std::copy_n(walk.input().data, kept.size(), kept.data());
    }
  }

  // The windows' inputs, one behind the other.
  FloatBuffer joined(size_t group, int64_t windows) const {
    const std::vector<FloatBuffer>& parts = inputs_.at(group);
    int64_t count = 0;
    for (int64_t w = 0; w < windows; ++w) count += parts[static_cast<size_t>(w)].size();
    FloatBuffer all(count);
    float* to = all.data();
    for (int64_t w = 0; w < windows; ++w) {
      const FloatBuffer& part = parts[static_cast<size_t>(w)];
      to = std::copy(part.data(), part.data() + part.size(), to);
    }
    return all;
  }

  void add(size_t group, int64_t windows, SurveyedGroup& found) {
    const FloatBuffer x = joined(group, windows);
    std::vector<double>& sums = magnitudes_.at(group);
    const auto columns = static_cast<int64_t>(sums.size());
    const int64_t rows = x.size() / columns;
    found.moments.tokens += rows;
    if (rows == 0) return;
    operand_.set(x.data(), rows, columns);
    add_moments(operand_, rows, found.hessian.data());
    parallel_ranges(context_, columns, 64, [&](int64_t begin, int64_t end) {
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = begin; c < end; ++c)
          sums[static_cast<size_t>(c)] += std::abs(x[r * columns + c]);
      }
    });
  }

  const Model& model_;
  const ResidualStream& stream_;
  Block block_;
  RotaryTable rotary_;
  int64_t index_;
  Operand operand_;
  Context context_;
  int64_t windows_;  // evenly spaced over the stream's
  int64_t batch_;
  Survey survey_;
  std::map<size_t, std::vector<FloatBuffer>> inputs_;  // by group and window of one batch
  std::map<size_t, std::vector<double>> magnitudes_;
};

}  // namespace

Survey survey_block(const Model& model, int64_t index, const ResidualStream& stream,
                    const std::vector<size_t>& groups, const Context& context) {
  if (groups.empty()) return {};
  return Surveyor(model, index, stream, groups, context).run();
}

int64_t surveyed_windows(const CalibrationSet& calibration) {
  return surveyed(calibration.length, static_cast<int64_t>(calibration.windows.size()));
}

int64_t survey_memory(const Model& model, const CalibrationSet& calibration) {
  const ModelConfig& c = model.config();
  const int64_t length = calibration.length, widest = widest_input(c, model.spec().blocks);
  const int64_t batch = batch_windows(length, widest, surveyed_windows(calibration));
  int64_t inputs = 0, squares = 0;
  for (const InputGroup& group : input_groups(c, model.spec().blocks.front())) {
    inputs += group.in();
    squares += group.in() * group.in();
  }
  // The last square: the moments of the inputs as one candidate would scale them.
  return 4 * (squares + widest * widest +
              batch * length *
                  (inputs + widest + widest / 2)  // a batch, one group joined, its bf16 copy
              + std::min<int64_t>(model.executor().threads().count(), batch) * length *
                    (2 * c.hidden + 2 * widest));
}

}  // namespace qwb
