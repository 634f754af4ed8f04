// The small adapters of tests/golden/make_adapters.py, and models that run with them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/registry.h"
#include "formats/safetensors/safetensors.h"
#include "lib/adapt/adapter.h"
#include "lib/adapt/bind.h"
#include "lib/model/model.h"

namespace qwb {

struct AdapterGolden {
  OpenModel base;
  Path folder;  // of the adapter
  std::vector<int32_t> tokens;
  std::vector<float> logits;  // that PEFT computes
  float delta = 0;            // the adapter's largest effect on one

  AdapterGolden(const std::string& base_name, const std::string& name);
  std::unique_ptr<Model> model(ExecutorKind kind = ExecutorKind::fast, int threads = 2) const;
  std::vector<AdaptableModule> modules() const;
  Adapter read() const;
};

std::vector<float> logits_of(const Model& model, const std::vector<int32_t>& tokens);
float largest(const std::vector<float>& values);
float largest_difference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace qwb
