// GPTQ checkpoints as AutoGPTQ and GPTQModel write them (v1 and v2). Byte-exact page:
// formats/hf/gptq.md.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "formats/hf/checkpoint.h"
#include "formats/hf/gptq_settings.h"
#include "formats/hf/packed_format.h"
#include "formats/hf/packing.h"
#include "formats/model_format.h"
#include "formats/safetensors/sharded_writer.h"
#include "lib/codec/integer_grid.h"

namespace qwb {
namespace {

// How zero points are stored: v1 one less than they are, v2 as they are. automatic writes v1 where
// every module is symmetric (all loaders take that), else v2.
enum class GptqVersion { automatic, v1, v2 };

constexpr std::string_view kQweight = ".qweight";
constexpr std::array<int, 4> kGptqBits = {2, 3, 4, 8};

[[noreturn]] void damaged_gptq(const std::string& what, const std::string& module) {
  throw Error(ErrorKind::failed, what, "GPTQ module '" + module + "'", "the checkpoint is damaged");
}

bool is_gptq_bits(int64_t bits) {
  return std::find(kGptqBits.begin(), kGptqBits.end(), bits) != kGptqBits.end();
}

// What v1 subtracts from a word of zero points, in each of its fields.
uint32_t ones_in_fields(int bits) {
  uint32_t word = 0;
  for (int at = 0; at < 32; at += bits) word |= 1u << at;
  return word;
}

// Between the two versions. 2, 4 and 8 bits: one number over the whole word, so that a borrow out
// of a field that holds 0 is undone by the carry of the way back; 3 bits: field by field
// (GPTQModel, utils/model.py).
Tensor shifted_zeros(const TensorView& words, int bits, int64_t columns, bool up,
                     const Context& context) {
  if (bits == 3) {
    CodeMatrix fields = unpack_words(words, columns, bits, context);
    for (uint8_t& field : fields.codes) field = static_cast<uint8_t>((field + (up ? 1 : 7)) & 7);
    return pack_words(fields, bits, context);
  }
  Tensor result(DType::i32, words.shape);
  const uint32_t ones = ones_in_fields(bits);
  for (int64_t i = 0; i < result.count(); ++i) {
    const auto word = load<uint32_t>(words.bytes.data() + 4 * i);
    result.data<uint32_t>()[i] = up ? word + ones : word - ones;
  }
  return result;
}

class GptqReader {
 public:
  GptqReader(const Checkpoint& files, const Json& settings, std::string name, Context context)
      : files_(files),
        settings_(gptq_settings(settings, name)),
        name_(std::move(name)),
        context_(std::move(context)) {
    const auto qweight = files.find(name_ + ".qweight"), scales = files.find(name_ + ".scales");
    if (!qweight || !scales) damaged_gptq("qweight or scales are missing", name_);
    if (qweight->shape.size() != 2 || scales->shape.size() != 2 || qweight->count() == 0 ||
        scales->count() == 0)
      damaged_gptq("qweight and scales must be matrices", name_);
    words_ = qweight->shape[0];
    out_ = qweight->shape[1];
    groups_ = scales->shape[0];
    const auto index = files.find(name_ + ".g_idx");
    in_ = index ? index->count() : -1;
    find_bits();
    if (index) index_ = packed_tensor(files, name_ + ".g_idx", DType::i32, Shape{in_});
    find_group_size();
    qweight_ = packed_tensor(files, name_ + ".qweight", DType::i32, {words_, out_});
    scales_ = packed_scales(files, name_ + ".scales", {groups_, out_});
    qzeros_ =
        packed_tensor(files, name_ + ".qzeros", DType::i32, {groups_, ceil_div(out_ * bits_, 32)});
    scattered_ = index && !is_plain_group_index(index_, group_size_);
    if (scattered_ && settings_.ordered)
      throw Error(
          ErrorKind::unsupported,
          "config.json says that the groups are runs of columns (desc_act false), and g_idx "
          "scatters them",
          "GPTQ module '" + name_ + "'",
          "some loaders ignore g_idx then and some use it: ask the author which is meant, "
          "and set \"desc_act\": true if it counts");
    zeros_ = unpack_words(settings_.v2 ? qzeros_ : shifted(), out_, bits_, context_);
    symmetric_ = zeros_.all(static_cast<uint8_t>(1 << (bits_ - 1)));
    if (settings_.symmetric.value_or(true) && !symmetric_) correct_zeros();
  }

  PackedModule module() const {
    PackedModule module;
    module.name = name_;
    module.note = note_;
    module.layout =
        integer_grid_layout(out_, in_, {bits_, group_size_, symmetric_, scales_.dtype, scattered_});
    for (const char* part : {".qweight", ".scales", ".qzeros", ".g_idx"}) {
      if (files_.find(name_ + part)) module.tensors.push_back(name_ + part);
    }
    return module;
  }

  LoadedWeight read() const {
    LoadedWeight result = read_words();
    IntegerGrid grid = result.weight.get<IntegerGrid>();
    result.owned.push_back(streams_from_columns(qweight_, packed_bytes(in_, bits_), context_));
    grid.codes = result.owned.back().view();
    if (scattered_) grid.group_index = index_;
    result.weight.set(std::move(grid));
    check_weight(result.weight, name_);
    return result;
  }

  // The codes as they are stored.
  LoadedWeight read_words() const {
    LoadedWeight result;
    IntegerGrid grid{bits_, group_size_, qweight_, {}};
    result.owned.push_back(transposed(scales_, context_));
    grid.scales = result.owned.back().view();
    if (!symmetric_) {
      result.owned.push_back(pack_rows(zeros_.transpose(context_), bits_, context_));
      grid.zeros = result.owned.back().view();
    }
    result.weight = {out_, in_, Orientation::out_in, grid};
    return result;
  }

 private:
  TensorView shifted() {
    moved_ = shifted_zeros(qzeros_, bits_, out_, true, context_);
    return moved_.view();
  }
  bool fits(int64_t bits) const {
    if (!is_gptq_bits(bits) || (bits == 3 && in_ % 32 != 0 && in_ >= 0)) return false;
    return in_ < 0 ? words_ * 32 % bits == 0 : ceil_div(in_ * bits, 32) == words_;
  }
  // Zero points that the settings call symmetric lie in the middle. Some writers stored them for
  // the other version than checkpoint_format names: all of them are then one off (vllm issue
  // 38966).
  void correct_zeros() {
    const int middle = 1 << (bits_ - 1);
    if (zeros_.all(static_cast<uint8_t>(settings_.v2 ? middle - 1 : middle + 1))) {
      std::fill(zeros_.codes.begin(), zeros_.codes.end(), static_cast<uint8_t>(middle));
      symmetric_ = true;
      note_ = fmt::format(
          "the zero points are stored as checkpoint_format '{}' has them, and config.json says "
          "'{}': read as "
          "{}, the middle of a symmetric grid",
          settings_.v2 ? "gptq" : "gptq_v2", settings_.v2 ? "gptq_v2" : "gptq", middle);
      return;
    }
    if (!settings_.symmetric) return;  // not said: the tensors tell
    throw Error(ErrorKind::unsupported,
                "config.json says that the grid is symmetric (sym), and the zero points are not in "
                "its middle",
                "GPTQ module '" + name_ + "'",
                "some loaders ignore such zero points and some use them: ask the author which is "
                "meant, and set "
                "\"sym\": false if they count");
  }
  // The config's bits, or those of its override ("dynamic") for this module.
  void find_bits() {
    if (!is_gptq_bits(settings_.bits)) {
      throw Error(ErrorKind::unsupported, fmt::format("GPTQ with {} bits", settings_.bits),
                  kGptqWhere, "2, 3, 4 and 8 bits are read");
    }
    if (!fits(settings_.bits)) {
      std::string others;
      for (const int other : kGptqBits) {
        if (in_ >= 0 && fits(other))
          others += (others.empty() ? "" : " or ") + std::to_string(other);
      }
      damaged_gptq(others.empty()
                       ? fmt::format("qweight has {} rows of words, which is no matrix of {} bits",
                                     words_, settings_.bits)
                       : fmt::format("config.json says {} bits, and the tensors have {}",
                                     settings_.bits, others),
                   name_);
    }
    bits_ = static_cast<int>(settings_.bits);
    if (in_ < 0) in_ = words_ * 32 / bits_;
    if (in_ < 1) damaged_gptq("no input channels", name_);
  }
  // What the config says, if it does; else the first run of g_idx tells, where it has runs.
  void find_group_size() {
    const int64_t asked = settings_.group_size == -1 ? in_ : std::min(settings_.group_size, in_);
    if (settings_.group_told) {
      if (asked < 1 || ceil_div(in_, asked) != groups_) {
        damaged_gptq(
            fmt::format(
                "config.json says groups of {}, and the tensors have {} groups over {} input "
                "channels",
                settings_.group_size, groups_, in_),
            name_);
      }
      group_size_ = asked;
      return;
    }
    const int64_t even = ceil_div(in_, groups_);
    for (const int64_t size : {asked, first_run(), even}) {
      if (size < 1 || ceil_div(in_, size) != groups_) continue;
      if (group_size_ == 0) group_size_ = size;
      if (index_.empty() || !is_plain_group_index(index_, size)) continue;
      group_size_ = size;
      return;
    }
    if (group_size_ == 0)
      damaged_gptq(fmt::format("{} groups do not cover {} input channels evenly", groups_, in_),
                   name_);
  }
  int64_t first_run() const {
    int64_t run = 0;
    while (run < index_.count() && load<int32_t>(index_.bytes.data() + 4 * run) == 0) ++run;
    return run;
  }

  const Checkpoint& files_;
  GptqFolderSettings settings_;
  std::string name_, note_;
  Context context_;
  int64_t words_ = 0, out_ = 0, in_ = 0, groups_ = 0, group_size_ = 0;
  int bits_ = 0;
  bool scattered_ = false, symmetric_ = false;
  TensorView qweight_, scales_, qzeros_, index_;
  Tensor moved_;
  CodeMatrix zeros_;  // [groups, out], as they are
};

class GptqReading : public PackedReader {
 public:
  std::string name() const override { return "gptq"; }
  bool matches(const Json& settings) const override {
    const auto text = [&](const char* key) {
      return json_string(settings, key, "GPTQ settings", "");
    };
    return text("quant_method") == "gptq" ||
           (text("quant_method").empty() && text("method") == "gptq");
  }
  void check(const Json& settings) const override { check_gptq_settings(settings); }
  std::optional<bool> quantizes(const Json& settings, const std::string& module) const override {
    return gptq_settings(settings, module).quantized;
  }
  std::vector<PackedModule> modules(const Checkpoint& files, const Json& settings,
                                    const Context& context) const override {
    std::vector<PackedModule> result;
    for (const std::string& name : files.names()) {
      if (name.ends_with(kQweight))
        result.push_back(
            GptqReader(files, settings, name.substr(0, name.size() - kQweight.size()), context)
                .module());
    }
    return result;
  }
  LoadedWeight read(const Checkpoint& files, const Json& settings, const PackedModule& module,
                    const Context& context) const override {
    return GptqReader(files, settings, module.name, context).read();
  }
  bool moves_words() const override { return true; }
  LoadedWeight read_words(const Checkpoint& files, const Json& settings, const PackedModule& module,
                          const Context& context) const override {
    return GptqReader(files, settings, module.name, context).read_words();
  }
};

class GptqWriting : public PackedWriter {
 public:
  explicit GptqWriting(GptqVersion version) : version_(version) {}
  bool moves_words() const override { return true; }
  Fit fit(const TargetModule& module, const WeightReader& read) const override;
  std::optional<DType> scale_dtype() const override { return DType::f16; }
  std::vector<PartSpec> layout(const TargetModule& module) const override;
  PackedTensors write(const TargetModule& module, const Weight& weight, const Json& settings,
                      const Context& context) const override;
  PackedTensors write_words(const TargetModule& module, const Weight& weight, const Json& settings,
                            const Context& context) const override;
  Json quantization_config(const std::vector<TargetModule>& modules,
                           const std::vector<TargetModule>& plain) const override;
  void finish(const Written& written, const Provenance& /*provenance*/) const override {
    write_file(written.folder / "quantize_config.json", json_text(written.settings));
  }

 private:
  PackedTensors write_but_codes(const TargetModule& module, const Weight& weight,
                                const Json& settings, const Context& context) const;

  GptqVersion version_;
};

Fit GptqWriting::fit(const TargetModule& module, const WeightReader& read) const {
  const WeightLayout& form = module.layout;
  if (form.as<IntegerGrid>() == nullptr)
    return Fit::no("is stored as " + form.codec() + ", not on an integer grid");
  const int bits = form.code_bits();
  if (!is_gptq_bits(bits)) return Fit::no(fmt::format("has {} bits; GPTQ has 2, 3, 4 and 8", bits));
  if (module.role == TargetModule::Role::embedding)
    return Fit::no("is the token embedding, which GPTQ leaves unquantized");
  if (bits == 3 && (form.in % 32 != 0 || form.out % 32 != 0))
    return Fit::no(
        fmt::format("is {} x {}, and GPTQ packs 3 bits in runs of 32", form.out, form.in));
  return fit_scales(module, DType::f16, read);
}

std::vector<PartSpec> GptqWriting::layout(const TargetModule& module) const {
  const WeightLayout& form = module.layout;
  const int bits = form.code_bits();
  const int64_t groups = form.spec("scales").shape.at(1);
  return {{module.name + ".g_idx", DType::i32, {form.in}},
          {module.name + ".qweight", DType::i32, {ceil_div(form.in * bits, 32), form.out}},
          {module.name + ".qzeros", DType::i32, {groups, ceil_div(form.out * bits, 32)}},
          {module.name + ".scales", DType::f16, {groups, form.out}}};
}

PackedTensors GptqWriting::write(const TargetModule& module, const Weight& weight,
                                 const Json& settings, const Context& context) const {
  PackedTensors tensors = write_but_codes(module, weight, settings, context);
  tensors.add(module.name + ".qweight",
              streams_to_columns(weight.get<IntegerGrid>().codes, context));
  return tensors;
}

PackedTensors GptqWriting::write_words(const TargetModule& module, const Weight& weight,
                                       const Json& settings, const Context& context) const {
  PackedTensors tensors = write_but_codes(module, weight, settings, context);
  tensors.views[module.name + ".qweight"] = weight.get<IntegerGrid>().codes;
  return tensors;
}

PackedTensors GptqWriting::write_but_codes(const TargetModule& module, const Weight& weight,
                                           const Json& settings, const Context& context) const {
  const auto& grid = weight.get<IntegerGrid>();
  Tensor zeros =
      pack_words(grid_zeros(grid, weight.out, context).transpose(context), grid.bits, context);
  if (!gptq_settings(settings).v2)
    zeros = shifted_zeros(zeros.view(), grid.bits, weight.out, false, context);
  PackedTensors tensors;
  tensors.add(module.name + ".g_idx", group_index_tensor(grid, weight.in));
  tensors.add(module.name + ".qzeros", std::move(zeros));
  tensors.add(module.name + ".scales", transposed(grid.scales, context));
  return tensors;
}

// A module's bits and group size (-1: the row), and how many weights have them.
using GptqKind = std::pair<int64_t, int64_t>;

GptqKind gptq_kind(const WeightLayout& form) {
  const int64_t group = form.get<IntegerGrid>().group_size;
  return {form.code_bits(), group == form.in ? -1 : group};
}

// "model.layers.0" as a regular expression that matches this text only.
std::string escaped_name(const std::string& name) {
  std::string text = "^";
  for (const char c : name) text += c == '.' ? std::string("\\.") : std::string(1, c);
  return text + "$";
}

Json GptqWriting::quantization_config(const std::vector<TargetModule>& modules,
                                      const std::vector<TargetModule>& plain) const {
  std::map<GptqKind, int64_t> weights;
  bool symmetric = true, desc_act = false, head = false;
  for (const TargetModule& module : modules) {
    weights[gptq_kind(module.layout)] += module.layout.count();
    symmetric = symmetric && !module.layout.has("zeros");
    desc_act = desc_act || module.layout.has("group_index");
    head = head || module.role == TargetModule::Role::output_embedding;
  }
  const auto most =
      std::max_element(weights.begin(), weights.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  const auto [bits, group] = most->first;
  const bool v1 = version_ == GptqVersion::v1 || (version_ == GptqVersion::automatic && symmetric);
  Json config = {{"bits", bits},
                 {"group_size", group},
                 {"desc_act", desc_act},
                 {"sym", symmetric},
                 {"lm_head", head},
                 {"quant_method", "gptq"},
                 {"checkpoint_format", v1 ? "gptq" : "gptq_v2"},
                 {"pack_dtype", "int32"},
                 {"meta", {{"quantizer", {std::string("qwb:") + QWB_VERSION}}}}};
  Json dynamic = Json::object();
  for (const TargetModule& module : modules) {
    const auto [own_bits, own_group] = gptq_kind(module.layout);
    if (own_bits != bits || own_group != group)
      dynamic["+:" + escaped_name(module.name)] = {{"bits", own_bits}, {"group_size", own_group}};
  }
  for (const TargetModule& module : plain) {
    if (module.role == TargetModule::Role::linear)
      dynamic["-:" + escaped_name(module.name)] = Json::object();
  }
  if (!dynamic.empty()) config["dynamic"] = dynamic;
  return config;
}

}  // namespace

std::vector<ModelFormat> gptq_formats() {
  const auto writing = [](GptqVersion version) { return std::make_shared<GptqWriting>(version); };
  return {packed_format("gptq", "GPTQ, v1 where every module is symmetric, else v2",
                        std::make_shared<GptqReading>(), writing(GptqVersion::automatic)),
          packed_format("gptq-v1", "GPTQ v1, zero points stored less one", nullptr,
                        writing(GptqVersion::v1)),
          packed_format("gptq-v2", "GPTQ v2, zero points as they are", nullptr,
                        writing(GptqVersion::v2))};
}

}  // namespace qwb
