#include "lib/chat/jinja/symbols.h"

namespace qwb::jinja {

const Symbols* Symbols::owner(const std::string& name) const {
  for (const Symbols* at = this; at != nullptr; at = at->parent_) {
    if (at->refs_.contains(name)) return at;
  }
  return nullptr;
}

void Symbols::define(const std::string& name, From from) {
  refs_[name] = from;
}

void Symbols::store(const std::string& name) {
  stores_.insert(name);
  if (refs_.contains(name)) return;
  define(name, parent_ != nullptr && parent_->owner(name) != nullptr ? From::outer : From::nothing);
}

void Symbols::declare_parameter(const std::string& name) {
  stores_.insert(name);
  define(name, From::parameter);
}

void Symbols::declare_item(const std::string& name) {
  stores_.insert(name);
  define(name, From::item);
}

void Symbols::load(const std::string& name) {
  if (owner(name) == nullptr) define(name, From::context);
}

void Symbols::update_from(const std::vector<Symbols>& branches) {
  std::set<std::string> stored;
  for (const Symbols& branch : branches)
    stored.insert(branch.stores_.begin(), branch.stores_.end());
  for (const std::string& name : stores_) stored.erase(name);
  for (const Symbols& branch : branches) {
    for (const auto& [name, from] : branch.refs_) refs_[name] = from;
    stores_.insert(branch.stores_.begin(), branch.stores_.end());
  }
  // Stored in some branch: in the others it keeps its meaning from outside.
  for (const std::string& name : stored)
    refs_[name] =
        parent_ != nullptr && parent_->owner(name) != nullptr ? From::outer : From::context;
}

Place Symbols::place_of(const Symbols& owner, const std::string& name) const {
  Place place;
  for (const FunctionScope* at = function_; at != owner.function_; at = at->outer) ++place.hops;
  FunctionScope& function = *owner.function_;
  const auto [found, is_new] =
      function.slot_of.emplace(std::to_string(owner.level_) + " " + name, function.slots);
  if (is_new) ++function.slots;
  place.slot = found->second;
  place.item = owner.refs_.at(name) == From::item;
  return place;
}

Place Symbols::place(const std::string& name) const {
  const Symbols* found = owner(name);
  if (found == nullptr) throw Failure("the name '" + name + "' is not known where it stands");
  return place_of(*found, name);
}

Loads Symbols::loads() const {
  Loads loads;
  for (const auto& [name, from] : refs_) {
    Load load;
    load.place = place_of(*this, name);
    load.name = name;
    load.from = from == From::parameter || from == From::item ? Load::From::caller
                : from == From::context                       ? Load::From::context
                : from == From::outer                         ? Load::From::other
                                                              : Load::From::nothing;
    if (from == From::outer) {
      const Symbols* outer = parent_->owner(name);
      load.other = place_of(*outer, name);
    }
    loads.push_back(std::move(load));
  }
  return loads;
}

}  // namespace qwb::jinja
