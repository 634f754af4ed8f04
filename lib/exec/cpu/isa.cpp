#include "lib/exec/cpu/isa.h"

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <cstdlib>

#include "lib/base/error.h"

namespace qwb {
namespace {

std::vector<int64_t> split_targets(int64_t left) {
  std::vector<int64_t> found;
  while (left != 0) {
    const int64_t lowest = left & -left;  // the best target has the lowest bit
    found.push_back(lowest);
    left ^= lowest;
  }
  return found;
}

std::vector<int64_t> targets() {
  return split_targets(hwy::SupportedTargets() & HWY_TARGETS);
}

// The bit of the chosen target.
int64_t choose() {
  const std::vector<int64_t> all = targets();
  const char* wanted = std::getenv("QWB_ISA");
  if (wanted == nullptr || *wanted == '\0') return all.front();
  std::string names;
  for (const int64_t target : all) {
    if (wanted == std::string(hwy::TargetName(target))) {
      hwy::SetSupportedTargetsForTest(target);
      return target;
    }
    names += std::string(names.empty() ? "" : ", ") + hwy::TargetName(target);
  }
  throw Error(ErrorKind::usage, "QWB_ISA=" + std::string(wanted) + " is not available here", {},
              "available: " + names);
}

int64_t chosen() {
  static const int64_t target = choose();
  return target;
}

}  // namespace

void select_isa() {
  chosen();
}
std::string isa_name() {
  return hwy::TargetName(chosen());
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const int64_t target : targets()) names.emplace_back(hwy::TargetName(target));
  return names;
}

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const int64_t target : split_targets(HWY_TARGETS))
    names.emplace_back(hwy::TargetName(target));
  return names;
}

}  // namespace qwb
