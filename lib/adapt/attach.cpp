#include "lib/adapt/attach.h"

#include "lib/base/error.h"

namespace qwb {

std::vector<AttachedModule> attach(const Adapter& adapter, float weight, Model& model) {
  if (!adapter.replaced.empty())
    throw Error(ErrorKind::unsupported,
                "the adapter replaces '" + adapter.replaced.begin()->first +
                    "' as a whole (modules_to_save, or trained biases)",
                {}, "qwb-merge makes a model of it and its base");
  std::vector<AttachedModule> attached;
  for (const AdapterModule& m : adapter.modules) {
    auto factors =
        std::make_shared<LowRank>(model.executor(), LowRank::Factors{.rank = m.rank,
                                                                     .in = m.in,
                                                                     .out = m.out,
                                                                     .a = m.a,
                                                                     .b = m.b,
                                                                     .scale = m.scale * weight});
    model.attach(m.module, factors);
    attached.push_back({m.module, std::move(factors)});
  }
  return attached;
}

}  // namespace qwb
