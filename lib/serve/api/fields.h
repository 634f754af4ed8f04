// Typed fields of a request's JSON object. null counts as absent; a wrong type or a number out of
// range is a 400 that names the field.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/json.h"

namespace qwb::serve {

class Fields {
 public:
  // `object` must outlive this. `prefix`: the path that leads to it ("stream_options."), for
  // errors.
  explicit Fields(const Json& object, std::string prefix = {});

  // Null where there is none.
  const Json* find(const std::string& name) const;
  std::optional<bool> boolean(const std::string& name) const;
  std::optional<int64_t> integer(const std::string& name, int64_t least, int64_t most) const;
  std::optional<double> number(const std::string& name, double least, double most) const;
  std::optional<std::string> text(const std::string& name) const;
  // Throws ApiError 400: "FIELD: PROBLEM".
  [[noreturn]] void refuse(const std::string& name, const std::string& problem) const;

 private:
  const Json& object_;
  std::string prefix_;
};

}  // namespace qwb::serve
