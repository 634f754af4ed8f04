// Grids as ggml blocks and back, code by code: nothing is rounded, so that the weights are
// the same before and after, bit for bit.
#pragma once

#include <optional>
#include <string>

#include "lib/base/context.h"
#include "lib/codec/fp4_groups.h"
#include "lib/codec/ggml_type.h"
#include "lib/codec/integer_grid.h"
#include "lib/codec/weight.h"

namespace qwb {

// The smallest type that holds this weight exactly: a dense weight's own type, ggml blocks' own,
// and for an integer grid whose groups are multiples of 32
//   symmetric up to 4 bits Q4_0, 5 bits Q5_0, 6 to 8 bits Q8_0
//   asymmetric up to 4 bits Q4_1, 5 bits Q5_1, if -zero * scale fits f16
// MXFP4 for 4-bit floats in groups of 32 with power-of-two scales.
// Looks at every scale. Nothing, with the reason, where there is none: scales that f16 cannot hold
// are named.
std::optional<GgmlType> exact_ggml_type(const Weight& weight, std::string& reason,
                                        const Context& context = {});
// The same as far as the layout alone tells; what scales may spoil is left open.
std::optional<GgmlType> exact_ggml_type(const WeightLayout& layout, std::string& reason);
// True if exact_ggml_type must look at the scales: those of f16 fit symmetric blocks always.
bool ggml_needs_scales(const WeightLayout& layout);

// Row `row` of an integer grid as blocks of the type that exact_ggml_type gave.
void repack_ggml_row(const IntegerGrid& grid, GgmlType type, int64_t columns, int64_t row,
                     std::byte* out);

// The same of such floats as MXFP4.
void repack_mxfp4_row(const Fp4Groups& groups, int64_t columns, int64_t row, std::byte* out);

// The layout of grid_from_ggml's result; nothing if the weight is something else than such blocks.
std::optional<WeightLayout> ggml_grid_layout(const Weight& weight, const Context& context = {});

// The grid that these blocks are: Q4_0, Q5_0, Q8_0 symmetric, Q4_1 and Q5_1 asymmetric integers,
// group 32, f16 scales; MXFP4 the floats of lib/codec/fp4_groups.h. Throws unsupported, naming
// `where`, for other types and minimums that are no whole multiple of the scale.
QuantizedTensor grid_from_ggml(const Weight& weight, const std::string& where,
                               const Context& context = {});

}  // namespace qwb
