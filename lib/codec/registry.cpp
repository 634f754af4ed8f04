#include "lib/codec/registry.h"

// Every codec, one line each: lib/codec/NAME.cpp defines NAME_codec().
#define QWB_CODECS(X) \
  X(dense)            \
  X(integer_grid)     \
  X(int8_rows)        \
  X(float_blocks)     \
  X(ggml_blocks)      \
  X(fp8_blocks)       \
  X(fp4_groups)

namespace qwb {

#define QWB_DECLARE_CODEC(name) Codec name##_codec();
QWB_CODECS(QWB_DECLARE_CODEC)
#undef QWB_DECLARE_CODEC

namespace {

std::vector<Codec>& all_codecs() {
  static std::vector<Codec> all = {
#define QWB_LIST_CODEC(name) name##_codec(),
      QWB_CODECS(QWB_LIST_CODEC)
#undef QWB_LIST_CODEC
  };
  return all;
}

}  // namespace

ParameterReader::ParameterReader(const Json& parameters, std::string where)
    : parameters_(parameters), where_(std::move(where)) {}

double ParameterReader::number(const std::string& name) {
  asked_.insert(name);
  if (!json_has(parameters_, name)) damaged_weight("parameter '" + name + "' is missing", where_);
  const Json& value = parameters_.at(name);
  if (!value.is_number()) damaged_weight("parameter '" + name + "' is no number", where_);
  return value.get<double>();
}

int64_t ParameterReader::integer(const std::string& name) {
  const double value = number(name);
  if (!(value >= 0 && value <= 0x1p52) ||
      value != static_cast<double>(static_cast<int64_t>(value))) {
    damaged_weight("parameter '" + name + "' is not a size", where_);
  }
  return static_cast<int64_t>(value);
}

int64_t ParameterReader::integer(const std::string& name, int64_t fallback) {
  return json_has(parameters_, name) ? integer(name) : fallback;
}

void ParameterReader::finish() const {
  for (const auto& [name, value] : parameters_.items()) {
    if (!asked_.contains(name))
      throw Error(ErrorKind::unsupported, "unknown parameter '" + name.substr(0, 80) + "'", where_,
                  "a newer qwb may have written it");
  }
}

const std::vector<Codec>& codecs() {
  return all_codecs();
}

const Codec& find_codec(std::string_view name, const std::string& where) {
  for (const Codec& codec : codecs()) {
    if (codec.name == name) return codec;
  }
  throw Error(ErrorKind::unsupported, "unknown codec '" + std::string(name.substr(0, 40)) + "'",
              where, "a newer qwb may have written it");
}

void add_codec(Codec codec) {
  for (const Codec& known : codecs()) {
    if (known.name == codec.name)
      throw Error(ErrorKind::usage, "there is a codec '" + codec.name + "' already");
  }
  all_codecs().push_back(std::move(codec));
}

Weight read_weight(const WeightShape& shape, const std::string& codec, const Json& parameters,
                   const PartViews& parts, const std::string& where) {
  ParameterReader reader(parameters, where);
  Weight weight(WeightLayout(shape, find_codec(codec, where).read(reader, parts)));
  reader.finish();
  check_weight(weight, where);
  return weight;
}

}  // namespace qwb
