// Plain definitions that the fast kernels are tested against.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lib/kernels/backend.h"
#include "lib/tensor/weight.h"

namespace qwb {

// Element (row, column) of the stored matrix, computed in f64 from its definition in
// lib/tensor/weight.h.
double reference_element(const Weight& weight, int64_t row, int64_t column);
// The whole stored matrix, rounded to f32.
std::vector<float> reference_dequantize(const Weight& weight);

// make_backend(BackendKind::reference, ...)
std::unique_ptr<Backend> make_reference_backend();

}  // namespace qwb
