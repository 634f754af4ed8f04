#include "lib/tune/trained_module.h"

#include <algorithm>
#include <cmath>

#include "lib/base/bytes.h"
#include "lib/base/hash.h"
#include "lib/base/rng.h"
#include "lib/exec/counter_bits.h"

namespace qwb {
namespace {

// Seeds of modules differ by their names, so that an adapter of fewer modules begins as one of more
// does.
uint64_t seed_of(const std::string& module, uint64_t seed) {
  const std::string hex = hash_hex(std::as_bytes(std::span(module)));
  return counter_bits(std::stoull(hex.substr(0, 16), nullptr, 16), seed);
}

double normal(Rng& rng) {
  const double u = 1 - rng.uniform(), angle = 2 * 3.14159265358979323846 * rng.uniform();
  return std::sqrt(-2 * std::log(u)) * std::cos(angle);
}

std::vector<float> initial(const LinearSpec& spec, const TuneSettings& settings) {
  std::vector<float> values(static_cast<size_t>(settings.rank * spec.in));
  Rng rng(seed_of(spec.module, settings.seed));
  const double bound = 1 / std::sqrt(static_cast<double>(spec.in));
  const double deviation = 1 / static_cast<double>(settings.rank);
  for (float& value : values) {
    value = static_cast<float>(settings.gaussian ? deviation * normal(rng)
                                                 : bound * (2 * rng.uniform() - 1));
  }
  return values;
}

}  // namespace

TrainedModule::TrainedModule(const LinearSpec& spec, const TuneSettings& settings, uint64_t number,
                             const Executor& executor)
    : executor_(executor) {
  factors_.module = spec.module;
  factors_.scale = adapter_scale(settings.alpha, settings.rank, settings.rslora);
  factors_.dropout = settings.dropout;
  factors_.number = number;
  const auto make = [&](int64_t rows, int64_t columns) {
    Matrix made = executor.allocate(rows, columns, MemoryKind::weights);
    executor.fill(made, 0);
    return made;
  };
  factors_.a = make(settings.rank, spec.in);
  factors_.b = make(spec.out, settings.rank);
  factors_.a_gradient = make(settings.rank, spec.in);
  factors_.b_gradient = make(spec.out, settings.rank);
  const std::vector<float> drawn = initial(spec, settings);
  executor.copy(In(drawn.data(), settings.rank, spec.in), factors_.a);
  a_moments_ = moments_for(settings.rank * spec.in, settings.eight_bit);
  b_moments_ = moments_for(settings.rank * spec.out, settings.eight_bit);
}

TrainedModule::Moments TrainedModule::moments_for(int64_t values, bool eight_bit) const {
  const bool coded = eight_bit && values >= kFewestCoded;
  const auto make = [&](int64_t size) {
    Matrix made = executor_.allocate(1, size, MemoryKind::weights);
    executor_.fill(made, 0);
    return made;
  };
  Moments moments;
  moments.first = make(coded ? ceil_div(values, int64_t{4}) : values);
  moments.second = make(coded ? ceil_div(values, int64_t{4}) : values);
  if (coded) {
    moments.first_scales = make(ceil_div(values, kMomentBlock));
    moments.second_scales = make(ceil_div(values, kMomentBlock));
  }
  return moments;
}

void TrainedModule::forget_gradients() {
  executor_.fill(factors_.a_gradient, 0);
  executor_.fill(factors_.b_gradient, 0);
}

double TrainedModule::gradient_squares() const {
  const TrainingOps& ops = executor_.training();
  return ops.sum_of_squares(factors_.a_gradient) + ops.sum_of_squares(factors_.b_gradient);
}

void TrainedModule::step_part(const Matrix& values, const Matrix& gradient, const Moments& moments,
                              const AdamW& step) const {
  const auto row = [](const Matrix& m) { return m.view().as(1, m.rows() * m.columns()); };
  if (moments.coded()) {
    executor_.training().adamw(
        row(values), row(gradient),
        CodedMoments{moments.first, moments.second, moments.first_scales, moments.second_scales},
        step);
  } else {
    executor_.training().adamw(row(values), row(gradient), moments.first, moments.second, step);
  }
}

void TrainedModule::step(const AdamW& step, double lora_plus) {
  step_part(factors_.a, factors_.a_gradient, a_moments_, step);
  AdamW of_b = step;
  of_b.rate *= lora_plus;
  step_part(factors_.b, factors_.b_gradient, b_moments_, of_b);
}

bool TrainedModule::has_effect() const {
  return executor_.training().sum_of_squares(factors_.b) > 0;
}

AdapterModule TrainedModule::adapter_module() const {
  AdapterModule made;
  made.module = factors_.module;
  made.rank = factors_.rank();
  made.in = factors_.a.columns();
  made.out = factors_.b.rows();
  made.a = executor_.download(factors_.a);
  made.b = executor_.download(factors_.b);
  made.scale = factors_.scale;
  return made;
}

std::vector<const Matrix*> TrainedModule::state_parts() const {
  std::vector<const Matrix*> parts = {&factors_.a, &factors_.b};
  for (const Moments* moments : {&a_moments_, &b_moments_}) {
    parts.insert(parts.end(), {&moments->first, &moments->second});
    if (moments->coded())
      parts.insert(parts.end(), {&moments->first_scales, &moments->second_scales});
  }
  return parts;
}

int64_t TrainedModule::state_values() const {
  int64_t values = 0;
  for (const Matrix* part : state_parts()) values += part->rows() * part->columns();
  return values;
}

void TrainedModule::save(std::vector<float>& values) const {
  for (const Matrix* part : state_parts()) {
    const std::vector<float> own = executor_.download(*part);
    values.insert(values.end(), own.begin(), own.end());
  }
}

void TrainedModule::load(const float*& values) {
  for (const Matrix* part : state_parts()) {
    executor_.copy(In(values, part->rows(), part->columns()), *part);
    values += part->rows() * part->columns();
  }
}

int64_t TrainedModule::bytes(const LinearSpec& spec, const TuneSettings& settings) {
  int64_t bytes = 0;
  for (const int64_t values : {settings.rank * spec.in, settings.rank * spec.out}) {
    const bool coded = settings.eight_bit && values >= kFewestCoded;
    bytes += values * (coded ? 10 : 16);
  }
  return bytes;
}

}  // namespace qwb
