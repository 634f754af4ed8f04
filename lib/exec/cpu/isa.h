// The instruction set the SIMD kernels run on: chosen once at run time by Highway, or forced by the
// environment variable QWB_ISA (a Highway target name: AVX3_SPR, AVX3, AVX2, SSE4, EMU128, ...), so
// that every level can be tested on one machine.
#pragma once

#include <string>
#include <vector>

namespace qwb {

// Applies QWB_ISA; later calls do nothing. Throws usage for a name that this machine or build
// lacks. Kernels call it themselves.
void select_isa();
// Name of the target in use.
std::string isa_name();
// Names that QWB_ISA accepts here, best first.
std::vector<std::string> available_isas();
// Names of all targets that this build has code for, best first.
std::vector<std::string> built_isas();

}  // namespace qwb
