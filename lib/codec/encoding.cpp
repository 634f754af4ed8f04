#include "lib/codec/encoding.h"

namespace qwb {

int64_t part_bytes(const PartSpec& spec) {
  return checked_mul(element_count(spec.shape, spec.name), dtype_size(spec.dtype), spec.name);
}

void damaged_weight(const std::string& what, const std::string& where) {
  throw Error(ErrorKind::failed, what, where,
              "the artifact is damaged or was written by something else");
}

void expect_part(const TensorView& view, const PartSpec& spec, const std::string& where) {
  if (view.shape.empty()) damaged_weight("part '" + spec.name + "' is missing", where);
  if (view.dtype != spec.dtype || view.shape != spec.shape) {
    damaged_weight(spec.name + " is " + std::string(dtype_name(view.dtype)) + " " +
                       shape_text(view.shape) + ", expected " +
                       std::string(dtype_name(spec.dtype)) + " " + shape_text(spec.shape),
                   where);
  }
  if (static_cast<int64_t>(view.bytes.size()) != part_bytes(spec)) {
    damaged_weight(
        spec.name + " has " + std::to_string(view.bytes.size()) + " bytes, not what its shape says",
        where);
  }
}

}  // namespace qwb
