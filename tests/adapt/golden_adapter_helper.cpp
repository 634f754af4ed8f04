#include "tests/adapt/golden_adapter_helper.h"

#include <algorithm>
#include <cmath>

#include "lib/adapt/use.h"

namespace qwb {

AdapterGolden::AdapterGolden(const std::string& base_name, const std::string& name)
    : folder(Path(QWB_SOURCE_DIR) / "tests/golden/adapters" / name) {
  const Path base_folder = Path(QWB_SOURCE_DIR) / "tests/golden/model" / base_name;
  base = open_model(base_folder);
  const auto known = SafetensorsFile::open(base_folder / "expected.safetensors");
  const TensorView ids = *known.find("tokens");
  for (int64_t i = 0; i < 16; ++i) tokens.push_back(load<int32_t>(ids.bytes.data() + 4 * i));
  const auto expected = SafetensorsFile::open(folder / "expected.safetensors");
  logits = read_floats(*expected.find("logits"), "logits");
  delta = read_floats(*expected.find("delta"), "delta").front();
}

std::unique_ptr<Model> AdapterGolden::model(ExecutorKind kind, int threads) const {
  return Model::load(base.source, base.config, "golden", make_executor(kind, Threads(threads)));
}

std::vector<AdaptableModule> AdapterGolden::modules() const {
  const auto loaded = model();
  return adaptable_modules(loaded->config(), loaded->spec());
}

Adapter AdapterGolden::read() const {
  const auto loaded = model();
  return read_adapter(folder, base.config, loaded->config(), loaded->spec());
}

std::vector<float> logits_of(const Model& model, const std::vector<int32_t>& tokens) {
  const auto count = static_cast<int64_t>(tokens.size());
  std::vector<float> hidden(static_cast<size_t>(count * model.config().hidden));
  std::vector<float> logits(static_cast<size_t>(count * model.config().vocab));
  const Out states(hidden.data(), count, model.config().hidden);
  KvCache cache = model.new_cache(count);
  model.forward(tokens, cache, states);
  model.logits(states, Out(logits.data(), count, model.config().vocab));
  return logits;
}

float largest(const std::vector<float>& values) {
  float most = 0;
  for (const float value : values) most = std::max(most, std::abs(value));
  return most;
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  float most = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

}  // namespace qwb
