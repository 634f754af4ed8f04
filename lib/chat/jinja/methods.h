// Methods by the type of their object; call_method (jinja_builtins.h) chooses.
#pragma once

#include "lib/chat/jinja/builtins.h"

namespace qwb::jinja {

Value call_text_method(const Value& object, const std::string& name, const Arguments& arguments,
                       Budget& budget);

}  // namespace qwb::jinja
