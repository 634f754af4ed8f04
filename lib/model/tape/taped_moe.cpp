#include "lib/model/tape/taped_moe.h"

#include <numeric>

#include "lib/base/error.h"
#include "lib/model/routing.h"

namespace qwb {
namespace {

// Rows of an expert's tokens: no document is whole there, and an MLP asks for none.
class ExpertRows {
 public:
  ExpertRows(const TapeRows& all, const std::vector<int64_t>& tokens) {
    for (const int64_t token : tokens) {
      if (!all.keys.empty()) keys_.push_back(all.keys[static_cast<size_t>(token)]);
    }
  }
  TapeRows rows() const { return {{}, keys_}; }

 private:
  std::vector<uint64_t> keys_;
};

// The gradient by the router's scores [tokens, experts]: with g = doutput . an expert's output,
// w (g - sum over the token's experts of w g).
std::vector<float> score_gradients(const Executor& executor, const MoeTape& tape, In doutput) {
  const auto experts = tape.experts.size();
  const auto columns = static_cast<size_t>(doutput.columns);
  const std::vector<float> dy = executor.download(doutput);
  std::vector<double> along(static_cast<size_t>(doutput.rows) * experts);
  std::vector<double> mean(static_cast<size_t>(doutput.rows));
  for (size_t e = 0; e < experts; ++e) {
    const ExpertTape& own = tape.experts[e];
    const std::vector<float> made =
        own.tokens.empty() ? std::vector<float>() : executor.download(own.output);
    for (size_t i = 0; i < own.tokens.size(); ++i) {
      const auto token = static_cast<size_t>(own.tokens[i]);
      double sum = 0;
      for (size_t c = 0; c < columns; ++c)
        sum += static_cast<double>(dy[token * columns + c]) *
               static_cast<double>(made[i * columns + c]);
      along[token * experts + e] = sum;
      mean[token] += static_cast<double>(own.weights[i]) * sum;
    }
  }
  std::vector<float> gradients(along.size());
  for (size_t e = 0; e < experts; ++e) {
    const ExpertTape& own = tape.experts[e];
    for (size_t i = 0; i < own.tokens.size(); ++i) {
      const auto token = static_cast<size_t>(own.tokens[i]);
      const size_t place = token * experts + e;
      gradients[place] =
          static_cast<float>(static_cast<double>(own.weights[i]) * (along[place] - mean[token]));
    }
  }
  return gradients;
}

}  // namespace

TapedMoe::TapedMoe(const MoeSpec& spec, const TensorSource& source, const Executor& executor)
    : router_(spec.router, source, executor), used_(spec.used) {
  if (!spec.normalized || spec.shared)
    throw Error(ErrorKind::unsupported,
                "the gradients of experts whose weights are not normalized, or that share one, are "
                "not implemented",
                spec.router.module);
  for (const MlpSpec& expert : spec.experts) experts_.emplace_back(expert, source, executor);
}

std::vector<TapedLinear*> TapedMoe::linears() {
  std::vector<TapedLinear*> all = {&router_};
  for (TapedMlp& expert : experts_) {
    for (TapedLinear* linear : expert.linears()) all.push_back(linear);
  }
  return all;
}

void TapedMoe::forward(const LayerContext& layer, const TapeRows& rows, In h, MoeTape& tape,
                       Out output) const {
  const Executor& executor = layer.executor;
  const auto count = static_cast<int64_t>(experts_.size());
  const Matrix scores = executor.allocate(h.rows, count);
  tape.router = router_.forward(executor, rows, h, scores);
  std::vector<Routed> routed = routes_of(executor.download(scores), count, used_, true);
  executor.fill(output, 0);
  tape.experts.resize(experts_.size());
  for (size_t e = 0; e < experts_.size(); ++e) {
    ExpertTape& own = tape.experts[e];
    own.tokens = std::move(routed[e].tokens);
    own.weights = std::move(routed[e].weights);
    const auto size = std::ssize(own.tokens);
    if (size == 0) continue;
    const ExpertRows seen(rows, own.tokens);
    own.x = executor.allocate(size, h.columns);
    own.output = executor.allocate(size, h.columns);
    executor.gather(h, own.tokens, own.x);
    experts_[e].forward(layer, seen.rows(), own.x, own.mlp);
    own.closing = experts_[e].closing().forward(executor, seen.rows(), own.mlp.inner, own.output);
    executor.scatter_add(own.output, own.tokens, own.weights, output);
  }
}

void TapedMoe::back(const LayerContext& layer, const TapeRows& rows, In h, const MoeTape& tape,
                    In doutput, Out dh) const {
  const Executor& executor = layer.executor;
  const Matrix dscores =
      executor.upload(score_gradients(executor, tape, doutput), MemoryKind::activations);
  router_.back(executor, rows, h, tape.router,
               dscores.view().as(h.rows, static_cast<int64_t>(experts_.size())), dh,
               Accumulate::no);
  for (size_t e = 0; e < experts_.size(); ++e) {
    const ExpertTape& own = tape.experts[e];
    const auto size = std::ssize(own.tokens);
    if (size == 0) continue;
    const ExpertRows seen(rows, own.tokens);
    const Matrix dx = executor.allocate(size, h.columns), dy = executor.allocate(size, h.columns);
    executor.gather(doutput, own.tokens, dx);
    executor.fill(dy, 0);
    std::vector<int64_t> in_order(own.tokens.size());
    std::iota(in_order.begin(), in_order.end(), int64_t{0});
    executor.scatter_add(dx, in_order, own.weights, dy);
    const Matrix dinner = executor.allocate(size, own.mlp.inner.columns());
    experts_[e].closing().back(executor, seen.rows(), own.mlp.inner, own.closing, dy, dinner,
                               Accumulate::no);
    experts_[e].back(layer, seen.rows(), own.x, own.mlp, dinner, dx, Accumulate::no);
    executor.scatter_add(dx, own.tokens, std::vector<float>(own.tokens.size(), 1.0f), dh);
  }
}

}  // namespace qwb
