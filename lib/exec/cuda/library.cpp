#include "lib/exec/cuda/library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <string_view>
#include <system_error>
#include <vector>

#include "lib/base/executable.h"
#include "lib/base/file.h"

namespace qwb {
namespace {

constexpr const char* kFile = "libqwb-cuda.so";

std::vector<Path> library_places() {
  const char* named = std::getenv("QWB_CUDA_LIBRARY");
  if (named != nullptr && *named != '\0') return {named};
  const Path bin = executable_path().parent_path();
  return {bin / kFile, (bin / QWB_CUDA_FROM_BIN / kFile).lexically_normal()};
}

CudaLibrary without_library(const std::vector<Path>& places) {
  CudaLibrary none;
  std::string looked;
  for (const Path& place : places) looked += (looked.empty() ? "" : ", ") + place.string();
  none.problem = std::string(kFile) + " is not there (looked for " + looked + ")";
  none.advice = "build qwb where nvcc is, with QWB_CUDA=ON, or take --device cpu";
  return none;
}

CudaLibrary find_library() {
  const std::vector<Path> places = library_places();
  std::error_code ignored;
  for (const Path& place : places) {
    if (std::filesystem::exists(place, ignored)) return open_cuda_library(place.string());
  }
  return without_library(places);
}

}  // namespace

CudaLibrary open_cuda_library(const std::string& path) {
  CudaLibrary library;
  library.path = path;
  library.advice = "take the library and the programs of one build";
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* why = dlerror();
    library.problem = path + " cannot be loaded: " + (why != nullptr ? why : "no reason is given");
    return library;
  }
  const auto entry = reinterpret_cast<cuda::Entry>(dlsym(handle, cuda::kEntry));
  int theirs = 0;
  library.functions = entry != nullptr ? entry(cuda::kInterface, &theirs) : nullptr;
  if (entry == nullptr) {
    library.problem = path + " is not a library of qwb's GPU operations";
  } else if (library.functions == nullptr) {
    library.problem = path + " has interface " + std::to_string(theirs) + ", this program wants " +
                      std::to_string(cuda::kInterface);
  } else {
    library.advice.clear();
  }
  return library;
}

const CudaLibrary& cuda_library() {
  static const CudaLibrary library = find_library();
  return library;
}

const cuda::Functions& cuda_functions() {
  const CudaLibrary& library = cuda_library();
  if (library.functions == nullptr)
    throw Error(ErrorKind::unsupported, "no GPU can be used: " + library.problem, {},
                library.advice);
  return *library.functions;
}

std::string cuda_version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace qwb
