#include "lib/jobs/preview.h"

#include <algorithm>

#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/hub/pull.h"
#include "lib/model/architecture.h"
#include "lib/model/input_group.h"
#include "lib/model/model.h"
#include "lib/quantize/method.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kContext = 4096;            // tokens of the cache, or as many as the model knows
constexpr int64_t kWorth = int64_t{8} << 20;  // less is fetched without asking

// A source of no tensors: architectures then take the spelling that transformers writes.
struct NoTensors : TensorSource {
  std::optional<TensorView> find(const std::string&) const override { return std::nullopt; }
  std::vector<std::string> names() const override { return {}; }
};

// What a model is made of, by the size of its parts.
struct Parts {
  std::vector<LinearSpec> linears;  // of the blocks, but routers
  int64_t other = 0;                // values of everything else
  int64_t unused = 0;               // values of experts that a token is not sent to
};

int64_t values_of(const NormSpec& norm, int64_t size) {
  return norm.empty() ? 0 : size * (norm.has_bias() ? 2 : 1);
}

int64_t norm_values(const ModelConfig& c, const SublayerSpec& sublayer) {
  int64_t total = values_of(sublayer.before, c.hidden) + values_of(sublayer.after, c.hidden);
  if (const auto* both = std::get_if<ParallelSpec>(&sublayer.mixer))
    total += values_of(both->mlp_norm, c.hidden);
  if (const AttentionSpec* attention = attention_of(sublayer)) {
    const bool all = attention->norms_span_heads;
    total += values_of(attention->q_norm, c.head_dim * (all ? c.heads : 1));
    total += values_of(attention->k_norm, c.head_dim * (all ? c.kv_heads : 1));
  }
  return total;
}

int64_t unused_values(const MoeSpec& moe) {
  if (moe.experts.empty()) return 0;
  const MlpSpec& one = moe.experts.front();
  const int64_t values =
      one.up.out * one.up.in * (one.gate.empty() ? 1 : 2) + one.down.out * one.down.in;
  return values * (std::ssize(moe.experts) - moe.used);
}

Parts parts_of(const ModelConfig& c, const ModelSpec& spec) {
  Parts parts;
  parts.other = c.vocab * c.hidden * (spec.embedding == spec.output_embedding ? 1 : 2) +
                values_of(spec.final_norm, c.hidden) + values_of(spec.embedding_norm, c.hidden);
  if (!spec.positions.empty()) parts.other += (c.position_offset + c.max_positions) * c.hidden;
  if (!spec.output_bias.empty()) parts.other += c.vocab;
  for (const BlockSpec& block : spec.blocks) {
    for (const SublayerSpec& sublayer : block.sublayers) {
      parts.other += norm_values(c, sublayer);
      if (const auto* moe = std::get_if<MoeSpec>(&sublayer.mixer))
        parts.unused += unused_values(*moe);
    }
    for (const InputGroup& group : input_groups(c, block)) {
      for (const LinearSpec& linear : group.readers) {
        if (linear.bias) parts.other += linear.out;
        if (group.routes) {
          parts.other += linear.out * linear.in;
        } else {
          parts.linears.push_back(linear);
        }
      }
    }
  }
  return parts;
}

int64_t stored_bytes(const WeightLayout& layout) {
  int64_t total = 0;
  for (const auto& [name, view] : layout.encoding->parts())
    total += part_bytes({name, view.dtype, view.shape});
  return total;
}

// The bytes of all linear modules by a method; -1 where its settings do not fit one.
int64_t bytes_by(const Method& method, const Settings& settings, const Parts& parts) {
  int64_t total = 0;
  for (const LinearSpec& linear : parts.linears) {
    try {
      total += stored_bytes(method.layout(
          {linear.module, linear.out, linear.in, linear.orientation, DType::bf16, linear.bias},
          settings));
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::usage) throw;
      return -1;
    }
  }
  return total;
}

int64_t linear_values(const Parts& parts) {
  int64_t total = 0;
  for (const LinearSpec& linear : parts.linears) total += linear.out * linear.in;
  return total;
}

// Every method with its own settings; those with several sizes of codes at 4 bits, and 16 bits as
// it is.
Json by_method(const Parts& parts, int64_t cache) {
  const int64_t values = linear_values(parts), all = values + parts.other;
  Json list = Json::array();
  const auto add = [&](const std::string& name, double bits, int64_t bytes) {
    const int64_t total = bytes + 2 * parts.other;
    list.push_back({{"name", name},
                    {"bits", bits},
                    {"bpw", 8.0 * static_cast<double>(total) / static_cast<double>(all)},
                    {"bytes", total},
                    {"memory", total + cache}});
  };
  add("bf16", 16, 2 * values);
  for (const auto& method : methods()) {
    if (method->name() == "none") continue;
    const Settings settings = resolve_settings(*method, Json::object());
    const int64_t bytes = bytes_by(*method, settings, parts);
    if (bytes >= 0) add(method->name(), method->bits(settings), bytes);
  }
  return list;
}

Json config_of(const Path& folder) {
  const Path file = folder / "config.json";
  Json config = parse_json(read_text(file, 64 << 20), file.string());
  if (!config.is_object()) throw Error(ErrorKind::failed, "not a JSON object", file.string());
  return config;
}

// The format of the weights, or why they cannot be read.
std::string format_of(const Path& folder, const Json& config) {
  const Place place(folder);
  for (const ModelFormat& format : model_formats()) {
    if (!format.detect || !format.detect(place)) continue;
    if (json_has(config, "quantization_config") && format.name == "huggingface") break;
    return format.name;
  }
  throw Error(ErrorKind::unsupported, "its quantization_config is of no format that is known",
              (folder / "config.json").string());
}

void put_sizes(const ModelConfig& c, const ModelSpec& spec, Json& record) {
  const Parts parts = parts_of(c, spec);
  const int64_t values = linear_values(parts) + parts.other;
  const int64_t context = std::min(kContext, c.max_positions);
  const int64_t cache = kv_cache_bytes(c, context);
  record["sizes"] = {
      {"layers", c.layers},     {"hidden", c.hidden},     {"heads", c.heads},
      {"kv_heads", c.kv_heads}, {"head_dim", c.head_dim}, {"context", c.max_positions},
      {"vocab", c.vocab},       {"experts", c.experts},   {"tied_embeddings", c.tied_embeddings}};
  record["parameters"] = values;
  record["used_parameters"] = values - parts.unused;
  record["context"] = context;
  record["cache_bytes"] = cache;
  record["methods"] = by_method(parts, cache);
}

}  // namespace

bool find_remote_model(const std::string& name, const Context& context, RemoteModel& found) {
  std::error_code ignored;
  if (fs::exists(name, ignored) || !hub::is_repo_name(name) || name.starts_with(".") ||
      name.starts_with("~"))
    return false;
  const hub::HubSettings settings = hub::HubSettings::from_environment();
  hub::PullRequest request;
  request.repo = hub::parse_repo(name, hub::RepoKind::model);
  request.ask = false;
  hub::PullPlan whole;
  try {
    whole = hub::Pull(settings, request, context).plan();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::not_found) throw;
    return false;  // whoever wants to open it says why
  }
  // An adapter, or another thing that is no model.
  if (std::none_of(whole.files.begin(), whole.files.end(),
                   [](const auto& planned) { return planned.file.path == "config.json"; }))
    return false;
  const bool weights = std::any_of(whole.files.begin(), whole.files.end(), [](const auto& planned) {
    return planned.file.path.ends_with(".safetensors") || planned.file.path.ends_with(".bin");
  });
  if (weights && whole.missing_bytes() <= kWorth) return false;
  request.selection.include = {"config.json"};
  const hub::PullPlan config = hub::Pull(settings, request, context).run();
  found = {name, config.folder, whole.bytes(),
           weights ? "" : "the repository has no weights that are read"};
  return true;
}

Json preview_model(const RemoteModel& model) {
  const Json config = config_of(model.folder);
  const std::string where = (model.folder / "config.json").string();
  Json record = {{"schema", 1},
                 {"path", model.name},
                 {"preview", true},
                 {"architecture", json_string(config, "model_type", where, "unknown")},
                 {"format", nullptr},
                 {"supported", true},
                 {"why", nullptr},
                 {"sizes", nullptr},
                 {"file_bytes", model.file_bytes}};
  try {
    const ModelConfig c = parse_config(config, where);
    put_sizes(c, find_architecture(c.architecture, where).spec(c, NoTensors()), record);
    record["format"] = format_of(model.folder, config);
    if (!model.weights.empty()) throw Error(ErrorKind::unsupported, model.weights, model.name);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unsupported) throw;
    record["supported"] = false;
    record["why"] = error.what();
  }
  return record;
}

}  // namespace qwb
