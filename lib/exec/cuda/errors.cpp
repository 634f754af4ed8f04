// What the codes of the CUDA runtime (driver_types.h) mean to a user.
#include <array>
#include <cinttypes>
#include <cstdio>

#include "lib/exec/cuda/library.h"

namespace qwb {
namespace {

std::string gigabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GB", static_cast<double>(bytes) * 1e-9);
  return text;
}

std::string or_unknown(const std::string& text) {
  return text.empty() ? "unknown" : text;
}

struct Meaning {
  int code;
  ErrorKind kind;
  const char* what;
  const char* advice;
};

// %D the driver's CUDA, %R that of the build, %C the card, %B what the build is for, %M memory.
constexpr std::array<Meaning, 13> kMeanings = {{
    {2, ErrorKind::failed, "the GPU's memory is full: %M",
     "take a smaller model, fewer bits or a shorter context, or end what else uses the GPU "
     "(nvidia-smi lists it)"},
    {35, ErrorKind::unsupported,
     "the NVIDIA driver is too old: it knows CUDA %D, this build needs %R",
     "install a driver of version 580 or newer"},
    {46, ErrorKind::failed, "the GPU is not free: another process has it for itself",
     "end that process, or set the compute mode to default (nvidia-smi -c 0)"},
    {100, ErrorKind::unsupported, "the driver sees no GPU",
     "is one there (nvidia-smi -L), was the container started with it (--gpus all), and is "
     "CUDA_VISIBLE_DEVICES not empty?"},
    {209, ErrorKind::unsupported, "there is no code for %C: this build is for %B",
     "build with -DQWB_CUDA_ARCHITECTURES set to the card's number"},
    {214, ErrorKind::failed, "the GPU found an error in its memory that it cannot correct (ECC)",
     "reset the GPU or restart the machine; if it comes again, the card is damaged"},
    {222, ErrorKind::unsupported,
     "the driver (CUDA %D) cannot compile code of this build (CUDA %R) for %C",
     "install a newer driver, or build with -DQWB_CUDA_ARCHITECTURES set to the card's number"},
    {700, ErrorKind::failed, "an operation on the GPU went outside of its memory",
     "this is a fault of qwb: please report it with the command; --device cpu goes on"},
    {702, ErrorKind::failed, "an operation on the GPU took longer than the system allows",
     "the GPU drives a screen: take another one, or --device cpu"},
    {802, ErrorKind::failed, "the GPUs of this machine are not ready",
     "machines with NVSwitch need a running nvidia-fabricmanager of the driver's version"},
    {803, ErrorKind::failed, "the parts of the NVIDIA driver are of different versions",
     "restart the machine: the driver was updated while it ran"},
    {804, ErrorKind::unsupported,
     "the compatibility package of CUDA does not work with this card or driver",
     "remove cuda-compat from the library path, and install a driver of version 580 or newer"},
    {999, ErrorKind::failed, "the driver failed without a reason",
     "look at dmesg; restarting the machine often helps"},
}};

std::string filled(const char* text, const CudaFound& found) {
  std::string made;
  for (const char* at = text; *at != '\0'; ++at) {
    if (*at != '%') {
      made += *at;
      continue;
    }
    switch (*++at) {
      case 'D':
        made += or_unknown(found.driver);
        break;
      case 'R':
        made += or_unknown(found.runtime);
        break;
      case 'C':
        made += found.card.empty() ? "this card" : found.card;
        break;
      case 'B':
        made += or_unknown(found.built_for);
        break;
      default:
        made += gigabytes(found.asked) + " were asked for, " + gigabytes(found.free) + " of " +
                gigabytes(found.total) + " are free";
    }
  }
  return made;
}

}  // namespace

Error cuda_error(int code, const std::string& text, const std::string& during,
                 const CudaFound& found) {
  for (const Meaning& meaning : kMeanings) {
    if (meaning.code == code)
      return {meaning.kind, filled(meaning.what, found), during, meaning.advice};
  }
  return {ErrorKind::failed,
          "the GPU failed: " + text + " (CUDA error " + std::to_string(code) + ")", during,
          "--device cpu goes on without it"};
}

}  // namespace qwb
