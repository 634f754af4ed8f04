// f32 values to ggml's blocks whose codes stand for the values of a table: IQ4_NL and MXFP4 (32
// values), IQ4_XS (256). Scales are searched by least squared error. For ggml_quants.cpp alone.
#pragma once

#include <cstddef>

namespace qwb {

void to_iq4_nl(const float* x, std::byte* block);
void to_iq4_xs(const float* x, std::byte* block);
void to_mxfp4(const float* x, std::byte* block);

}  // namespace qwb
