// Flags of qwb-quantize made from what the methods declare, so that a new method needs no new flag code.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <string>

#include "lib/quantize/method.h"

namespace qwb {

class MethodFlags {
 public:
  // Adds one flag for every parameter of every method ("group_size" becomes --group-size; a boolean also gets
  // its opposite: --asymmetric for --symmetric, --no-NAME otherwise).
  explicit MethodFlags(CLI::App& app);
  // The settings of `method`: what was given on the command line, the rest by default. Throws usage for a
  // flag that the method does not have. --bits is allowed everywhere if it says what the method does anyway.
  Settings settings(const Method& method) const;

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
