#include "lib/quantize/calibrate/block_survey.h"

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"
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
        executor_(model.executor()),
        stream_(stream),
        block_(model.config(), model.spec().blocks[index], index, model.source(), executor_),
        rotary_(executor_, model.config().rope, 0, stream.length()),
        index_(index),
        sums_(executor_.calibration().moment_sums()),
        context_(context),
        windows_(surveyed(stream.length(), stream.windows())),
        batch_(batch_windows(executor_, stream.length(),
                             widest_input(model.config(), model.spec().blocks), windows_)) {
    for (const size_t group : groups) {
      const int64_t size = input_size(group);
      SurveyedGroup& found = survey_[group];
      found.hessian = executor_.allocate(size, size, MemoryKind::scratch);
      executor_.fill(found.hessian, 0);
      found.moments.executor = &executor_;
      found.moments.hessian = found.hessian;
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
      executor_.calibration().mirror(found.hessian);
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
    const Matrix x = executor_.allocate(length, c.hidden), keys = executor_.allocate(length, kv),
                 values = executor_.allocate(length, kv);
    stream_.load(window, x);
    BlockWalk walk(block_, executor_, {length, rotary_, {keys, values, 0}}, x);
    for (size_t group = 0; group <= last; ++group) {
      walk.next();
      if (!survey_.contains(group)) continue;
      if (!executor_.all_finite(walk.input()))
        throw Error(ErrorKind::failed,
                    "NaN or Inf in the activations of block " + std::to_string(index_));
      Matrix& kept = inputs_.at(group)[place];
      kept = executor_.allocate(walk.input().rows, walk.input().columns);
      executor_.copy(walk.input(), kept);
    }
  }

  // The windows' inputs, one behind the other.
  Matrix joined(size_t group, int64_t windows) const {
    const std::vector<Matrix>& parts = inputs_.at(group);
    int64_t rows = 0;
    for (int64_t w = 0; w < windows; ++w) rows += parts[w].rows();
    Matrix all = executor_.allocate(rows, input_size(group));
    int64_t begin = 0;
    for (int64_t w = 0; w < windows; ++w) {
      const Matrix& part = parts[w];
      executor_.copy(part, all.view().row_range(begin, part.rows()));
      begin += part.rows();
    }
    return all;
  }

  void add(size_t group, int64_t windows, SurveyedGroup& found) {
    const Matrix x = joined(group, windows);
    found.moments.tokens += x.rows();
    if (x.rows() == 0) return;
    sums_->add(x, found.hessian);
    executor_.calibration().add_columns(x, Summands::magnitudes, magnitudes_.at(group));
  }

  const Model& model_;
  const Executor& executor_;
  const ResidualStream& stream_;
  Block block_;
  RotaryTable rotary_;
  int64_t index_;
  std::unique_ptr<MomentSums> sums_;
  Context context_;
  int64_t windows_;  // evenly spaced over the stream's
  int64_t batch_;
  Survey survey_;
  std::map<size_t, std::vector<Matrix>> inputs_;  // by group and window of one batch
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
  const int64_t batch =
      batch_windows(model.executor(), length, widest, surveyed_windows(calibration));
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
