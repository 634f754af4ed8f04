// The plan: which module gets which method with which settings, decided before the work begins.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/json.h"
#include "lib/model/model.h"
#include "lib/quantize/method.h"

namespace qwb {

// One line of a plan file: what it says holds for the modules that one of its patterns matches
// (module_pattern.h).
struct PlanRule {
  std::vector<std::string> match;
  std::string method;           // a method's name; "skip": stays as it is; empty: as decided so far
  Json given = Json::object();  // parameters; the others stay as decided so far
  std::string where;            // "plan.json: rule 2", for errors
};

struct PlanRequest {
  const Method* method = nullptr;  // the default
  Json given =
      Json::object();  // parameters that somebody asked for; the others have their defaults
  // Modules of the blocks to work on: those that an include pattern matches (all if there is none)
  // and no exclude pattern.
  std::vector<std::string> include = {}, exclude = {};
  // The output embedding and the token embeddings; either means both where they are one matrix.
  // Rules and include patterns without wildcards select them as well.
  bool output_embedding = false;
  bool embeddings = false;
  std::vector<PlanRule> rules = {};  // in this order; later ones win
};

// What a plan file holds:
//   {"default": {"method": "gptq", "bits": 4}, "lm_head": true, "embeddings": false,
//    "rules": [{"match": "*.down_proj", "method": "rtn", "bits": 8},
//              {"match": ["q_proj", "k_proj"], "bits": 6}]}
// Every field is optional. A rule that changes the method keeps the parameters given so far that
// the new method also has. method "skip" leaves modules as they are.
struct PlanFile {
  std::string method;  // of "default"; empty: none given
  Json given = Json::object();
  bool output_embedding = false;
  bool embeddings = false;
  std::vector<PlanRule> rules;
};

// Throws usage, naming `where` and the rule, for unknown fields and methods, parameters that no
// method (or not the one named) has, and values out of range; `failed` for what is no JSON.
PlanFile parse_plan(std::string_view text, const std::string& where);

// A module to quantize and what it will become.
struct PlannedModule {
  // lookup: rows are taken out (token embeddings, also where the same matrix makes the logits).
  // output: multiplied with the final norm's output.
  enum class Role { linear, lookup, output };
  ModuleInfo info;
  Role role = Role::linear;
  int64_t block = 0;  // linear only
  size_t group = 0;   // of the block's input groups; linear only
  const Method* method = nullptr;
  Settings settings;
  WeightLayout layout;

  int64_t weights() const { return info.out * info.in; }
  double bits() const;  // of one code
};

struct Plan {
  std::vector<PlannedModule> modules;  // in the order of the work: lookup, blocks, output
  std::vector<std::string> kept;       // modules of the blocks that stay as they are
  std::vector<std::string> notes;      // decisions that the user should know
  int64_t weights = 0;                 // elements of all planned modules
  int64_t bytes = 0;                   // what they will take

  size_t typical_index = 0;

  bool needs_calibration() const;
  // Some method asks for the moments against the original model.
  bool wants_reference() const;
  // A module with the most frequent method and settings (the least canonical text among equals):
  // does not depend on how the plan was asked for.
  const PlannedModule& typical() const { return modules.at(typical_index); }
  // Whether a module has the typical method and settings.
  bool is_typical(const PlannedModule& module) const;
  // The name of the only method, or "mixed".
  std::string method_name() const;
  // Bits per code, the mean over all planned weights.
  double bits() const;
};

// Throws usage for a pattern that matches no module, a rule that does not fit a module it matches,
// a plan without any module, a calibrated method that a rule wants for a lookup (by default such a
// matrix gets rtn, and the notes say so), and what Method::layout throws.
Plan plan_modules(const Model& model, const PlanRequest& request);
// Every linear module of every block, one method.
Plan plan_modules(const Model& model, const Method& method, const Settings& settings);

}  // namespace qwb
