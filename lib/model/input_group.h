// The linear modules of a block, grouped by the input that they read. Calibration, surveys, plans
// and lists of modules are loops over these groups; no code outside lib/model knows what a block is
// made of.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/model/architecture.h"
#include "lib/model/config.h"

namespace qwb {

// What computes a group's input, as far as a scale of the input's channels can be moved into it.
struct InputMaker {
  std::optional<NormSpec> norm;      // gain and bias take the scales; empty with an obstacle
  std::optional<LinearSpec> linear;  // rows from first_row on, and their bias, take the scales
  int64_t first_row = 0;
  // Channels [heads, head_dim] repeat [kv_heads, head_dim]: heads that share values share their
  // scales.
  bool by_value_head = false;
  std::string obstacle = {};  // why it cannot take scales; empty: it can
};

struct InputGroup {
  // What its readers read: what enters the sublayer, what the attention's heads made, and where an
  // MLP stands beside the attention its own norm's output; what an MLP makes of gate and up.
  enum class Part { entry, attended, mlp_entry, mlp_inner };
  std::vector<LinearSpec> readers;
  size_t sublayer = 0;
  Part part = Part::entry;
  InputMaker maker;
  // The readers see only the tokens that are routed to this expert; -1: all tokens.
  int64_t expert = -1;
  // The only reader's output leaves the sublayer. Its input is expensive to compute.
  bool closes = false;
  // Closes, and the output is added to the residual stream as it is.
  bool adds = false;
  // Chooses experts, or weighs one: peers leave it in full precision, and so do plans unless it is
  // named.
  bool routes = false;

  int64_t in() const { return readers.front().in; }
};

// In the order they are computed.
std::vector<InputGroup> input_groups(const ModelConfig& config, const BlockSpec& spec);

// The widest input of a group in any block, and the widest one of those that close a sublayer, 1
// where none does.
int64_t widest_input(const ModelConfig& config, const std::vector<BlockSpec>& blocks);
int64_t widest_closing_input(const ModelConfig& config, const std::vector<BlockSpec>& blocks);

}  // namespace qwb
