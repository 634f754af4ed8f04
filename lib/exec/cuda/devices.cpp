#include "lib/exec/devices.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "lib/exec/cpu/isa.h"
#include "lib/exec/cuda/executor.h"
#include "lib/exec/cuda/library.h"

namespace qwb {
namespace {

// "7.5 8.0" of "75 80".
std::string capabilities(const std::string& architectures) {
  std::string text;
  for (const char letter : architectures) {
    if (std::isdigit(static_cast<unsigned char>(letter)) != 0) {
      text += letter;
    } else if (letter == ' ') {
      text.insert(text.size() - 1, "."), text += ' ';
    }
  }
  if (!text.empty()) text.insert(text.size() - 1, ".");
  return text;
}

// Real code runs on cards of its generation that are not older; PTX on newer ones.
bool runs_on(const cuda::Functions& functions, int major, int minor) {
  const int card = 10 * major + minor;
  const std::string list = std::string(functions.architectures) + " ";
  for (size_t at = 0; at < list.size();) {
    const size_t end = list.find(' ', at);
    const int built = std::atoi(list.substr(at, end - at).c_str());
    if (built / 10 == major && built <= card) return true;
    at = end + 1;
  }
  return functions.newest > 0 && functions.newest <= card;
}

Gpu gpu_of(const cuda::Functions& functions, int index, const Gpus& all) {
  cuda::DeviceFacts facts = {};
  const int code = functions.facts(index, &facts);
  Gpu card{.index = index,
           .name = facts.name,
           .uuid = facts.uuid,
           .major = facts.major,
           .minor = facts.minor,
           .processors = facts.processors,
           .memory = facts.total,
           .free = facts.free,
           .problem = {}};
  CudaFound found{.driver = all.driver, .runtime = all.runtime, .card = {}, .built_for = {}};
  found.card = card.name + " (compute capability " + std::to_string(card.major) + "." +
               std::to_string(card.minor) + ")";
  found.built_for = all.built_for;
  if (code != 0) {
    card.problem = cuda_error(code, functions.error_text(code), {}, found).what();
  } else if (!runs_on(functions, card.major, card.minor)) {
    constexpr int kNoKernelImage = 209;
    card.problem = cuda_error(kNoKernelImage, {}, {}, found).what();
  }
  return card;
}

std::string gpu_text(const Gpu& card) {
  return card.name + " (cuda:" + std::to_string(card.index) + ")";
}

}  // namespace

Gpus list_gpus() {
  return list_gpus_by(cuda_library());
}

Gpus list_gpus_by(const CudaLibrary& library) {
  Gpus all;
  if (library.functions == nullptr) {
    all.problem = library.problem;
    all.advice = library.advice;
    return all;
  }
  const cuda::Functions& functions = *library.functions;
  int count = 0, driver = 0, runtime = 0;
  const int code = functions.count(&count, &driver, &runtime);
  all.built_for = capabilities(functions.architectures);
  all.runtime = cuda_version_text(runtime);
  if (driver > 0) all.driver = cuda_version_text(driver);
  if (code != 0 && driver == 0) {
    all.problem = "no NVIDIA driver is there (libcuda.so.1)";
    all.advice = "install a driver of version 580 or newer, or take --device cpu";
  } else if (code != 0) {
    const CudaFound found{
        .driver = all.driver, .runtime = all.runtime, .card = {}, .built_for = all.built_for};
    all.problem = cuda_error(code, functions.error_text(code), {}, found).what();
  }
  for (int i = 0; i < count && code == 0; ++i) all.cards.push_back(gpu_of(functions, i, all));
  return all;
}

std::unique_ptr<Executor> make_cuda_executor(int index, Threads threads) {
  return std::make_unique<CudaExecutor>(CudaDevice::open(index), threads);
}

std::unique_ptr<Executor> make_cuda_calibration_executor(int index, Threads threads) {
  const CudaDevice& device = CudaDevice::open(index);
  constexpr int kFirstWithBf16 = 8;  // compute capability
  const bool rounds = device.card().major >= kFirstWithBf16;
  return std::make_unique<CudaExecutor>(device, threads, rounds ? Products::bf16 : Products::f32);
}

std::string arithmetic_of(const Executor& executor) {
  return executor.device() == nullptr ? isa_name() : executor.identity();
}

DeviceChoice parse_device(const std::string& text) {
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  using Kind = DeviceChoice::Kind;
  if (lower == "cpu") return {Kind::processor, 0};
  if (lower == "auto") return {Kind::automatic, 0};
  if (lower == "cuda") return {Kind::gpu, 0};
  const std::string number = lower.starts_with("cuda:") ? lower.substr(5) : "";
  const bool digits = !number.empty() && number.size() < 4 &&
                      std::all_of(number.begin(), number.end(),
                                  [](unsigned char letter) { return std::isdigit(letter) != 0; });
  if (digits) return {Kind::gpu, std::atoi(number.c_str())};
  throw Error(ErrorKind::usage, "unknown device '" + text + "'", {},
              "auto, cpu, cuda or cuda:N (qwb-inspect --devices lists the GPUs)");
}

ChosenDevice choose_device(const DeviceChoice& choice) {
  using Kind = DeviceChoice::Kind;
  if (choice.kind == Kind::processor) return {choice, {}};
  if (choice.kind == Kind::gpu) return {choice, gpu_text(CudaDevice::open(choice.index).card())};
  const Gpus all = list_gpus();
  if (!all.problem.empty()) return {{Kind::processor, 0}, "the processor: " + all.problem};
  std::string problems;
  for (const Gpu& card : all.cards) {
    if (card.problem.empty()) {
      const bool only = all.cards.size() == 1;
      return {{Kind::gpu, card.index},
              gpu_text(card) + (only ? ", the only GPU" : ", the first GPU that can be used")};
    }
    problems += (problems.empty() ? "" : "; ") + gpu_text(card) + ": " + card.problem;
  }
  return {{Kind::processor, 0}, "the processor: " + (problems.empty() ? "no GPU" : problems)};
}

}  // namespace qwb
