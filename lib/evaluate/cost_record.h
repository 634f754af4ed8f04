// What an artifact costs, as JSON: the parts `speed`, `memory` and `energy` of a record (record.h).
// A number that was not measured is null.
//
//   speed   {load_seconds  from the folder's name to a model that can run (its weights mapped)
//            load_to_first_token_seconds
//                          that and the first pass of the first prefill, in which the pages of
//                          the weights are read; null if the grid begins with no prefill
//            threads, isa, cpu, version, repetitions, test_time
//            in_turns      models that were measured in turns with it, itself included
//            load_average  [before, after], of a minute; null where /proc/loadavg is not there
//            model: {architecture, parameters, bytes}
//            prefill, decode: {tokens, depth, noisy, median, min, max, mean, stddev}
//                          tokens/s of the first cell of each kind; stddev of the sample; null
//                          without
//            first_token_seconds: {prompt, depth, median, ...}
//                          from that prompt to the logits after it
//            tests: [{name, n_prompt, n_gen, n_depth, test_time, median, min, max, mean, stddev,
//                     kv_bytes, samples_ns,
//                     cpu_share   [own processor time / (wall x threads) of each sample]
//                     lost_share  the most that a sample lost of its processor time
//                     disturbed   repetitions that lost more than 5 % and were made again
//                     noisy}]}    true: so are some of the samples, and no conclusion holds
//   memory  of the work whose speed was measured; without speed, of the perplexity or the tasks
//           {peak_bytes, resident_bytes, anonymous_bytes, file_bytes
//                                 as Linux counts this process
//            peak_reset           false: peak_bytes includes what ran earlier in this process
//            weight_bytes         of all stored tensors
//            kv_bytes, kv_tokens  of the largest KV cache that was needed
//            quantize_peak_bytes  of the process that made the artifact (qwb.json); null if unknown
//            ledger: {mapped_weights, weights, kv_cache, activations, scratch,
//                     allocated: {now, peak}}
//                                 as our allocations tell (lib/base/memory_ledger.h);
//                                 mapped_weights is address space of files, allocated all else
//            model: {mapped_bytes, copied_bytes, vector_bytes}}
//                                 the weights by where they lie
//   energy  {joules, seconds, watts, net_joules, method, device, domain, quality, remark
//                                 of all windows
//            joules_per_prompt_token, joules_per_generated_token, joules_per_request:
//              {gross, net, noisy, mean, stddev, min, max}   the last four over rounds; null
//            idle: {before_watts, after_watts, watts, seconds}   of the total's method; null
//            counters: [{device, method, step_seconds, step_joules}]
//            windows: [{work, n_prompt, n_gen, n_depth, passes, tokens, joules, net_joules,
//                       joules_per_token, net_joules_per_token, rounds: {mean, ..., count},
//                       disturbed, noisy,   as of speed, in rounds
//                       seconds, watts, method, device, domain, quality, remark,
//                       integrated_joules, power_ratio, celsius_begin, celsius_end,
//                       power_limit_watts, parts: [...]}]
//            reasons: [...]       why something could not be measured, and how to grant access
//            seconds_per_work, rounds,
//            cooldown: {seconds   rest before another model's work, at most
//                       rested_seconds   before this model's, all together}}
//           net: without idle power x seconds.
//           joules: null if neither measured nor estimated.
//           quality: "measured", "estimated" or "unavailable".
//           integrated_joules: by NVML's power readings beside its counter; power_ratio is their
//           quotient.
//           celsius_begin, celsius_end, power_limit_watts: of GPUs; null if unknown.
//           rounds.count: above `rounds` where the rounds differed.
// speed and energy have `cached: true` if they were measured by an earlier run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/base/memory_ledger.h"
#include "lib/evaluate/energy_rounds.h"
#include "lib/evaluate/memory.h"
#include "lib/evaluate/speed.h"
#include "lib/model/weight_bytes.h"

namespace qwb {

struct SpeedCost {
  SpeedResult result;
  double load_seconds = 0;
  std::string isa, cpu, version;
  std::string architecture;
  int64_t parameters = 0;
  int64_t bytes = 0;
};

struct MemoryCost {
  std::optional<MemoryUse> use;  // nothing where the system does not tell
  bool peak_reset = false;
  int64_t weight_bytes = 0;
  int64_t kv_bytes = 0;
  int64_t kv_tokens = 0;
  std::optional<int64_t> quantize_peak;
  MemoryLedger ledger;
  WeightBytes model;
};

struct EnergyCost {
  std::vector<EnergyWindow> windows;
  IdleBaseline idle;
  std::vector<CounterInfo> counters;
  EnergyPlan plan;
  double rested_seconds = 0;
};

Json speed_json(const SpeedCost& cost);
Json memory_json(const MemoryCost& cost);
Json energy_json(const EnergyCost& cost);

}  // namespace qwb
