#include "lib/codec/weight.h"

#include "lib/codec/dense.h"

namespace qwb {

void WeightLayout::not_stored_as(const char* wanted) const {
  throw Error(ErrorKind::usage, "a weight of codec " + codec() + " was taken for " + wanted);
}

bool WeightLayout::is_dense() const {
  return as<DenseWeight>() != nullptr;
}

std::vector<PartSpec> WeightLayout::specs() const {
  std::vector<PartSpec> specs;
  for (const auto& [name, view] : encoding->parts())
    specs.push_back({name, view.dtype, view.shape});
  return specs;
}

bool WeightLayout::has(const std::string& part) const {
  for (const auto& [name, view] : encoding->parts()) {
    if (name == part) return true;
  }
  return false;
}

PartSpec WeightLayout::spec(const std::string& part) const {
  for (const auto& [name, view] : encoding->parts()) {
    if (name == part) return {name, view.dtype, view.shape};
  }
  throw Error(ErrorKind::usage, "a weight of codec " + codec() + " has no part '" + part + "'");
}

int64_t WeightLayout::bytes() const {
  int64_t total = 0;
  for (const PartSpec& spec : specs()) total = checked_add(total, part_bytes(spec), spec.name);
  return total;
}

PartViews Weight::parts() const {
  PartViews views;
  for (const auto& [name, view] : encoding->parts()) views.emplace(name, view);
  return views;
}

WeightLayout layout_of(const Weight& weight) {
  PartViews parts = weight.parts();
  for (auto& [name, view] : parts) view.bytes = {};
  return {weight, weight.encoding->with_parts(parts, "weight")};
}

void check_weight(const Weight& weight, const std::string& where) {
  if (weight.out < 1 || weight.in < 1)
    damaged_weight("a weight needs at least one row and one column", where);
  weight.encoding->check(weight, where);
}

Weight attach(const WeightLayout& layout, const PartViews& parts, const std::string& where) {
  Weight weight(WeightLayout(layout, layout.encoding->with_parts(parts, where)));
  check_weight(weight, where);
  return weight;
}

QuantizedTensor::QuantizedTensor(const WeightLayout& layout) : WeightLayout(layout) {
  for (const PartSpec& spec : specs()) parts.emplace(spec.name, Tensor(spec.dtype, spec.shape));
}

PartViews QuantizedTensor::part_views() const {
  PartViews views;
  for (const auto& [name, tensor] : parts) views.emplace(name, tensor.view());
  return views;
}

Weight QuantizedTensor::view() const {
  return attach(*this, part_views(), "quantized tensor");
}

}  // namespace qwb
