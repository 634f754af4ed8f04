// The rate that this machine's vector units reach when nothing else is in the way: what a matrix
// product is measured against.
#pragma once

namespace qwb::bench {

// f32 multiply-adds from registers on all threads, in GFLOP/s (a multiply-add counts two). Best of
// several runs. Matrix units (AMX) are not counted: oneDNN leaves f32 to the vector units unless it
// is allowed to round to bf16.
double peak_gflops();

}  // namespace qwb::bench
