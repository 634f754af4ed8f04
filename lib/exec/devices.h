// The devices that an executor can work on: the processor, and NVIDIA GPUs where libqwb-cuda.so and
// a driver are there. Both are looked for when they are asked for; the program starts without.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/exec/executor.h"

namespace qwb {

struct Gpu {
  int index = 0;  // as cuda:INDEX names it
  std::string name, uuid;
  int major = 0, minor = 0;      // compute capability
  int processors = 0;            // streaming multiprocessors
  int64_t memory = 0, free = 0;  // bytes
  std::string problem;           // why it cannot be used; empty: it can
};

struct Gpus {
  std::vector<Gpu> cards;
  std::string problem;    // why none was looked at; empty: they were
  std::string advice;     // what to do about it
  std::string driver;     // the CUDA version that the driver knows: "13.0"; empty: no driver
  std::string runtime;    // that the kernels were built with
  std::string built_for;  // compute capabilities: "7.5 8.0 9.0"
};
// Never throws: what keeps GPUs from being used is what is told.
Gpus list_gpus();

// On one GPU: exact arithmetic, weights as they are stored. Throws unsupported, saying what was
// found and what to do, where there is no such GPU or it cannot be used; usage for an index that no
// GPU has.
std::unique_ptr<Executor> make_cuda_executor(int index, Threads threads);
// The same for calibration: operands of products of many rows are rounded to bf16 where the GPU has
// tensor cores for it (compute capability 8.0).
std::unique_ptr<Executor> make_cuda_calibration_executor(int index, Threads threads);

// What the bits of results depend on, for their keys: the instruction set, or the GPU and its
// kernels.
std::string arithmetic_of(const Executor& executor);

// What --device says.
struct DeviceChoice {
  enum class Kind { processor, gpu, automatic };
  Kind kind = Kind::processor;
  int index = 0;  // of the GPU
};
// "cpu", "cuda", "cuda:1", "auto", in any case. Throws usage.
DeviceChoice parse_device(const std::string& text);
// A choice that leaves nothing open, and what it took and why: "NVIDIA H200 (cuda:0)". Throws what
// keeps a GPU from being used that was asked for; nothing for automatic.
struct ChosenDevice {
  DeviceChoice choice;
  std::string reason;  // empty for a processor that was asked for
};
ChosenDevice choose_device(const DeviceChoice& choice);

}  // namespace qwb
