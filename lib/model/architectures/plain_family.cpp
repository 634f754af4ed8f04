#include "lib/model/architectures/plain_family.h"

#include <bit>
#include <cmath>

#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"

namespace qwb {

int64_t read_size(const Json& config, const std::string& where, const SizeField& field) {
  const bool renamed = field.other != nullptr && json_has(config, field.other);
  return config_size(config, renamed ? field.other : field.key, where, field.fallback);
}

int64_t optional_size(const Json& config, const char* key, const std::string& where,
                      int64_t fallback) {
  return json_has(config, key) ? config_size(config, key, where, 0) : fallback;
}

void require_switch(const Json& config, const char* key, const std::string& where, bool value,
                    bool fallback) {
  if (config_switch(config, key, where, fallback) == value) return;
  throw Error(
      ErrorKind::unsupported,
      std::string("'") + key + "' is " + (value ? "false" : "true") + ", which is not supported",
      where);
}

ModelConfig parse_plain_family(const Json& config, const std::string& where, const char* name,
                               const PlainFields& fields) {
  ModelConfig out;
  out.architecture = name;
  out.vocab = read_size(config, where, fields.vocab);
  out.hidden = read_size(config, where, fields.hidden);
  out.layers = read_size(config, where, fields.layers);
  out.heads = read_size(config, where, fields.heads);
  out.kv_heads = out.heads;
  if (out.layers > 100000) {
    throw Error(ErrorKind::failed, std::string("'") + fields.layers.key + "' is absurdly large",
                where);
  }
  if (out.hidden % out.heads != 0) {
    throw Error(
        ErrorKind::failed,
        std::string("'") + fields.heads.key + "' does not divide '" + fields.hidden.key + "'",
        where);
  }
  out.head_dim = out.hidden / out.heads;
  out.intermediate = 4 * out.hidden;
  out.max_positions = read_size(config, where, fields.positions);
  out.norm_eps = config_number(config, fields.norm_eps_key, where, 1e-5);
  out.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(out.head_dim)));
  out.window.assign(static_cast<size_t>(out.layers), 0);
  out.tied_embeddings = config_switch(config, "tie_word_embeddings", where, fields.tied);
  parse_special_ids(config, where, fields.bos, fields.eos, out);
  return out;
}

std::string prefix_of(const TensorSource& source, const std::string& prefix,
                      const std::string& tensor) {
  return source.describe(prefix + tensor) ? prefix : "";
}

std::vector<float> alibi_slopes(int64_t heads) {
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  std::vector<float> slopes;
  for (int64_t i = 1; i <= power; ++i)
    slopes.push_back(
        static_cast<float>(std::exp2(-8.0 * static_cast<double>(i) / static_cast<double>(power))));
  for (int64_t i = 1; std::ssize(slopes) < heads; i += 2)
    slopes.push_back(static_cast<float>(
        std::exp2(-8.0 * static_cast<double>(i) / static_cast<double>(2 * power))));
  return slopes;
}

std::vector<float> mpt_slopes(int64_t heads) {
  const auto power = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(heads)));
  const auto slope = [&](int64_t i) {
    return static_cast<float>(
        std::exp2(-8.0 * static_cast<double>(i) / static_cast<double>(power)));
  };
  std::vector<float> slopes;
  if (power == heads) {
    for (int64_t i = 1; i <= power; ++i) slopes.push_back(slope(i));
    return slopes;
  }
  for (int64_t i = 2; i <= power; i += 2) slopes.push_back(slope(i));
  for (int64_t i = 1; i <= power; i += 2) slopes.push_back(slope(i));
  slopes.resize(static_cast<size_t>(heads));
  return slopes;
}

}  // namespace qwb
