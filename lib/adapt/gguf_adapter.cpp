#include "lib/adapt/gguf_adapter.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "formats/gguf/architecture.h"
#include "formats/gguf/file.h"
#include "formats/gguf/types.h"
#include "lib/adapt/bind.h"
#include "lib/base/error.h"
#include "lib/base/pending_file.h"
#include "lib/model/config.h"

namespace qwb {
namespace {

constexpr std::string_view kFirst = ".lora_a", kSecond = ".lora_b";

std::vector<float> factor_values(const GgufFile& file, const GgufTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(element_count(tensor.shape, tensor.name)));
  decode_ggml(tensor.type, file.bytes(tensor).data(), std::ssize(values), values.data());
  for (const float value : values) {
    if (!std::isfinite(value))
      throw Error(ErrorKind::failed, "tensor '" + tensor.name + "' holds NaN or Inf",
                  file.path_of(tensor).string());
  }
  return values;
}

// Row `row` of a matrix of heads as Llama's q and k lie in GGUF: the halves of a head interleaved.
int64_t interleaved_row(int64_t row, int64_t head_dim) {
  const int64_t head = row / head_dim, within = row % head_dim, half = head_dim / 2;
  return head * head_dim + 2 * (within % half) + within / half;
}

// The rows of B from one order to the other. b [out, rank]
std::vector<float> reordered_heads(const std::vector<float>& b, int64_t rank, int64_t head_dim,
                                   bool to_gguf) {
  std::vector<float> other(b.size());
  const int64_t rows = std::ssize(b) / rank;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t there = interleaved_row(row, head_dim);
    const int64_t from = to_gguf ? row : there, to = to_gguf ? there : row;
    std::copy_n(b.begin() + from * rank, rank, other.begin() + to * rank);
  }
  return other;
}

// The two tensors of one module.
struct GgufPair {
  const GgufTensor* a = nullptr;
  const GgufTensor* b = nullptr;
};

std::map<std::string, GgufPair> pairs_of(const GgufFile& file, const std::string& where) {
  std::map<std::string, GgufPair> pairs;
  for (const std::string& name : file.tensor_names()) {
    const bool first = name.ends_with(kFirst);
    if (!first && !name.ends_with(kSecond))
      throw Error(ErrorKind::unsupported, "tensor '" + name + "' is none of an adapter's factors",
                  where);
    GgufPair& pair = pairs[name.substr(0, name.size() - kFirst.size())];
    (first ? pair.a : pair.b) = file.find(name);
  }
  if (pairs.empty()) throw Error(ErrorKind::failed, "there is no tensor in it", where);
  return pairs;
}

void check_kind(const GgufMetadata& metadata, const GgufSpec& spec, const std::string& where) {
  const auto require = [&](const std::string& key, const std::string& wanted) {
    const std::string found = metadata.text(key, where, "");
    if (found != wanted)
      throw Error(ErrorKind::unsupported,
                  key + " is '" + found + "', an adapter of this base has '" + wanted + "'", where);
  };
  require("general.type", "adapter");
  require("adapter.type", "lora");
  require("general.architecture", spec.name);
  for (const auto& [key, value] : metadata.entries()) {
    if (key.starts_with("adapter.") && key != "adapter.type" && key != "adapter.lora.alpha")
      throw Error(ErrorKind::unsupported, "the key " + key + " is not known", where);
  }
}

AdapterModule gguf_module(const GgufFile& file, const std::string& name, const GgufPair& pair,
                          double alpha, const std::string& where) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorKind::failed, "'" + name + "': " + what, where);
  };
  if (pair.a == nullptr || pair.b == nullptr) fail("one of its two factors is missing");
  const Shape &a = pair.a->shape, &b = pair.b->shape;
  if (a.size() != 2 || b.size() != 2 || a[0] != b[1] || a[0] < 1)
    fail("lora_a " + shape_text(a) + " and lora_b " + shape_text(b) + " do not fit each other");
  return {.module = name,
          .rank = a[0],
          .in = a[1],
          .out = b[0],
          .a = factor_values(file, *pair.a),
          .b = factor_values(file, *pair.b),
          .scale = alpha == 0 ? 1.0f : adapter_scale(alpha, a[0], false)};
}

}  // namespace

Adapter read_gguf_adapter(const Path& path, const Json& base_config, const ModelConfig& config,
                          const ModelSpec& model) {
  const std::string where = path.string();
  const GgufSpec& spec = gguf_spec(base_config, where);
  const GgufFile file = GgufFile::open(path);
  check_kind(file.metadata(), spec, where);
  const double alpha = file.metadata().number("adapter.lora.alpha", where);
  Adapter adapter;
  adapter.settings.alpha = alpha;
  for (const auto& [name, pair] : pairs_of(file, where)) {
    AdapterModule module = gguf_module(file, name, pair, alpha, where);
    const auto huggingface = huggingface_tensor_name(spec, name);
    const std::string suffix = ".weight";
    if (huggingface && huggingface->name.ends_with(suffix)) {
      module.module = huggingface->name.substr(0, huggingface->name.size() - suffix.size());
      const bool heads = huggingface->layout == GgufLayout::heads;
      if (heads && module.out % config.head_dim == 0)
        module.b = reordered_heads(module.b, module.rank, config.head_dim, false);
    }
    adapter.modules.push_back(std::move(module));
  }
  adapter.settings.rank = adapter.modules.front().rank;
  return bind_to_base(std::move(adapter), adaptable_modules(config, model), where);
}

namespace {

// The factors of a module as they go into the file.
struct GgufFactors {
  GgufTensor a, b;
  std::vector<float> b_values;
  const AdapterModule* module;
};

GgufFactors gguf_factors(const AdapterModule& m, const GgufSpec& spec, double alpha,
                         int64_t head_dim) {
  const auto place = gguf_tensor_name(spec, m.module + ".weight");
  if (!place)
    throw Error(ErrorKind::unsupported, "GGUF has no place for an adapter of '" + m.module + "'");
  GgufFactors made{{}, {}, m.b, &m};
  const float known = adapter_scale(alpha, m.rank, false);
  if (known != m.scale) {
    const double factor = static_cast<double>(m.scale) * static_cast<double>(m.rank) / alpha;
    for (float& value : made.b_values) value = static_cast<float>(value * factor);
  }
  if (place->layout == GgufLayout::heads)
    made.b_values = reordered_heads(made.b_values, m.rank, head_dim, true);
  made.a.name = place->name + std::string(kFirst), made.a.shape = {m.rank, m.in};
  made.b.name = place->name + std::string(kSecond), made.b.shape = {m.out, m.rank};
  return made;
}

}  // namespace

void write_gguf_adapter(const Adapter& adapter, const Json& base_config, const ModelConfig& config,
                        const Path& file, bool replace) {
  if (!adapter.replaced.empty())
    throw Error(ErrorKind::unsupported,
                "GGUF adapters cannot replace '" + adapter.replaced.begin()->first + "' as a whole",
                file.string(), "merge the adapter into its base");
  if (adapter.modules.empty())
    throw Error(ErrorKind::failed, "the adapter has no module", file.string());
  const GgufSpec& spec = gguf_spec(base_config, file.string());
  const double alpha = adapter.settings.alpha != 0 ? adapter.settings.alpha : 1;
  std::vector<GgufFactors> all;
  std::vector<GgufTensor> tensors;
  for (const AdapterModule& m : adapter.modules) {
    all.push_back(gguf_factors(m, spec, alpha, config.head_dim));
    tensors.insert(tensors.end(), {all.back().a, all.back().b});
  }
  GgufMetadata metadata;
  metadata.add("general.type", GgufValue::of_string("adapter"));
  metadata.add("general.architecture", GgufValue::of_string(spec.name));
  metadata.add("adapter.type", GgufValue::of_string("lora"));
  metadata.add("adapter.lora.alpha", GgufValue::of_f32(alpha));
  PendingFile pending(file);
  GgufWriter writer(pending.path(), metadata, std::move(tensors));
  for (size_t i = 0; i < all.size(); ++i) {
    writer.put(2 * i, 0, std::as_bytes(std::span(all[i].module->a)));
    writer.put(2 * i + 1, 0, std::as_bytes(std::span(all[i].b_values)));
  }
  writer.finish();
  pending.commit(replace);
}

}  // namespace qwb
