// Damaged and hostile folders of other libraries' formats: refused with an error, never read
// outside of a tensor, no memory taken for sizes that no tensor has.
#include <gtest/gtest.h>

#include <climits>
#include <cmath>

#include "formats/registry.h"
#include "lib/exec/cpu/dequantize.h"
#include "tests/formats/convert_helper.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;

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
    EXPECT_TRUE(error.kind() == ErrorKind::failed || error.kind() == ErrorKind::unsupported)
        << error.what();
  }
}

TEST(PackedDamage, PartsMissingOrOfAnotherType) {
  const TemporaryFolder folder;
  for (const std::string name :
       {"gptq-3-asym-act-v2", "gptq-4-sym-v1", "awq-32", "bnb-nf4-nested-64", "bnb-int8",
        "ct-packed-3-asym-group", "ct-packed-4-sym-group", "ct-int-8-asym-group"}) {
    const auto files = Checkpoint::open(kPackedGolden / name);
    for (const std::string& tensor : files->names()) {
      if (!tensor.starts_with(kModule) || tensor.ends_with(".bias")) continue;
      const std::string part = tensor.substr(kModule.size());
      TensorView view = *files->find(tensor);
      const bool optional =
          part == ".g_idx" || part == ".weight_format" || part == ".weight_zero_point";
      if (!optional)
        expect_refused(damaged_copy(folder, name, part, std::nullopt), name + " without " + part);
      TensorView other = view;
      other.dtype = dtype_size(view.dtype) == 4 ? DType::u32 : DType::boolean;
      other.shape = {static_cast<int64_t>(view.bytes.size()) / dtype_size(other.dtype)};
      if (part != ".weight" || !name.starts_with("bnb-nf4"))
        expect_refused(damaged_copy(folder, name, part, other),
                       name + " with another type of " + part);
      if (view.count() < 2) continue;
      other = {view.dtype,
               {view.count() - 1},
               view.bytes.first(view.bytes.size() - dtype_size(view.dtype))};
      const bool as_many_words =
          name == "gptq-4-sym-v1" && part == ".g_idx";  // 95 inputs of 4 bits
      if (!as_many_words)
        expect_refused(damaged_copy(folder, name, part, other), name + " with a shorter " + part);
      if (view.shape.size() != 2 || view.shape[0] < 2) continue;
      const size_t row = view.bytes.size() / static_cast<size_t>(view.shape[0]);
      other = {view.dtype,
               {view.shape[0] - 1, view.shape[1]},
               view.bytes.first(view.bytes.size() - row)};
      expect_refused(damaged_copy(folder, name, part, other),
                     name + " with a row of " + part + " missing");
    }
  }
}

TEST(PackedDamage, GroupsThatDoNotExist) {
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

// Opens and rearranges everything; a hostile file is refused with a qwb::Error, or has values.
void read_everything(const Path& folder, const std::string& what) {
  try {
    const OpenModel model = open_model(folder);
    for (const std::string& module : model.source->quantized_modules()) {
      const LoadedWeight loaded = model.source->load_quantized(module);
      ASSERT_LT(loaded.weight.out * loaded.weight.in, 1 << 20) << what;
      EXPECT_EQ(model.source->quantized_layout(module).specs(), loaded.weight.specs()) << what;
      FloatBuffer values(loaded.weight.out * loaded.weight.in);
      dequantize(loaded.weight, values.data());
    }
  } catch (const Error& error) {
    EXPECT_TRUE(error.kind() == ErrorKind::failed || error.kind() == ErrorKind::unsupported)
        << what << ": " << error.what();
  }
}

// Every place of a value inside the settings, as JSON pointers.
void collect_places(const Json& value, const Json::json_pointer& at,
                    std::vector<Json::json_pointer>& places) {
  places.push_back(at);
  if (value.is_object()) {
    for (const auto& [key, child] : value.items()) collect_places(child, at / key, places);
  } else if (value.is_array()) {
    for (size_t i = 0; i < value.size(); ++i) collect_places(value[i], at / i, places);
  }
}

std::vector<Json> hostile_values() {
  Json cycle = Json::array();  // deep: JSON knows no cycles
  for (int depth = 0; depth < 200; ++depth) cycle = Json::array({cycle});
  return {nullptr,
          true,
          -1,
          0,
          1,
          3,
          int64_t{1} << 60,
          INT64_MIN,
          UINT64_MAX,
          1e308,
          -0.5,
          "",
          "4",
          "pack-quantized",
          std::string(1 << 20, 'x'),
          Json::array(),
          Json::object(),
          Json::array({int64_t{1} << 60, int64_t{1} << 60}),
          Json::array({INT64_MAX, INT64_MAX}),
          cycle};
}

// One folder of each kind, small enough to be read hundreds of times.
const std::vector<std::string> kHostileCases = {"gptq-3-asym-act-v2",     "awq-32",
                                                "bnb-nf4-nested-64",      "bnb-int8",
                                                "ct-packed-3-asym-group", "ct-int-8-asym-group"};

TEST(SlowPackedDamage, SettingsThatLie) {
  const TemporaryFolder folder;
  for (const std::string& name : kHostileCases) {
    const Path copy = folder.path() / name;
    fs::copy(kPackedGolden / name, copy);
    const Json config = parse_json(read_text(copy / "config.json"), name);
    const Json::json_pointer root("/quantization_config");
    std::vector<Json::json_pointer> places;
    collect_places(config.at(root), root, places);
    ASSERT_GE(places.size(), 3u) << name;
    for (const auto& place : places) {
      for (const Json& value : hostile_values()) {
        Json changed = config;
        changed[place] = value;
        write(copy / "config.json", json_text(changed));
        read_everything(copy, name + " " + place.to_string() + " = " + value.dump().substr(0, 40));
      }
    }
  }
}

// The numbers that live in tensors: shapes, and the JSON of bitsandbytes.
TEST(PackedDamage, TensorsThatLieAboutSizes) {
  const TemporaryFolder folder;
  for (const int64_t size : {int64_t{0}, int64_t{-1}, int64_t{1}, int64_t{1} << 31,
                             int64_t{1} << 60, INT64_MAX, INT64_MIN}) {
    for (const int axis : {0, 1}) {
      Tensor shape(DType::i64, {2});
      const auto files = Checkpoint::open(kPackedGolden / "ct-packed-3-asym-group");
      std::memcpy(shape.bytes().data(), files->find(kModule + ".weight_shape")->bytes.data(), 16);
      shape.data<int64_t>()[axis] = size;
      expect_refused(damaged_copy(folder, "ct-packed-3-asym-group", ".weight_shape", shape.view()),
                     "weight_shape of " + std::to_string(size));
    }
    const std::string part = ".weight.quant_state.bitsandbytes__nf4";
    const auto files = Checkpoint::open(kPackedGolden / "bnb-nf4-nested-64");
    const Json state = parse_json(as_text(files->find(kModule + part)->bytes), "quant_state");
    for (const char* place : {"/shape/0", "/shape/1", "/blocksize", "/nested_blocksize"}) {
      if (size == int64_t{1} << 31 && place == std::string("/nested_blocksize"))
        continue;  // one block holds all
      Json changed = state;
      changed[Json::json_pointer(place)] = size;
      const std::string text = changed.dump();
      const Bytes bytes = as_bytes(text);
      expect_refused(
          damaged_copy(folder, "bnb-nf4-nested-64", part,
                       TensorView{DType::u8, {static_cast<int64_t>(text.size())}, bytes}),
          place + (" of " + std::to_string(size)));
    }
  }
}

// The file cut before, at and after the end of its length, its header and every tensor.
TEST(PackedDamage, TruncatedAtEveryBoundary) {
  const TemporaryFolder folder;
  for (const std::string& name : kHostileCases) {
    const Path copy = folder.path() / name;
    fs::copy(kPackedGolden / name, copy);
    const std::string whole = read_text(copy / "model.safetensors");
    const SafetensorsHeader header = parse_safetensors_header(as_bytes(whole), name);
    std::vector<int64_t> ends = {0, 8, header.data_begin};
    for (const SafetensorsEntry& entry : header.tensors)
      ends.push_back(header.data_begin + entry.end);
    for (const int64_t end : ends) {
      for (const int64_t size : {end - 1, end, end + 1}) {
        if (size < 0 || size >= static_cast<int64_t>(whole.size())) continue;
        write(copy / "model.safetensors", whole.substr(0, static_cast<size_t>(size)));
        expect_error(ErrorKind::failed, "", [&] { open_model(copy); });
      }
    }
  }
}

// Same bytes, other dimensions.
TEST(PackedDamage, ShapesThatLie) {
  const TemporaryFolder folder;
  for (const std::string& name : kHostileCases) {
    const auto files = Checkpoint::open(kPackedGolden / name);
    for (const std::string& tensor : files->names()) {
      if (!tensor.starts_with(kModule)) continue;
      const TensorView view = *files->find(tensor);
      const int64_t count = view.count();
      for (Shape shape :
           std::vector<Shape>{{count}, {1, count}, {count, 1}, {1, 1, count}, {count, 1, 1, 1}}) {
        if (shape == view.shape) continue;
        read_everything(damaged_copy(folder, name, tensor.substr(kModule.size()),
                                     TensorView{view.dtype, shape, view.bytes}),
                        name + ": " + tensor + " as " + shape_text(shape));
      }
    }
  }
}

// Said as what it is, not as a part of another shape.
TEST(PackedDamage, AwqGroupsThatDoNotDivideTheRow) {
  const TemporaryFolder folder;
  const Path copy = folder.path() / "m";
  fs::copy(kPackedGolden / "awq-32", copy);
  Json config = parse_json(read_text(copy / "config.json"), "config.json");
  config["quantization_config"]["group_size"] = 40;
  write(copy / "config.json", json_text(config));
  expect_error(ErrorKind::failed, "group size 40 does not divide", [&] { open_model(copy); });
}

// Zero points of a symmetric grid are looked at and left out: as many as there must be.
TEST(PackedDamage, SymmetricZeroPointsAreCounted) {
  const TemporaryFolder folder;
  for (const auto& [name, middle] : std::vector<std::pair<std::string, uint32_t>>{
           {"awq-32", 0x88888888u}, {"gptq-4-sym-v1", 0x77777777u}}) {
    const TensorView stored = *Checkpoint::open(kPackedGolden / name)->find(kModule + ".qzeros");
    for (const int64_t missing : {0, 1}) {
      Tensor zeros(DType::i32, {stored.shape[0] - missing, stored.shape[1]});
      std::fill_n(zeros.data<uint32_t>(), zeros.count(), middle);
      const Path copy = damaged_copy(folder, name, ".qzeros", zeros.view());
      if (missing > 0) {
        expect_refused(copy, name + " with a row of zero points missing");
      } else {
        EXPECT_FALSE(open_model(copy).source->quantized_layout(kModule).has("zeros")) << name;
      }
    }
  }
}

// A table other than the type's would be ignored by bitsandbytes, and the model be another one
// there.
TEST(PackedDamage, TablesThatAreNotTheirTypes) {
  const TemporaryFolder folder;
  for (const std::string name : {"bnb-nf4-nested-64", "bnb-fp4-64"}) {
    const auto files = Checkpoint::open(kPackedGolden / name);
    const TensorView map = *files->find(kModule + ".weight.quant_map");
    for (const int64_t place : {0, 7, 15}) {
      Tensor other(DType::f32, map.shape);
      std::memcpy(other.bytes().data(), map.bytes.data(), map.bytes.size());
      for (const float value : {other.data<float>()[place] + 0.01f, std::nanf("")}) {
        other.data<float>()[place] = value;
        const Path copy = damaged_copy(folder, name, ".weight.quant_map", other.view());
        expect_error(ErrorKind::unsupported, "not the table of its type",
                     [&] { open_model(copy); });
      }
    }
  }
}

// The same module quantized and plain: which of the two counts?
TEST(PackedDamage, ModulesStoredTwice) {
  const TemporaryFolder folder;
  for (const std::string name : {"gptq-4-sym-v1", "awq-32", "ct-packed-4-sym-group"}) {
    const auto files = Checkpoint::open(kPackedGolden / name);
    const Path copy = folder.path() / name;
    fs::create_directory(copy);
    fs::copy_file(kPackedGolden / name / "config.json", copy / "config.json");
    std::vector<PartSpec> specs = {{kModule + ".weight", DType::f32, {1}}};
    for (const std::string& each : files->names())
      specs.push_back({each, files->find(each)->dtype, files->find(each)->shape});
    SafetensorsWriter writer(copy / "model.safetensors", specs);
    for (const std::string& each : files->names()) writer.put(each, files->find(each)->bytes);
    writer.put(kModule + ".weight", as_bytes("four"));
    writer.finish();
    expect_error(ErrorKind::failed, "stored twice", [&] { open_model(copy); });
  }
}

// An index that names itself, shards that name each other's tensors, links that go round.
TEST(PackedDamage, IndexesThatGoRound) {
  const TemporaryFolder folder;
  const Path copy = folder.path() / "m";
  fs::create_directory(copy);
  fs::copy_file(kPackedGolden / "awq-32/config.json", copy / "config.json");
  const auto index = [&](const std::string& file) {
    write(copy / "model.safetensors.index.json",
          R"({"weight_map": {")" + kModule + R"(.qweight": ")" + file + R"("}})");
    expect_error(ErrorKind::failed, "", [&] { open_model(copy); });
  };
  index("model.safetensors.index.json");
  index(".");
  index("..");
  index("../m/model.safetensors.index.json");
  fs::create_symlink("b.safetensors", copy / "a.safetensors");
  fs::create_symlink("a.safetensors", copy / "b.safetensors");
  write(copy / "model.safetensors.index.json", R"({"weight_map": {"x": "a.safetensors"}})");
  EXPECT_THROW(open_model(copy), Error);
  fs::create_symlink("model.safetensors", copy / "model.safetensors");
  EXPECT_THROW(open_model(copy), Error);
}

}  // namespace
}  // namespace qwb
