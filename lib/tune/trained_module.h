// The factors of one module with the moments of their optimizer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/adapt/adapter.h"
#include "lib/model/tape/taped_linear.h"
#include "lib/tune/settings.h"

namespace qwb {

// Factors of fewer values keep their moments in f32 whatever --optimizer says, as bitsandbytes'.
constexpr int64_t kFewestCoded = 4096;

class TrainedModule {
 public:
  // A drawn by the settings from the seed and the module's name, B zero.
  TrainedModule(const LinearSpec& spec, const TuneSettings& settings, uint64_t number,
                const Executor& executor);

  TrainedFactors& factors() { return factors_; }
  const TrainedFactors& factors() const { return factors_; }
  void forget_gradients();
  double gradient_squares() const;
  // step.rate is that of A.
  void step(const AdamW& step, double lora_plus);
  // Some value of B is not 0.
  bool has_effect() const;
  AdapterModule adapter_module() const;
  // Everything that the next step depends on, f32: of a fixed size and order.
  int64_t state_values() const;
  void save(std::vector<float>& values) const;
  void load(const float*& values);
  // Bytes of factors, gradients and moments together.
  static int64_t bytes(const LinearSpec& spec, const TuneSettings& settings);

 private:
  struct Moments {
    Matrix first, second, first_scales, second_scales;  // scales: of coded ones
    bool coded() const { return first_scales.rows() > 0; }
  };
  Moments moments_for(int64_t values, bool eight_bit) const;
  void step_part(const Matrix& values, const Matrix& gradient, const Moments& moments,
                 const AdamW& step) const;
  std::vector<const Matrix*> state_parts() const;

  const Executor& executor_;
  TrainedFactors factors_;
  Moments a_moments_, b_moments_;
};

}  // namespace qwb
