// Any open model as one GGUF file with metadata, tokenizer and chat template.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "formats/registry.h"
#include "lib/base/context.h"
#include "lib/codec/ggml_type.h"

namespace qwb {

// Encodes `count` finite values (whole blocks) of any type: lib/quantize's quantize_ggml. Handed
// in, because formats knows no quantizer.
using GgmlEncoder =
    std::function<void(GgmlType type, const float* values, int64_t count, std::byte* blocks)>;

struct GgufOptions {
  // Of the matrices. Nothing: every weight as it is stored, code by code; a weight that GGUF cannot
  // hold so is refused with the reason.
  std::optional<GgmlType> type;
  std::optional<GgmlType>
      plain;  // of the matrices that the source does not quantize, where type is empty
  std::optional<GgmlType>
      otherwise;  // of those that GGUF cannot hold as they are, instead of refusing
  std::optional<GgmlType> embedding;  // token_embd, where it shall differ
  std::optional<GgmlType> output;     // output, where there is one
  // More exceptions: the type for a tensor by its GGUF name ("blk.0.attn_q.weight"), or nothing.
  std::function<std::optional<GgmlType>(const std::string& tensor)> choose;
  std::string name;  // general.name; empty: the folder's
  GgmlEncoder encode;
  bool replace = true;  // a file that is there; else usage
};

struct GgufTensorReport {
  std::string name, source;  // in GGUF, and the Hugging Face name
  GgmlType type = GgmlType::f32;
  bool matrix = false;
  bool exact = false;  // the values are those of the source, bit for bit
  std::string note;    // why the type is not the one asked for; may be empty
  double error = 0;    // |W - W'|^2 / |W|^2 against the source; known after the work
};

struct GgufReport {
  std::vector<GgufTensorReport> tensors;
  int64_t tensor_bytes = 0;
};

// What write_gguf would do, errors apart. Reads scales and zero points, no codes.
GgufReport plan_gguf(const OpenModel& open, const GgufOptions& options, const Context& context);

// Writes `target` (never seen half written). As llama-quantize --pure: vectors, norms and positions
// are F32; rows that are not whole blocks get the type that llama.cpp falls back to (Q2_K and Q3_K
// Q4_0, Q4_K Q5_0, Q5_K Q5_1, Q6_K Q8_0, all else F16), which the report and `context` tell.
// Streams: memory is one tensor of GPT-2, which is transposed, else some rows. Throws unsupported
// (what GGUF cannot hold), `failed` (NaN, Inf or a scale beyond f16, naming the tensor).
GgufReport write_gguf(const OpenModel& open, const Path& target, const GgufOptions& options,
                      const Context& context);

}  // namespace qwb
