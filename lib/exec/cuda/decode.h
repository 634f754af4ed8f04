// The values of stored weights, one at a time, for the GPU and, so that tests can compare them
// with the processor's bit by bit, for the host too. Nothing is contracted into fused
// multiply-adds: the .cu files are compiled with --fmad=false.
#pragma once

#include <cstdint>
#include <cstring>

#include "lib/exec/cuda/interface.h"
#include "lib/exec/host_device.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace qwb::cuda {

QWB_BOTH float float_of_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

QWB_BOTH float from_f16(uint16_t bits) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(bits));
#else
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu, mantissa = bits & 0x3ffu;
  if (exponent == 31) return float_of_bits(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return float_of_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // 2^-24
  return sign != 0 ? -magnitude : magnitude;
#endif
}

// Little-endian, from any alignment.
QWB_BOTH uint32_t bits16(const unsigned char* at) {
  return at[0] | static_cast<uint32_t>(at[1]) << 8;
}
QWB_BOTH uint32_t bits32(const unsigned char* at) {
  return bits16(at) | bits16(at + 2) << 16;
}

// Parts begin aligned in the device's memory, so numbers of 2, 4 and 8 bytes are too.
QWB_BOTH float number_at(const unsigned char* data, Number number, int64_t index) {
  switch (number) {
    case Number::f16:
      return from_f16(reinterpret_cast<const uint16_t*>(data)[index]);
    case Number::bf16:
      return float_of_bits(static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(data)[index])
                           << 16);
    case Number::f64:
      return static_cast<float>(reinterpret_cast<const double*>(data)[index]);
    default:
      return reinterpret_cast<const float*>(data)[index];
  }
}

// a / b, for which 32 bits do nearly always and are much faster on a GPU.
QWB_BOTH int64_t quotient(int64_t a, int64_t b) {
  if ((a | b) >> 32 == 0) return static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
  return a / b;
}

// Code `index` of a bit stream.
QWB_BOTH uint32_t code_at(const unsigned char* packed, int64_t index, int bits) {
  const int64_t bit = index * bits;
  const int shift = static_cast<int>(bit % 8);
  uint32_t word = packed[bit / 8];
  if (shift + bits > 8) word |= static_cast<uint32_t>(packed[bit / 8 + 1]) << 8;
  return (word >> shift) & ((1u << bits) - 1);
}

QWB_BOTH int64_t group_of(const StoredWeight& w, int64_t column) {
  return w.group_index != nullptr ? w.group_index[column] : quotient(column, w.group);
}
QWB_BOTH float zero_point(const StoredWeight& w, int64_t row, int64_t group) {
  const uint32_t zero = w.zeros != nullptr
                            ? code_at(w.zeros + row * w.zeros_row_bytes, group, w.bits)
                            : 1u << (w.bits - 1);
  return static_cast<float>(zero);
}
QWB_BOTH float grid_scale(const StoredWeight& w, int64_t row, int64_t group) {
  return number_at(w.scales, w.number, row * w.groups + group);
}
// A code less its zero point.
QWB_BOTH float grid_difference(const StoredWeight& w, int64_t row, int64_t column, int64_t group) {
  const uint32_t code = code_at(w.codes + row * w.row_bytes, column, w.bits);
  return static_cast<float>(code) - zero_point(w, row, group);
}
QWB_BOTH float grid_value(const StoredWeight& w, int64_t row, int64_t column) {
  const int64_t group = group_of(w, column);
  return grid_difference(w, row, column, group) * grid_scale(w, row, group);
}

// The scale of one block of 4-bit floats.
QWB_BOTH float block_scale(const StoredWeight& w, int64_t block) {
  if (w.nested == 0) return reinterpret_cast<const float*>(w.scales)[block];
  const float product =
      w.nested_map[w.scales[block]] * w.nested_absmax[quotient(block, w.nested_block)];
  return product + w.nested_offset;
}

QWB_BOTH float float_block_value(const StoredWeight& w, int64_t row, int64_t column) {
  const int64_t index = row * w.columns() + column;
  const unsigned char byte = w.codes[index / 2];
  const int code = index % 2 == 0 ? byte >> 4 : byte & 15;
  return w.table[code] * block_scale(w, quotient(index, w.scale_block));
}

// ggml's types by their numbers in GGUF files; formats/gguf/gguf.md draws the blocks.
namespace ggml {
enum Type : int {
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  iq4_xs = 23,
  mxfp4 = 39,
};

QWB_BOTH float half_at(const unsigned char* block, int offset) {
  return from_f16(static_cast<uint16_t>(bits16(block + offset)));
}
// The nibble of value i among the 16 bytes from `at`.
QWB_BOTH int nibble(const unsigned char* at, int i) {
  return i < 16 ? at[i] & 15 : at[i - 16] >> 4;
}
QWB_BOTH int fifth_bit(const unsigned char* at, int i) {
  return static_cast<int>(bits32(at) >> i & 1u) << 4;
}

// d s code - m low, for sub-block u of Q4_K and Q5_K, whose six-bit s and low lie in twelve bytes.
QWB_BOTH float affine(const unsigned char* b, int u, int code) {
  const int s = u < 4 ? b[4 + u] & 63 : (b[8 + u] & 15) | (b[u] >> 6) << 4;
  const int low = u < 4 ? b[8 + u] & 63 : (b[8 + u] >> 4) | (b[4 + u] >> 6) << 4;
  const float scale = half_at(b, 0) * static_cast<float>(s);
  const float product = scale * static_cast<float>(code);
  return product - half_at(b, 2) * static_cast<float>(low);
}

QWB_BOTH float q2_k_value(const unsigned char* b, int i) {
  const int l = i % 32, n = i / 128, j = i % 128 / 32, s = 8 * n + 2 * j + l / 16;
  const int code = (b[16 + 32 * n + l] >> (2 * j)) & 3;
  const float scale = half_at(b, 80) * static_cast<float>(b[s] & 15);
  const float product = scale * static_cast<float>(code);
  return product - half_at(b, 82) * static_cast<float>(b[s] >> 4);
}

QWB_BOTH float q3_k_value(const unsigned char* b, int i) {
  const int l = i % 32, n = i / 128, j = i % 128 / 32, s = 8 * n + 2 * j + l / 16;
  const int low = (b[32 + 32 * n + l] >> (2 * j)) & 3, high = (b[l] >> (4 * n + j)) & 1;
  const int scale =
      (s < 8 ? b[96 + s] & 15 : b[88 + s] >> 4) | ((b[104 + s % 4] >> (2 * (s / 4))) & 3) << 4;
  const float step = half_at(b, 108) * static_cast<float>(scale - 32);
  return step * static_cast<float>(low + 4 * high - 4);
}

QWB_BOTH float q6_k_value(const unsigned char* b, int i) {
  const int l = i % 32, n = i / 128, j = i % 128 / 32, s = 8 * n + 2 * j + l / 16;
  const int byte = b[64 * n + 32 * (j & 1) + l];
  const int code = (j < 2 ? byte & 15 : byte >> 4) | ((b[128 + 32 * n + l] >> (2 * j)) & 3) << 4;
  const float step = half_at(b, 208) * static_cast<float>(static_cast<signed char>(b[192 + s]));
  return step * static_cast<float>(code - 32);
}

// The signed byte of number `code` of sixteen: kIq4Values, kMxfp4Values of lib/codec/ggml_type.h.
QWB_BOTH float byte_of(uint64_t first_eight, uint64_t last_eight, int code) {
  const uint64_t word = code < 8 ? first_eight : last_eight;
  return static_cast<float>(static_cast<signed char>(word >> (8 * (code & 7)) & 0xff));
}
QWB_BOTH float iq4_value(int code) {
  return byte_of(0xf6eaddcfbfad9881u, 0x7159453526190d01u, code);
}
QWB_BOTH float iq4_xs_value(const unsigned char* b, int i) {
  const int run = i / 32, low = b[4 + run / 2] >> (4 * (run % 2)) & 15;
  const int scale = low | static_cast<int>(bits16(b + 2) >> (2 * run) & 3u) << 4;
  const float step = half_at(b, 0) * static_cast<float>(scale - 32);
  return step * iq4_value(nibble(b + 8 + 16 * run, i % 32));
}
QWB_BOTH float mxfp4_value(const unsigned char* b, int i) {
  const uint32_t e = b[0];
  const float scale = float_of_bits(e < 2 ? (e + 1) << 21 : (e - 1) << 23);
  return scale * byte_of(0x0c08060403020100u, 0xf4f8fafcfdfeff00u, nibble(b + 1, i));
}

// Value i of a block.
QWB_BOTH float value(int type, const unsigned char* b, int i) {
  // Of Q4_K and Q5_K.
  const int within = 32 * (i / 64) + i % 32, shift = i % 64 < 32 ? 0 : 4;
  switch (type) {
    case q4_0:
      return static_cast<float>(nibble(b + 2, i) - 8) * half_at(b, 0);
    case q4_1: {
      const float product = static_cast<float>(nibble(b + 4, i)) * half_at(b, 0);
      return product + half_at(b, 2);
    }
    case q5_0:
      return static_cast<float>((nibble(b + 6, i) | fifth_bit(b + 2, i)) - 16) * half_at(b, 0);
    case q5_1: {
      const float product =
          static_cast<float>(nibble(b + 8, i) | fifth_bit(b + 4, i)) * half_at(b, 0);
      return product + half_at(b, 2);
    }
    case q8_0:
      return static_cast<float>(static_cast<signed char>(b[2 + i])) * half_at(b, 0);
    case iq4_nl:
      return half_at(b, 0) * iq4_value(nibble(b + 2, i));
    case iq4_xs:
      return iq4_xs_value(b, i);
    case mxfp4:
      return mxfp4_value(b, i);
    case q2_k:
      return q2_k_value(b, i);
    case q3_k:
      return q3_k_value(b, i);
    case q4_k:
      return affine(b, i / 32, (b[16 + within] >> shift) & 15);
    case q5_k:
      return affine(b, i / 32,
                    ((b[48 + within] >> shift) & 15) | ((b[16 + i % 32] >> (i / 32)) & 1) << 4);
    default:
      return q6_k_value(b, i);
  }
}

// Where row `row` of a weight is stored: q and k of Llama's files lie interleaved.
QWB_BOTH int64_t stored_row(const StoredWeight& w, int64_t row) {
  if (w.head_rows == 0) return row;
  const int64_t within = row % w.head_rows, half = w.head_rows / 2;
  return row - within + 2 * (within % half) + within / half;
}

// The code of value i of a block of Q4_0, Q5_0 or Q8_0, made unsigned.
QWB_BOTH uint32_t unsigned_code(int type, const unsigned char* block, int i) {
  if (type == q8_0) return block[2 + i] ^ 0x80u;
  if (type == q4_0) return static_cast<uint32_t>(nibble(block + 2, i));
  return static_cast<uint32_t>(nibble(block + 6, i) | fifth_bit(block + 2, i));
}

// Byte `i` of the same weight as an integer grid; with the first two of a block goes its scale.
QWB_BOTH void grid_byte(const StoredWeight& w, int bits, int64_t i, unsigned char* codes,
                        unsigned char* scales) {
  const int64_t blocks = w.in / w.block, code_bytes = 4 * bits;
  const int64_t row = i / (blocks * code_bytes), block = i % (blocks * code_bytes) / code_bytes;
  const int byte = static_cast<int>(i % code_bytes);
  const unsigned char* from = w.codes + stored_row(w, row) * w.row_bytes + block * w.block_bytes;
  uint32_t made = 0;
  for (int bit = 0; bit < 8; ++bit) {
    const int at = 8 * byte + bit;
    made |= (unsigned_code(w.type, from, at / bits) >> (at % bits) & 1u) << bit;
  }
  codes[i] = static_cast<unsigned char>(made);
  if (byte < 2) scales[2 * (row * blocks + block) + byte] = from[byte];
}
}  // namespace ggml

QWB_BOTH float ggml_value(const StoredWeight& w, int64_t row, int64_t column) {
  const int64_t number = quotient(column, w.block);
  const unsigned char* block =
      w.codes + ggml::stored_row(w, row) * w.row_bytes + number * w.block_bytes;
  return ggml::value(w.type, block, static_cast<int>(column - number * w.block));
}

// As bitsandbytes: the code times absmax, then times this.
constexpr float kInverse127 = 7.874015718698502e-3f;

// Row and column are of the stored matrix.
template <Form F>
QWB_BOTH float stored_value(const StoredWeight& w, int64_t row, int64_t column) {
  if (F == Form::dense) return number_at(w.codes, w.number, row * w.columns() + column);
  if (F == Form::grid) return grid_value(w, row, column);
  if (F == Form::float_blocks) return float_block_value(w, row, column);
  if (F == Form::ggml_blocks) return ggml_value(w, row, column);
  const auto code = static_cast<signed char>(w.codes[row * w.row_bytes + column]);
  const float product = static_cast<float>(code) * reinterpret_cast<const float*>(w.scales)[row];
  return product * kInverse127;
}

}  // namespace qwb::cuda
