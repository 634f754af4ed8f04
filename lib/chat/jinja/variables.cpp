// The variables of a rendering: their places, and the statements that set them.
#include <algorithm>

#include "lib/chat/jinja/renderer.h"

namespace qwb::jinja {

std::optional<Value>& Renderer::slot(Place place) {
  Activation* at = here_;
  for (; place.hops > 0; --place.hops) at = at->outer;
  return at->slots[place.slot];
}

void Renderer::enter(const Loads& loads) {
  budget_.charge(static_cast<int64_t>(loads.size()));
  for (const Load& load : loads) {
    if (load.from == Load::From::caller) continue;
    auto& variable = slot(load.place);
    variable.reset();
    if (load.from == Load::From::other) {
      variable = slot(load.other);
    } else if (load.from == Load::From::context) {
      if (const auto found = context_.find(load.name); found != context_.end())
        variable = found->second;
    }
  }
}

void Renderer::leave(const Loads& loads) {
  for (const Load& load : loads) slot(load.place).reset();
}

void Renderer::assign(const Target& target, const Value& value) {
  if (!target.attribute.empty()) return assign_attribute(target, value);
  if (!target.tuple) {
    slot(target.place) = value;
    return;
  }
  const auto parts = iterate(value);
  if (parts->items.size() != target.parts.size()) {
    throw Failure("cannot unpack " + std::to_string(parts->items.size()) + " values into " +
                  std::to_string(target.parts.size()));
  }
  for (size_t i = 0; i < parts->items.size(); ++i) assign(target.parts[i], parts->items[i]);
}

void Renderer::assign_attribute(const Target& target, const Value& value) {
  const auto& holder = slot(target.place);
  const auto* space = holder ? holder->as<Namespace*>() : nullptr;
  if (space == nullptr)
    throw Failure("attributes can only be set on a namespace, not on " +
                  type_name(holder ? *holder : Value(Undefined{target.name})));
  if (target.attribute.starts_with("_"))
    throw Failure("a namespace attribute must not begin with '_'");
  // A loop could hide any depth behind its list; nothing needs one to outlive itself.
  if (value.as<Value::Loop>() != nullptr)
    throw Unsupported("'loop' cannot be stored in a namespace");
  set_item((*space)->items, target.attribute, value);
}

void Renderer::keep(Activation* activation) {
  for (; activation != nullptr && !activation->kept; activation = activation->outer)
    activation->kept = true;
}

MacroRef Renderer::macro_here(const Statement& statement) {
  keep(here_);
  return {&statement, here_};
}

}  // namespace qwb::jinja
