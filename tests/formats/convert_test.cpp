// Formats of other libraries: what those libraries packed (tests/golden/convert, made by make_convert.py)
// must be read to the very values that they dequantize to, and written again to the very same bytes.
#include "formats/convert.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "formats/packed_source.h"
#include "formats/packing.h"
#include "formats/qwb.h"
#include "lib/base/half.h"
#include "lib/base/rng.h"
#include "lib/kernels/dequantize.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;
const Path kPackedGolden = Path(QWB_SOURCE_DIR) / "tests/golden/convert";
const std::string kModule = "layers.0.proj";

std::vector<std::string> golden_cases() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kPackedGolden))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

uint32_t rounded_bits(float value, DType type) {
  if (type == DType::f16) return f32_to_f16(value);
  if (type == DType::bf16) return f32_to_bf16(value);
  return std::bit_cast<uint32_t>(value);
}

// Zeros of either sign are one value.
uint32_t without_zero_sign(uint32_t bits, DType type) {
  const uint32_t sign = type == DType::f32 ? 0x80000000u : 0x8000u;
  return bits == sign ? 0 : bits;
}

void expect_same_values(const Weight& weight, const TensorView& expected, const std::string& where) {
  ASSERT_EQ(expected.shape, (Shape{weight.out, weight.in})) << where;
  FloatBuffer values(weight.out * weight.in);
  dequantize(weight, values.data());
  const int64_t size = dtype_size(expected.dtype);
  int64_t different = 0;
  for (int64_t i = 0; i < values.size(); ++i) {
    const std::byte* at = expected.bytes.data() + i * size;
    const uint32_t wanted = size == 4 ? load<uint32_t>(at) : load<uint16_t>(at);
    different += without_zero_sign(rounded_bits(values[i], expected.dtype), expected.dtype) !=
                 without_zero_sign(wanted, expected.dtype);
  }
  EXPECT_EQ(different, 0) << where << ": of " << values.size() << " values";
}

// The tensors of two folders are the same, name by name and byte by byte.
void expect_same_tensors(const Path& a, const Path& b, const std::string& where) {
  const auto left = Checkpoint::open(a), right = Checkpoint::open(b);
  ASSERT_EQ(left->names(), right->names()) << where;
  for (const std::string& name : left->names()) {
    const TensorView x = *left->find(name), y = *right->find(name);
    EXPECT_EQ(dtype_name(x.dtype), dtype_name(y.dtype)) << where << ": " << name;
    EXPECT_EQ(x.shape, y.shape) << where << ": " << name;
    EXPECT_TRUE(std::ranges::equal(x.bytes, y.bytes)) << where << ": " << name;
  }
}

bool convert(const Path& from, const std::string& to, const Path& out, ConvertOptions options = {}) {
  Conversion conversion(open_model(from), find_packed_format(to), std::move(options));
  conversion.write(out, silent_progress());
  return conversion.exact();
}

std::string format_of(const std::string& name) {
  if (name.starts_with("gptq")) return name.ends_with("v1") ? "gptq-v1" : "gptq-v2";
  if (name.starts_with("awq")) return "awq";
  if (name.starts_with("bnb")) return "bitsandbytes";
  return name.starts_with("ct-int") ? "compressed-tensors-int" : "compressed-tensors";
}

TEST(Convert, ReadsTheValuesThatTheLibrariesSee) {
  const auto cases = golden_cases();
  ASSERT_GE(cases.size(), 30u);
  for (const std::string& name : cases) {
    const OpenModel model = open_model(kPackedGolden / name);
    const auto weight = model.source->quantized(kModule);
    ASSERT_TRUE(weight.has_value()) << name;
    const SafetensorsFile file = SafetensorsFile::open(kPackedGolden / name / "expected.safetensors");
    expect_same_values(*weight, *file.find("weight"), name);
    EXPECT_FALSE(model.source->find(kModule + ".qweight").has_value()) << name;
    EXPECT_TRUE(model.source->find("norm.weight").has_value()) << name;
    const auto packed = std::dynamic_pointer_cast<const PackedSource>(model.source);
    EXPECT_EQ(packed->quantized_form(packed->quantized_modules().at(0)).parts, weight_form(*weight).parts)
        << name;
  }
}

TEST(Convert, WritesTheBytesThatTheLibrariesPack) {
  const TemporaryFolder folder;
  for (const std::string& name : golden_cases()) {
    if (name == "ct-int-8-sym-tensor") continue;  // one scale for a tensor comes back as one for each row
    const Path artifact = folder.path() / (name + "-qwb"), back = folder.path() / (name + "-back");
    EXPECT_TRUE(convert(kPackedGolden / name, "qwb", artifact)) << name;
    EXPECT_TRUE(convert(artifact, format_of(name), back)) << name;
    expect_same_tensors(kPackedGolden / name, back, name);
    const Path again = folder.path() / (name + "-again");
    EXPECT_TRUE(convert(back, "qwb", again)) << name;
    expect_same_tensors(artifact, again, name);
    EXPECT_TRUE(damaged_files(again).empty()) << name;
  }
}

TEST(Convert, DequantizesToTheLibrarysOwnTensor) {
  const TemporaryFolder folder;
  for (const std::string name : {"gptq-4-asym-v1", "bnb-nf4-nested-64", "ct-packed-4-asym-group"}) {
    const Path out = folder.path() / name;
    const SafetensorsFile file = SafetensorsFile::open(kPackedGolden / name / "expected.safetensors");
    ConvertOptions options;
    options.dtype = file.find("weight")->dtype;
    EXPECT_FALSE(convert(kPackedGolden / name, "huggingface", out, options));
    const OpenModel plain = open_model(out);
    EXPECT_EQ(plain.format, "huggingface");
    EXPECT_TRUE(
        std::ranges::equal(plain.source->find(kModule + ".weight")->bytes, file.find("weight")->bytes))
        << name;
  }
}

// A grid of random codes, scales and zero points in an artifact of one module.
struct RandomGrid {
  int64_t out, in, group;
  int bits;
  bool symmetric, scattered;
  DType scales = DType::f16;
};

QuantizedTensor random_grid(const RandomGrid& shape, uint64_t seed) {
  Rng rng(seed);
  QuantizedTensor tensor{shape.out, shape.in, Orientation::out_in, "integer-grid", {}, {}};
  tensor.parameters = {{"bits", shape.bits}, {"group_size", static_cast<double>(shape.group)}};
  const int64_t groups = ceil_div(shape.in, shape.group);
  const auto random_codes = [&](int64_t columns) {
    CodeMatrix codes(shape.out, columns);
    for (uint8_t& code : codes.codes) code = static_cast<uint8_t>(rng.below(uint64_t{1} << shape.bits));
    return pack_rows(codes, shape.bits);
  };
  tensor.parts.emplace("codes", random_codes(shape.in));
  if (!shape.symmetric) tensor.parts.emplace("zeros", random_codes(groups));
  Tensor scales(shape.scales, {shape.out, groups});
  for (int64_t i = 0; i < scales.count(); ++i) {
    const float value = static_cast<float>(1 + rng.below(1000)) / 4096.0f;
    if (shape.scales == DType::f32) {
      scales.data<float>()[i] = value;
    } else {
      scales.data<uint16_t>()[i] = f32_to_f16(value);
    }
  }
  tensor.parts.emplace("scales", std::move(scales));
  if (shape.scattered) {
    Tensor index(DType::i32, {shape.in});
    for (int64_t i = 0; i < shape.in; ++i)
      index.data<int32_t>()[i] = static_cast<int32_t>(rng.below(static_cast<uint64_t>(groups)));
    index.data<int32_t>()[0] = static_cast<int32_t>(groups - 1);
    tensor.parts.emplace("group_index", std::move(index));
  }
  return tensor;
}

void write_artifact(const Path& folder, const QuantizedTensor& tensor) {
  const Path source = folder.string() + "-source";
  fs::create_directory(source);
  write(source / "config.json", R"({"model_type": "golden", "torch_dtype": "float32"})");
  {
    SafetensorsWriter writer(
        source / "model.safetensors",
        {{kModule + ".weight", DType::f32, {tensor.out, tensor.in}}, {"norm.weight", DType::f32, {2}}});
    const Tensor zeros(DType::f32, {tensor.out, tensor.in}), norm(DType::f32, {2});
    writer.put(kModule + ".weight", zeros.view().bytes);
    std::fill_n(norm.data<float>(), 2, 1.5f);
    writer.put("norm.weight", norm.view().bytes);
    writer.finish();
  }
  std::vector<PartSpec> parts = weight_form(tensor.view()).parts;
  ArtifactWriter writer(folder, open_model(source),
                        {{kModule, tensor.out, tensor.in, Orientation::out_in, tensor.codec, parts}});
  writer.put(kModule, tensor);
  writer.finish(
      {{"source", Json::object()}, {"method", "rtn"}, {"method_version", 1}, {"settings", Json::object()}});
}

// From an artifact to a format, to a third one where it fits, and back: no byte may change.
TEST(Convert, RoundTripsAreExactAtEveryShape) {
  const TemporaryFolder folder;
  uint64_t seed = 0;
  const std::vector<RandomGrid> grids = {
      {64, 96, 32, 3, false, true},  {32, 64, 64, 3, true, false},  {5, 70, 32, 4, false, true},
      {7, 33, 33, 2, true, false},   {40, 96, 24, 4, false, false}, {8, 50, 25, 4, true, false},
      {9, 130, 64, 8, false, false}, {3, 12, 6, 5, false, false},   {17, 60, 20, 7, true, false},
      {31, 44, 11, 6, false, false}, {1, 1, 1, 4, true, false}};
  int exact = 0;
  for (const RandomGrid& shape : grids) {
    const Path artifact = folder.path() / ("a" + std::to_string(++seed));
    write_artifact(artifact, random_grid(shape, seed));
    for (const char* format :
         {"gptq", "gptq-v1", "gptq-v2", "awq", "compressed-tensors", "compressed-tensors-int"}) {
      const Path there = artifact.string() + format, back = there.string() + "-back";
      try {
        EXPECT_TRUE(convert(artifact, format, there));
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::unsupported) << error.what();
        continue;
      }
      ++exact;
      EXPECT_TRUE(convert(there, "qwb", back));
      expect_same_tensors(artifact, back, std::string(format) + " " + std::to_string(seed));
    }
  }
  EXPECT_GE(exact, 30);
}

TEST(Convert, RefusesWhatWouldNotBeExactBeforeWritingAnything) {
  const TemporaryFolder folder;
  const auto refused = [&](const RandomGrid& shape, const char* format, const char* reason) {
    const Path artifact = folder.path() / (std::string(format) + std::to_string(shape.bits) + reason);
    write_artifact(artifact, random_grid(shape, 1));
    const Path out = folder.path() / "out";
    expect_error(ErrorKind::unsupported, reason, [&] { convert(artifact, format, out); });
    EXPECT_FALSE(fs::exists(out));
  };
  refused({8, 64, 32, 5, true, false}, "gptq", "has 5 bits");
  refused({8, 64, 32, 8, true, false}, "awq", "has 8 bits");
  refused({8, 64, 32, 4, true, true}, "awq", "act-order");
  refused({7, 64, 32, 4, true, false}, "awq", "7 output channels");
  refused({8, 65, 32, 4, true, false}, "compressed-tensors", "do not divide");
  refused({8, 64, 32, 4, true, false}, "bitsandbytes", "integer-grid");
}

TEST(Convert, NamesScalesThatAHalfCannotHold) {
  const TemporaryFolder folder;
  const auto with_scale = [&](const char* name, float value) {
    QuantizedTensor tensor = random_grid({8, 64, 32, 4, true, false, DType::f32}, 3);
    tensor.parts.at("scales").data<float>()[5] = value;
    write_artifact(folder.path() / name, tensor);
    return folder.path() / name;
  };
  EXPECT_TRUE(convert(with_scale("fits", 0.5f), "gptq", folder.path() / "fits-out"));
  const Path lossy = with_scale("lossy", 0.1f), large = with_scale("large", 1e6f);
  expect_error(ErrorKind::unsupported, "1 of 16 scales",
               [&] { convert(lossy, "gptq", folder.path() / "x"); });
  expect_error(ErrorKind::unsupported, "overflows F16", [&] { convert(large, "gptq", folder.path() / "x"); });
  ConvertOptions options;
  options.round_scales = true;
  Conversion conversion(open_model(lossy), find_packed_format("gptq"), options);
  conversion.write(folder.path() / "rounded", silent_progress());
  EXPECT_FALSE(conversion.exact());
  EXPECT_GT(conversion.modules().at(0).error, 0);
  EXPECT_LT(conversion.modules().at(0).error, 1e-6);
  expect_error(ErrorKind::unsupported, "overflows F16",
               [&] { Conversion(open_model(large), find_packed_format("gptq"), options); });
}

TEST(Convert, SplitsLargeOutputIntoShards) {
  const TemporaryFolder folder;
  ConvertOptions options;
  options.max_shard_bytes = 2000;
  EXPECT_TRUE(
      convert(kPackedGolden / "gptq-4-asym-v1", "compressed-tensors", folder.path() / "out", options));
  EXPECT_TRUE(fs::exists(folder.path() / "out/model.safetensors.index.json"));
  EXPECT_TRUE(convert(folder.path() / "out", "gptq-v1", folder.path() / "back"));
  const auto left = Checkpoint::open(kPackedGolden / "gptq-4-asym-v1"),
             right = Checkpoint::open(folder.path() / "back");
  EXPECT_TRUE(
      std::ranges::equal(left->find(kModule + ".qweight")->bytes, right->find(kModule + ".qweight")->bytes));
}

// Rewrites a golden folder with one tensor changed, or left out when the new one is null.
Path damaged_copy(const TemporaryFolder& folder, const std::string& name, const std::string& tensor,
                  const std::optional<TensorView>& replacement) {
  static int number = 0;
  const Path copy = folder.path() / ("damaged" + std::to_string(++number));
  fs::create_directory(copy);
  fs::copy_file(kPackedGolden / name / "config.json", copy / "config.json");
  const auto files = Checkpoint::open(kPackedGolden / name);
  std::vector<PartSpec> specs;
  std::map<std::string, TensorView> views;
  for (const std::string& each : files->names()) views[each] = *files->find(each);
  EXPECT_TRUE(views.contains(kModule + tensor)) << tensor;
  views.erase(kModule + tensor);
  if (replacement) views[kModule + tensor] = *replacement;
  for (const auto& [each, view] : views) specs.push_back({each, view.dtype, view.shape});
  SafetensorsWriter writer(copy / "model.safetensors", specs);
  for (const auto& [each, view] : views) writer.put(each, view.bytes);
  writer.finish();
  return copy;
}

void expect_refused(const Path& folder, const std::string& what) {
  try {
    const OpenModel model = open_model(folder);
    model.source->quantized(kModule);
    ADD_FAILURE() << what << " was accepted";
  } catch (const Error& error) {
    EXPECT_TRUE(error.kind() == ErrorKind::failed || error.kind() == ErrorKind::unsupported) << error.what();
  }
}

TEST(Convert, RefusesDamage) {
  const TemporaryFolder folder;
  for (const std::string name : {"gptq-3-asym-act-v2", "awq-32", "bnb-nf4-nested-64", "bnb-int8",
                                 "ct-packed-3-asym-group", "ct-int-8-asym-group"}) {
    const auto files = Checkpoint::open(kPackedGolden / name);
    for (const std::string& tensor : files->names()) {
      if (!tensor.starts_with(kModule) || tensor.ends_with(".bias")) continue;
      const std::string part = tensor.substr(kModule.size());
      TensorView view = *files->find(tensor);
      const bool optional = part == ".g_idx" || part == ".weight_format" || part == ".weight_zero_point";
      if (!optional)
        expect_refused(damaged_copy(folder, name, part, std::nullopt), name + " without " + part);
      TensorView other = view;
      other.dtype = dtype_size(view.dtype) == 4 ? DType::u32 : DType::boolean;
      other.shape = {static_cast<int64_t>(view.bytes.size()) / dtype_size(other.dtype)};
      if (part != ".weight" || !name.starts_with("bnb-nf4"))
        expect_refused(damaged_copy(folder, name, part, other), name + " with another type of " + part);
      if (view.count() < 2) continue;
      other = {view.dtype, {view.count() - 1}, view.bytes.first(view.bytes.size() - dtype_size(view.dtype))};
      expect_refused(damaged_copy(folder, name, part, other), name + " with a shorter " + part);
    }
  }
}

TEST(Convert, RefusesGroupsThatDoNotExist) {
  const TemporaryFolder folder;
  for (const int32_t group : {-1, 3, 1 << 30}) {
    Tensor index(DType::i32, {96});
    for (int64_t i = 0; i < 96; ++i) index.data<int32_t>()[i] = 0;
    index.data<int32_t>()[95] = group;
    expect_refused(damaged_copy(folder, "gptq-3-asym-act-v2", ".g_idx", index.view()),
                   "a group out of range");
  }
  Tensor zeros(DType::i8, {24, 3});
  std::fill_n(zeros.data<int8_t>(), zeros.count(), int8_t{0});
  EXPECT_NO_THROW(
      open_model(damaged_copy(folder, "ct-int-8-asym-group", ".weight_zero_point", zeros.view())));
}

}  // namespace
}  // namespace qwb
