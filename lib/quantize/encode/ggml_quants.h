// f32 rows to ggml's blocks. Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 have exactly the bytes that
// llama.cpp's quantizer writes without an importance matrix. Q2_K to Q6_K are searched here: for
// every sub-block a scale (and minimum) of least (weighted) squared error over a line of
// candidates, each with its least-squares fit (the method of llama.cpp's k-quants,
// https://github.com/ggml-org/llama.cpp/pull/1684), then the stored integer scales by trying
// neighbours with the codes they give; IQ4_NL, IQ4_XS and MXFP4 likewise. Layouts:
// formats/gguf/gguf.md.
#pragma once

#include <cstdint>
#include <string>

#include "lib/base/bytes.h"
#include "lib/codec/ggml_type.h"

namespace qwb {

// `count` finite values (whole blocks) into consecutive blocks, in the calling thread. Throws
// `failed` if a scale or minimum overflows f16.
void quantize_ggml(GgmlType type, const float* values, int64_t count, std::byte* blocks);

}  // namespace qwb
