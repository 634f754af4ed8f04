// Every codec by its name in files. A codec is one pair of files in this folder and one line in
// registry.cpp; lib/exec/cpu/decoders.cpp may name a faster decoder.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/codec/weight.h"

namespace qwb {

// Takes a codec's parameters from a file. What no one asks for is refused at the end: it could
// change what the codes mean.
class ParameterReader {
 public:
  ParameterReader(const Json& parameters, std::string where);
  double number(const std::string& name);    // throws `failed` if it is missing or no number
  int64_t integer(const std::string& name);  // 0 .. 2^52
  int64_t integer(const std::string& name, int64_t fallback);
  const std::string& where() const { return where_; }
  void finish() const;  // throws unsupported, naming a parameter that was not asked for

 private:
  const Json& parameters_;
  std::string where_;
  std::set<std::string> asked_;
};

struct Codec {
  std::string name;
  std::vector<std::string> parts;  // all that it may have
  std::shared_ptr<const Encoding> (*read)(ParameterReader& parameters, const PartViews& parts);
};

template <class T>
Codec codec_of() {
  Codec codec{T::kName, {}, [](ParameterReader& parameters, const PartViews& parts) {
                auto encoding = std::make_shared<T>();
                encoding->read(parameters, parts);
                encoding->set_parts(parts, parameters.where());
                return std::shared_ptr<const Encoding>(std::move(encoding));
              }};
  for (const NamedPart<T>& part : T::kParts) codec.parts.emplace_back(part.name);
  return codec;
}

const std::vector<Codec>& codecs();
// Throws unsupported, naming `where`.
const Codec& find_codec(std::string_view name, const std::string& where);
// For a program that brings a codec of its own. Before the first model is opened: not thread-safe.
void add_codec(Codec codec);

// A weight as a file tells of it, checked. Throws `failed`, or unsupported for a codec, parameter
// or part that this build does not know; names `where`.
Weight read_weight(const WeightShape& shape, const std::string& codec, const Json& parameters,
                   const PartViews& parts, const std::string& where);

}  // namespace qwb
