// Speed as llama-bench prints it, made from records (cost_record.h), so that scripts for the one
// read the other. Fields have llama-bench's names where they mean the same:
//
//   build_commit (this program's version), build_number 0, cpu_info, gpu_info, backends "CPU",
//   model_filename, model_type ("llama 134.52 M gptq"), model_size (bytes of all tensors),
//   model_n_params, n_threads, type_k and type_v (of the KV cache), use_mmap, n_prompt, n_gen,
//   n_depth, test_time, avg_ns, stddev_ns, avg_ts, stddev_ts; in JSON also samples_ns, samples_ts
//
// What llama-bench has and this program has not (n_batch, n_gpu_layers, ...) is absent; isa is our
// own.
#pragma once

#include <string>
#include <vector>

#include "lib/base/json.h"

namespace qwb {

// One row for each test of a record; none for a record without speed. Throws `failed`, naming
// `where`, for JSON that is not a record.
std::vector<Json> speed_rows(const Json& record, const std::string& where);

enum class SpeedFormat { markdown, csv, json, jsonl };
// Throws usage, listing the names: md, csv, json, jsonl.
SpeedFormat find_speed_format(const std::string& name);
std::string speed_table(const std::vector<Json>& rows, SpeedFormat format);

}  // namespace qwb
