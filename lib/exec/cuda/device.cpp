#include "lib/exec/cuda/device.h"

#include <memory>
#include <vector>

namespace qwb {
namespace {

// Sizes are rounded up, so that a shape that comes again finds what it left.
int64_t rounded(int64_t bytes) {
  const int64_t grain = bytes <= 1 << 20 ? 512 : 1 << 20;
  return (bytes + grain - 1) / grain * grain;
}
// Of free pieces together: more go back to the driver before it is asked for another.
constexpr int64_t kMostFree = int64_t{2} << 30;
// A free piece that is larger than what is wanted is taken up to this size.
int64_t most_for(int64_t size) {
  return size + size / 4 + 4096;
}

}  // namespace

const CudaDevice& CudaDevice::open(int index) {
  static std::mutex mutex;
  // Views and buffers keep the address of their device: it lives as long as the program.
  static auto* devices = new std::map<int, const CudaDevice*>;
  const std::lock_guard lock(mutex);
  if (const auto found = devices->find(index); found != devices->end()) return *found->second;
  const cuda::Functions& functions = cuda_functions();
  const Gpus all = list_gpus();
  if (!all.problem.empty())
    throw Error(ErrorKind::unsupported, "no GPU can be used: " + all.problem, {}, all.advice);
  if (index < 0 || index >= static_cast<int>(all.cards.size()))
    throw Error(ErrorKind::usage, "there is no GPU cuda:" + std::to_string(index), {},
                "qwb-inspect --devices lists the GPUs, from cuda:0 on");
  const Gpu& card = all.cards[static_cast<size_t>(index)];
  if (!card.problem.empty())
    throw Error(ErrorKind::unsupported, card.problem, "cuda:" + std::to_string(index),
                "qwb-inspect --devices tells what this build is for");
  return *devices->emplace(index, new CudaDevice(functions, all, index)).first->second;
}

CudaDevice::CudaDevice(const cuda::Functions& functions, const Gpus& all, int index)
    : functions_(functions), card_(all.cards[static_cast<size_t>(index)]) {
  found_ = {.driver = all.driver,
            .runtime = all.runtime,
            .card = card_.name + " (compute capability " + std::to_string(card_.major) + "." +
                    std::to_string(card_.minor) + ")",
            .built_for = all.built_for};
  check(functions_.open(index, &queue_), "opening the GPU");
}

void CudaDevice::fail(int code, const char* during, int64_t asked) const {
  CudaFound found = found_;
  found.asked = asked;
  if (queue_ != nullptr) functions_.memory(queue_, &found.free, &found.total);
  throw cuda_error(code, functions_.error_text(code), during, found);
}

bool CudaDevice::release_free() const {
  if (free_.empty()) return false;
  for (const auto& [size, data] : free_) {
    functions_.release(queue_, data);
    sizes_.erase(data);
  }
  free_.clear();
  free_bytes_ = 0;
  return true;
}

std::byte* CudaDevice::take(int64_t bytes) const {
  constexpr int kFull = 2;  // cudaErrorMemoryAllocation
  const auto held = lock();
  const int64_t size = rounded(bytes);
  const auto found = free_.lower_bound(size);
  if (found != free_.end() && found->first <= most_for(size)) {
    void* data = found->second;
    free_bytes_ -= found->first;
    free_.erase(found);
    return static_cast<std::byte*>(data);
  }
  void* data = nullptr;
  if (free_bytes_ > kMostFree) release_free();
  int code = functions_.allocate(queue_, size, &data);
  if (code == kFull && release_free()) code = functions_.allocate(queue_, size, &data);
  if (code != 0) fail(code, "taking memory of the GPU", size);
  sizes_[data] = size;
  return static_cast<std::byte*>(data);
}

void CudaDevice::give_back(std::byte* data) const noexcept {
  const auto held = lock();
  free_.emplace(sizes_.at(data), data);
  free_bytes_ += sizes_.at(data);
}

}  // namespace qwb
