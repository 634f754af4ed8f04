#include "formats/gguf/key_reader.h"

#include <charconv>

#include "lib/base/error.h"

namespace qwb {
namespace {

// Keys hold f32; the shortest decimal that stands for the same f32 is what the model's author
// wrote.
double as_written(double value) {
  const auto narrow = static_cast<float>(value);
  if (static_cast<double>(narrow) != value) return value;
  char text[48];
  const auto end = std::to_chars(text, text + sizeof(text), narrow).ptr;
  double result = value;
  std::from_chars(text, end, result);
  return result;
}

}  // namespace

double GgufKeyReader::number(const std::string& name) const {
  return as_written(metadata.number(key(name), where));
}

double GgufKeyReader::number(const std::string& name, double fallback) const {
  return as_written(metadata.number(key(name), where, fallback));
}

int64_t GgufKeyReader::head_dim() const {
  const int64_t heads = integer("attention.head_count");
  if (heads < 1) throw Error(ErrorKind::failed, "attention.head_count must be positive", where);
  return integer("attention.key_length", integer("embedding_length") / heads);
}

}  // namespace qwb
