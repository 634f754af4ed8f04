// One block of 256 values each; see ggml_quants.h.
#pragma once

#include "lib/base/bytes.h"

namespace qwb {

void to_q2_k(const float* x, std::byte* block);
void to_q3_k(const float* x, std::byte* block);
void to_q4_k(const float* x, std::byte* block);
void to_q5_k(const float* x, std::byte* block);
void to_q6_k(const float* x, std::byte* block);

}  // namespace qwb
