#include "lib/codec/dense.h"

#include "lib/codec/registry.h"

namespace qwb {
namespace {

PartSpec dense_spec(const WeightShape& shape, DType dtype) {
  return {"weight", dtype, {shape.rows(), shape.columns()}};
}

}  // namespace

void DenseWeight::check(const WeightShape& shape, const std::string& where) const {
  if (!dtype_is_float(values.dtype)) {
    throw Error(ErrorKind::unsupported,
                "weight is " + std::string(dtype_name(values.dtype)) + ", not a float type", where);
  }
  expect_part(values, dense_spec(shape, values.dtype), where);
}

void DenseWeight::decode_row(const WeightShape& shape, int64_t row, double* out) const {
  std::vector<float> floats(static_cast<size_t>(shape.columns()));
  read_floats(values, row * shape.columns(), shape.columns(), floats.data(), "weight");
  std::copy(floats.begin(), floats.end(), out);
}

WeightLayout dense_layout(const WeightShape& shape, DType dtype) {
  PartSpec spec = dense_spec(shape, dtype);
  return {shape, DenseWeight{{dtype, std::move(spec.shape), {}}}};
}

Codec dense_codec() {
  return codec_of<DenseWeight>();
}

}  // namespace qwb
