// adapter_config.json as PEFT writes it: what of it changes what an adapter computes. Which fields
// are read, which provably change nothing, and which are refused: peft.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/json.h"

namespace qwb {

class PeftConfig {
 public:
  // Throws unsupported, naming the field, for whatever changes the maths and is not implemented;
  // `failed` for values of a wrong type.
  PeftConfig(const Json& config, std::string where);

  const std::string& base() const { return base_; }
  const std::string& revision() const { return revision_; }
  double dropout() const { return dropout_; }
  double alpha() const { return alpha_; }
  int64_t rank() const { return rank_; }
  bool rslora() const { return rslora_; }
  const std::string& bias() const { return bias_; }
  // Suffixes of module paths, or none if the modules are told in another way.
  const std::vector<std::string>& targets() const { return targets_; }
  const std::vector<std::string>& saved() const { return saved_; }

  // Of the module with this path; rank_pattern and alpha_pattern looked at.
  int64_t rank_of(const std::string& path) const;
  double alpha_of(const std::string& path) const;
  // Whether PEFT would adapt the linear module with this path; nothing: the file does not tell.
  std::optional<bool> takes(const std::string& path, bool is_head) const;

 private:
  enum class Targets { list, regex, all_linear, untold };
  void read_targets(const Json& config);
  void read_layers(const Json& config);
  void refuse_unknown(const Json& config) const;
  bool in_layers(const std::string& path) const;
  bool excluded(const std::string& path) const;

  std::string where_, base_, revision_, bias_;
  double alpha_ = 8, dropout_ = 0;
  int64_t rank_ = 8;
  bool rslora_ = false;
  Targets kind_ = Targets::untold;
  std::string regex_;
  std::vector<std::string> targets_, excluded_, saved_, layer_names_;
  std::string excluded_regex_;
  std::optional<std::vector<int64_t>> layers_;
  std::vector<std::pair<std::string, int64_t>> ranks_;
  std::vector<std::pair<std::string, double>> alphas_;
};

}  // namespace qwb
