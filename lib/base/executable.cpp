#include "lib/base/executable.h"

#include <sys/auxv.h>

#include <system_error>

namespace qwb {

Path executable_path() {
  std::error_code error;
  Path path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) return path;
  // Without /proc: the name by which the kernel started it.
  const auto* name = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
  path = name != nullptr ? std::filesystem::weakly_canonical(name, error) : Path();
  return error ? Path() : path;
}

}  // namespace qwb
