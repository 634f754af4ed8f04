// Input groups and a plain asymmetric grid for the tests of AWQ.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/quantize/demo_helper.h"
#include "tests/quantize/gptq_helper.h"

namespace qwb {

// One input group: modules of these numbers of rows, all reading the same inputs through a norm.
struct AwqProblem {
  int64_t in;
  std::vector<float> inputs, hessian;
  std::vector<Tensor> weights;
  Settings settings;
  Moments moments;
  InputGroupTask group;

  AwqProblem(std::vector<int64_t> rows, int64_t columns, std::vector<float> x, const Json& given,
             uint64_t seed)
      : in(columns), inputs(std::move(x)), settings(resolve_settings(find_method("awq"), given)) {
    const int64_t tokens = static_cast<int64_t>(inputs.size()) / in;
    hessian = moments_of(inputs, in);
    set_hessian(moments, hessian);
    moments.tokens = tokens;
    for (int64_t i = 0; i < in; ++i) {
      double sum = 0;
      for (int64_t t = 0; t < tokens; ++t) sum += std::abs(inputs[t * in + i]);
      moments.input_magnitude.push_back(static_cast<float>(sum / static_cast<double>(tokens)));
      group.scale_of.push_back(i);
    }
    for (const int64_t out : rows)
      weights.push_back(make_tensor(normal_values(out * in, seed++), {out, in}));
    group.scales = in;
    group.moments = &moments;
    group.gains.assign(static_cast<size_t>(in), 1.0f);
    group.divided = group.gains;
    connect();
  }
  void connect() {
    group.modules.clear();
    for (size_t m = 0; m < weights.size(); ++m) {
      ModuleTask task = make_task("module" + std::to_string(m), weights[m].view());
      task.moments = &moments;
      group.modules.push_back({task, &settings});
    }
  }
  float* weight(size_t m) { return weights[m].data<float>(); }
};

// Activations whose channels differ much, as AWQ expects them.
std::vector<float> outlier_inputs(int64_t tokens, int64_t columns, uint64_t seed);

// The value nearest to this one on the asymmetric grid that covers [low, high], in f64.
double rounded(double value, double low, double high, int bits);

}  // namespace qwb
