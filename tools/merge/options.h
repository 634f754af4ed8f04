// The command line of qwb-merge.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/tensor/dtype.h"

namespace qwb {

struct MergeOptions {
  std::string model, onto = "source", dtype = "same", out, then, combine, to, extract;
  std::vector<std::string> adapters;
  std::optional<int64_t> check_kl;
  std::optional<double> max_kl;
  int64_t rank = 0, max_shard_bytes = 0;
  bool portable = false, report = false;

  // An adapter is made, no model.
  bool makes_adapter() const {
    return !combine.empty() || !to.empty() || !extract.empty() || portable;
  }
};

void add_merge_options(CLI::App& app, MergeOptions& options);
// Throws usage for flags that do not go together.
void check_merge_options(const MergeOptions& options);
// --dtype; empty: that of the model. Throws usage.
std::optional<DType> merge_dtype(const std::string& text);

}  // namespace qwb
