// Flags of qwb-quantize made from what the methods declare, so that a new method needs no new flag
// code.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "lib/quantize/method.h"

namespace qwb {

class MethodFlags {
 public:
  // Adds one flag for every parameter of every method ("group_size" becomes --group-size; a boolean
  // also gets its opposite: --asymmetric for --symmetric, --no-NAME otherwise). But none for the
  // parameters in `without`, whose flags the tool has for something else.
  explicit MethodFlags(CLI::App& app, const std::set<std::string>& without = {});
  // The parameters given on the command line. Throws usage for a flag that the method does not have
  // and for values it refuses. --bits is allowed everywhere if it says what the method does anyway.
  Json given(const Method& method) const;

 private:
  struct Flag {
    CLI::Option* option = nullptr;
    Parameter::Kind kind = Parameter::Kind::integer;
    std::string text;
    bool on = false;
  };
  std::map<std::string, std::unique_ptr<Flag>> flags_;  // by parameter name
};

}  // namespace qwb
