// The makers of every method, for registry.cpp only.
#pragma once

#include <memory>

#include "lib/quantize/method.h"

namespace qwb {

std::unique_ptr<Method> make_none();
std::unique_ptr<Method> make_rtn();
std::unique_ptr<Method> make_int8();
std::unique_ptr<Method> make_nf4();
std::unique_ptr<Method> make_fp4();
std::unique_ptr<Method> make_gptq();
std::unique_ptr<Method> make_awq();

}  // namespace qwb
