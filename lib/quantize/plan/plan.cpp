#include "lib/quantize/plan/plan.h"

#include <algorithm>
#include <map>
#include <set>

#include "lib/base/error.h"
#include "lib/codec/source.h"
#include "lib/model/input_group.h"
#include "lib/model/linear.h"
#include "lib/quantize/plan/module_pattern.h"

namespace qwb {
namespace {

// What a lookup gets when the default is a calibrated method: its rows are never multiplied with
// inputs.
constexpr const char* kLookupMethod = "rtn";

// A matrix that could be quantized.
struct Candidate {
  PlannedModule module;             // without method, settings and layout
  std::vector<std::string> others;  // further names that patterns may use
  bool asked = false;               // by a flag or, in blocks, by default
};

bool matches(const std::string& pattern, const Candidate& candidate) {
  if (pattern_matches(pattern, candidate.module.info.name)) return true;
  return std::any_of(candidate.others.begin(), candidate.others.end(),
                     [&](const std::string& name) { return pattern_matches(pattern, name); });
}

bool any_matches(const std::vector<std::string>& patterns, const Candidate& candidate) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return matches(pattern, candidate); });
}

bool any_names(const std::vector<std::string>& patterns, const Candidate& candidate) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return is_plain_pattern(pattern) && matches(pattern, candidate);
  });
}

Candidate make_candidate(const Model& model, PlannedModule::Role role, const std::string& name,
                         int64_t out, int64_t in, Orientation orientation, bool bias = false) {
  find_weight(model.source(), name, out, in, orientation);  // throws what it throws
  // What runs may be something else: a merge that is made while it is read, as a tensor too.
  const auto tensor = model.source().describe(name + std::string(kWeightSuffix));
  if (!tensor) {
    throw Error(ErrorKind::usage, "the module is quantized already", name,
                "start from the original checkpoint");
  }
  Candidate candidate;
  candidate.module.role = role;
  candidate.module.info = {name, out, in, orientation, tensor->dtype, bias};
  return candidate;
}

// In the order of the work.
std::vector<Candidate> find_candidates(const Model& model, const PlanRequest& request) {
  using Role = PlannedModule::Role;
  const ModelConfig& c = model.config();
  const ModelSpec& spec = model.spec();
  const bool tied = spec.embedding == spec.output_embedding;
  std::vector<Candidate> all;
  all.push_back(
      make_candidate(model, Role::lookup, spec.embedding, c.vocab, c.hidden, Orientation::out_in));
  all.back().asked = request.embeddings || (tied && request.output_embedding);
  if (tied) all.back().others.emplace_back("lm_head");
  for (int64_t index = 0; index < c.layers; ++index) {
    const std::vector<InputGroup> groups = input_groups(c, spec.blocks[index]);
    for (size_t group = 0; group < groups.size(); ++group) {
      for (const LinearSpec& linear : groups[group].readers) {
        all.push_back(make_candidate(model, Role::linear, linear.module, linear.out, linear.in,
                                     linear.orientation, linear.bias));
        Candidate& candidate = all.back();
        candidate.module.block = index;
        candidate.module.group = group;
        candidate.asked = groups[group].routes
                              ? any_names(request.include, candidate)
                              : request.include.empty() || any_matches(request.include, candidate);
      }
    }
  }
  if (!tied) {
    all.push_back(make_candidate(model, Role::output, spec.output_embedding, c.vocab, c.hidden,
                                 Orientation::out_in));
    all.back().asked = request.output_embedding;
  }
  return all;
}

// Names that look most like the pattern: those that share its longest word, else the first ones.
std::string some_names(const std::string& pattern, const std::vector<Candidate>& candidates) {
  std::string word, longest;
  for (const char c : pattern + ".") {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_') {
      word += c;
    } else {
      if (word.size() > longest.size()) longest = word;
      word.clear();
    }
  }
  std::vector<std::string> names;
  for (const Candidate& candidate : candidates) {
    if (!longest.empty() && candidate.module.info.name.find(longest) != std::string::npos)
      names.push_back(candidate.module.info.name);
  }
  if (names.empty()) {
    for (const Candidate& candidate : candidates) names.push_back(candidate.module.info.name);
    std::rotate(names.begin(), names.begin() + 1, names.end());  // a block's modules first
  }
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(names.size(), 4); ++i)
    text += (i == 0 ? "" : ", ") + names[i];
  return "there are " + text + (names.size() > 4 ? ", ..." : "");
}

void check_use(const std::vector<std::string>& patterns, const std::string& where,
               const std::vector<Candidate>& candidates) {
  for (const std::string& pattern : patterns) {
    check_pattern(pattern, where);
    if (std::none_of(candidates.begin(), candidates.end(),
                     [&](const Candidate& candidate) { return matches(pattern, candidate); })) {
      throw Error(ErrorKind::usage, "the pattern '" + pattern + "' matches no module", where,
                  some_names(pattern, candidates));
    }
  }
}

bool has_parameter(const Method& method, const std::string& name) {
  const std::vector<Parameter> own = method.parameters();
  return std::any_of(own.begin(), own.end(), [&](const Parameter& p) { return p.name == name; });
}

Json shared_parameters(const Json& given, const Method& method) {
  Json shared = Json::object();
  for (const auto& [name, value] : given.items()) {
    if (has_parameter(method, name)) shared[name] = value;
  }
  return shared;
}

// What is decided so far for one module.
struct Choice {
  const Method* method = nullptr;  // null: it stays as it is
  Json given = Json::object();
  const PlanRule* named_by = nullptr;  // the rule that chose the method
};

void apply(const PlanRule& rule, const std::string& module, Choice& choice) {
  if (!rule.method.empty()) {
    choice.named_by = &rule;
    choice.method = rule.method == "skip" ? nullptr : &find_method(rule.method);
    if (choice.method == nullptr) return;
    choice.given = shared_parameters(choice.given, *choice.method);
  }
  if (choice.method == nullptr) {
    throw Error(ErrorKind::usage, module + " stays as it is by an earlier rule", rule.where,
                "give a method as well");
  }
  for (const auto& [name, value] : rule.given.items()) {
    if (name == "bits" && value.is_number() && value.get<double>() == fixed_bits(*choice.method))
      continue;
    if (!has_parameter(*choice.method, name)) {
      throw Error(
          ErrorKind::usage,
          "method " + choice.method->name() + " of " + module + " has no parameter '" + name + "'",
          rule.where, "give a method as well, or match fewer modules");
    }
    choice.given[name] = value;
  }
  try {
    resolve_settings(*choice.method, choice.given);
  } catch (const Error& error) {
    throw Error(error.kind(), error.what(), rule.where);
  }
}

bool is_selected(const Candidate& candidate, const PlanRequest& request) {
  if (any_matches(request.exclude, candidate)) return false;
  if (candidate.asked || candidate.module.role == PlannedModule::Role::linear)
    return candidate.asked;
  if (any_names(request.include, candidate)) return true;
  return std::any_of(request.rules.begin(), request.rules.end(),
                     [&](const PlanRule& rule) { return any_names(rule.match, candidate); });
}

// Calibrated methods need a linear layer.
void settle_lookup(const PlannedModule& module, Choice& choice, std::vector<std::string>& notes) {
  const std::string wanted = choice.method->name();
  if (choice.named_by != nullptr) {
    throw Error(ErrorKind::usage,
                "method " + wanted + " needs the inputs of a module, and " + module.info.name +
                    " is looked up row by row",
                choice.named_by->where,
                "choose a method without calibration for it: rtn, int8, nf4, ...");
  }
  choice.method = &find_method(kLookupMethod);
  choice.given = shared_parameters(choice.given, *choice.method);
  notes.push_back(module.info.name + " is looked up row by row, where " + wanted +
                  " has no inputs to work with: it gets " + kLookupMethod);
  const double bits = choice.method->bits(resolve_settings(*choice.method, choice.given));
  // SmolLM2's tied matrix: 4 bits cost a fifth in perplexity, 8 bits 0.06 percent.
  if (bits < 8) notes.back() += " (8 bits lose much less; a plan's rule can say so)";
}

Choice decide(const Candidate& candidate, const PlanRequest& request,
              std::vector<std::string>& notes) {
  const std::string& name = candidate.module.info.name;
  Choice choice;
  if (!is_selected(candidate, request)) return choice;
  choice.method = request.method;
  choice.given = request.given;
  for (const PlanRule& rule : request.rules) {
    if (any_matches(rule.match, candidate)) apply(rule, name, choice);
  }
  const bool lookup = candidate.module.role == PlannedModule::Role::lookup;
  if (lookup && choice.method != nullptr && choice.method->needs_calibration())
    settle_lookup(candidate.module, choice, notes);
  return choice;
}

size_t most_frequent(const std::vector<PlannedModule>& modules) {
  std::map<std::string, std::pair<size_t, size_t>>
      variants;  // canonical text -> count, first index
  for (size_t i = 0; i < modules.size(); ++i) {
    const Json variant = {{"method", modules[i].method->name()}, {"settings", modules[i].settings}};
    auto& [count, first] = variants.emplace(json_canonical(variant), std::pair{0, i}).first->second;
    ++count;
  }
  const auto best = std::max_element(
      variants.begin(), variants.end(),
      [](const auto& a, const auto& b) { return a.second.first < b.second.first; });
  return best->second.second;
}

}  // namespace

double PlannedModule::bits() const {
  if (layout.is_dense()) return layout.code_bits();
  return method->bits(settings);
}

bool Plan::wants_reference() const {
  return std::any_of(modules.begin(), modules.end(), [](const PlannedModule& module) {
    return module.method->wants_reference(module.settings);
  });
}

bool Plan::needs_calibration() const {
  return std::any_of(modules.begin(), modules.end(), [](const PlannedModule& module) {
    return module.method->needs_calibration();
  });
}

bool Plan::is_typical(const PlannedModule& module) const {
  return module.method == typical().method && module.settings == typical().settings;
}

std::string Plan::method_name() const {
  const bool one = std::all_of(modules.begin(), modules.end(), [&](const PlannedModule& module) {
    return module.method == modules.front().method;
  });
  return one ? modules.front().method->name() : "mixed";
}

double Plan::bits() const {
  double sum = 0;
  for (const PlannedModule& module : modules)
    sum += static_cast<double>(module.weights()) * module.bits();
  return sum / static_cast<double>(weights);
}

Plan plan_modules(const Model& model, const PlanRequest& request) {
  const std::vector<Candidate> candidates = find_candidates(model, request);
  check_use(request.include, "--include", candidates);
  check_use(request.exclude, "--exclude", candidates);
  for (const PlanRule& rule : request.rules) check_use(rule.match, rule.where, candidates);
  Plan plan;
  for (const Candidate& candidate : candidates) {
    PlannedModule module = candidate.module;
    const Choice choice = decide(candidate, request, plan.notes);
    if (choice.method == nullptr) {
      if (module.role == PlannedModule::Role::linear) plan.kept.push_back(module.info.name);
      continue;
    }
    module.method = choice.method;
    module.settings = resolve_settings(*choice.method, choice.given);
    module.layout = module.method->layout(module.info, module.settings);
    plan.weights += module.weights();
    plan.bytes += module.layout.bytes();
    plan.modules.push_back(std::move(module));
  }
  if (plan.modules.empty()) {
    throw Error(ErrorKind::usage, "nothing is left to quantize", {},
                "--include, --exclude and the plan's rules together leave every module as it is");
  }
  plan.typical_index = most_frequent(plan.modules);
  return plan;
}

Plan plan_modules(const Model& model, const Method& method, const Settings& settings) {
  PlanRequest request;
  request.method = &method;
  request.given = settings;
  return plan_modules(model, request);
}

}  // namespace qwb
