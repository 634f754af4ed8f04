// Adapters on disk: what is written is what is read, in both formats; what is not understood, or is
// of another model, is refused by name.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <functional>

#include "lib/adapt/gguf_adapter.h"
#include "lib/adapt/peft_reader.h"
#include "lib/adapt/peft_writer.h"
#include "lib/adapt/use.h"
#include "lib/base/json.h"
#include "tests/adapt/golden_adapter_helper.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;

Adapter adapter_at(const AdapterGolden& golden, const Path& place) {
  const auto model = golden.model();
  return read_adapter(place, golden.base.config, model->config(), model->spec());
}

class AdapterFiles : public ::testing::Test {
 protected:
  // A copy of a golden adapter with another config.
  Path changed(const std::string& name, const std::function<void(Json&)>& change) {
    const Path from = Path(QWB_SOURCE_DIR) / "tests/golden/adapters" / name;
    const Path to = scratch_.path() / ("changed" + std::to_string(count_++));
    fs::copy(from, to);
    Json config = parse_json(read_text(to / "adapter_config.json"), "config");
    change(config);
    std::ofstream(to / "adapter_config.json") << json_text(config);
    return to;
  }
  // A copy whose tensors are changed.
  Path with_tensors(
      const std::string& name,
      const std::function<void(std::map<std::string, std::pair<Shape, std::vector<float>>>&)>&
          change) {
    const Path to = changed(name, [](Json&) {});
    std::map<std::string, std::pair<Shape, std::vector<float>>> tensors;
    {
      const auto file = SafetensorsFile::open(to / "adapter_model.safetensors");
      for (const auto& entry : file.header().tensors)
        tensors[entry.name] = {entry.shape, read_floats(file.view(entry), entry.name)};
    }
    change(tensors);
    fs::remove(to / "adapter_model.safetensors");
    std::vector<PartSpec> specs;
    for (const auto& [key, tensor] : tensors) specs.push_back({key, DType::f32, tensor.first});
    SafetensorsWriter writer(to / "adapter_model.safetensors", specs);
    for (const auto& [key, tensor] : tensors)
      writer.put(key, std::as_bytes(std::span(tensor.second)));
    writer.finish();
    return to;
  }

  TemporaryFolder scratch_;
  int count_ = 0;
};

TEST_F(AdapterFiles, WhatIsWrittenIsReadAgain) {
  for (const auto& [base, name] : {std::pair("llama", "llama_patterns"), std::pair("gpt2", "gpt2"),
                                   std::pair("qwen3", "qwen3_layers")}) {
    const AdapterGolden golden(base, name);
    const Adapter adapter = golden.read();
    const auto model = golden.model();
    for (const bool portable : {false, true}) {
      const Path place = scratch_.path() / (std::string(name) + (portable ? "-portable" : ""));
      write_peft(adapter, place, {.base = golden.modules(), .portable = portable});
      const Adapter again = adapter_at(golden, place);
      EXPECT_EQ(content_hash(again) == content_hash(adapter), !portable);
      if (portable) {
        EXPECT_EQ(again.modules.front().rank, again.modules.back().rank);
        EXPECT_EQ(again.modules.back().scale, 1);
      }
    }
    const Path file = scratch_.path() / (std::string(name) + ".gguf");
    write_gguf_adapter(adapter, golden.base.config, model->config(), file, false);
    const Adapter from_gguf = adapter_at(golden, file);
    ASSERT_EQ(from_gguf.modules.size(), adapter.modules.size());
    for (size_t i = 0; i < adapter.modules.size(); ++i) {
      const AdapterModule &a = adapter.modules[i], &b = from_gguf.modules[i];
      EXPECT_EQ(a.module, b.module);
      EXPECT_EQ(a.a, b.a);
      for (size_t k = 0; k < a.b.size(); ++k)
        ASSERT_NEAR(a.b[k] * a.scale, b.b[k] * b.scale, 1e-6f) << a.module << " " << k;
    }
  }
}

TEST_F(AdapterFiles, NothingIsReplacedOrSavedInVain) {
  const AdapterGolden golden("llama", "llama");
  Adapter adapter = golden.read();
  const PeftOptions options{.base = golden.modules()};
  const Path place = scratch_.path() / "adapter";
  write_peft(adapter, place, options);
  const std::string before = read_text(place / "adapter_model.safetensors");
  expect_error(ErrorKind::usage, "the folder exists", [&] { write_peft(adapter, place, options); });
  EXPECT_EQ(read_text(place / "adapter_model.safetensors"), before);
  for (AdapterModule& m : adapter.modules) std::ranges::fill(m.b, 0.0f);
  expect_error(ErrorKind::failed, "every B of the adapter is zero",
               [&] { write_peft(adapter, scratch_.path() / "zero", options); });
  adapter.modules[1].a[3] = NAN;
  expect_error(ErrorKind::failed, "NaN or Inf",
               [&] { write_peft(adapter, scratch_.path() / "nan", options); });
  EXPECT_FALSE(fs::exists(scratch_.path() / "zero"));
}

// A disk that fills up while the adapter is written: the error says so, and nothing is left.
TEST_F(AdapterFiles, FullDiskLeavesNothing) {
  const AdapterGolden golden("llama", "llama");
  const Adapter adapter = golden.read();
  struct rlimit before {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit small = before;
  small.rlim_cur = 3000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_THROW(write_peft(adapter, scratch_.path() / "full", {.base = golden.modules()}), Error);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old);
  EXPECT_TRUE(fs::is_empty(scratch_.path()));
}

TEST_F(AdapterFiles, WhatChangesTheMathsIsRefusedByName) {
  const AdapterGolden golden("llama", "llama");
  const auto refused = [&](const std::string& field, const Json& value, ErrorKind kind) {
    const Path place = changed("llama", [&](Json& config) { config[field] = value; });
    expect_error(kind, field, [&] { adapter_at(golden, place); });
  };
  refused("use_dora", true, ErrorKind::unsupported);
  refused("lora_bias", true, ErrorKind::unsupported);
  refused("target_parameters", Json::array({"x"}), ErrorKind::unsupported);
  refused("layer_replication", Json::array({Json::array({0, 1})}), ErrorKind::unsupported);
  refused("trainable_token_indices", Json::array({3}), ErrorKind::unsupported);
  refused("a_field_of_tomorrow", 0.5, ErrorKind::unsupported);
  refused("peft_type", "IA3", ErrorKind::unsupported);
  refused("task_type", "SEQ_CLS", ErrorKind::unsupported);
  refused("init_lora_weights", "pissa_niter_4", ErrorKind::unsupported);
  refused("init_lora_weights", "loftq", ErrorKind::unsupported);
  refused("bias", "some", ErrorKind::unsupported);
  refused("rank_pattern", Json{{"q_proj", -1}}, ErrorKind::failed);
  // Harmless ones pass.
  const Path place = changed("llama", [](Json& config) {
    config["a_field_of_tomorrow"] = nullptr;
    config["inference_mode"] = false;
    config["init_lora_weights"] = "gaussian";
  });
  EXPECT_EQ(content_hash(adapter_at(golden, place)), content_hash(golden.read()));
}

TEST_F(AdapterFiles, EveryTensorHasAPlaceAndEveryModuleItsTensors) {
  const AdapterGolden golden("llama", "llama");
  const auto refused = [&](ErrorKind kind, const std::string& part, const Path& place) {
    expect_error(kind, part, [&] { adapter_at(golden, place); });
  };
  const std::string q = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
  refused(ErrorKind::failed, "lora_B is missing",
          with_tensors("llama", [&](auto& all) { all.erase(q + "B.weight"); }));
  refused(ErrorKind::failed, "asks for module 'model.layers.0.self_attn.q_proj'",
          with_tensors("llama", [&](auto& all) {
            all.erase(q + "A.weight");
            all.erase(q + "B.weight");
          }));
  refused(ErrorKind::failed, "NaN or Inf",
          with_tensors("llama", [&](auto& all) { all[q + "A.weight"].second[0] = NAN; }));
  refused(ErrorKind::failed, "nearest is 'model.layers.0.self_attn.q_proj'",
          with_tensors("llama", [&](auto& all) {
            for (const std::string side : {"A", "B"}) {
              auto node = all.extract(q + side + ".weight");
              node.key() =
                  "base_model.model.model.layers.0.self_attn.q_prod.lora_" + side + ".weight";
              all.insert(std::move(node));
            }
          }));
  refused(ErrorKind::unsupported, "DoRA", with_tensors("llama", [&](auto& all) {
            all["base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"] = {
                {32}, std::vector<float>(32)};
          }));
  refused(ErrorKind::failed, "do not fit each other", with_tensors("llama", [&](auto& all) {
            all[q + "B.weight"] = {{32, 3}, std::vector<float>(96, 1.0f)};
          }));
  // The 443 bytes of a training that was saved wrongly: a header alone.
  refused(ErrorKind::failed, "there is no tensor in it",
          with_tensors("llama", [](auto& all) { all.clear(); }));
  // Of another base: sizes differ.
  const AdapterGolden other("qwen3", "qwen3");
  expect_error(ErrorKind::failed, "the adapter is of another model",
               [&] { adapter_at(other, golden.folder); });
  // Cut off.
  const Path cut = changed("llama", [](Json&) {});
  fs::resize_file(cut / "adapter_model.safetensors", 3000);
  EXPECT_THROW(adapter_at(golden, cut), Error);
  // A pickle.
  const Path pickle = changed("llama", [](Json&) {});
  fs::rename(pickle / "adapter_model.safetensors", pickle / "adapter_model.bin");
  refused(ErrorKind::unsupported, "safe_serialization=True", pickle);
}

TEST_F(AdapterFiles, OtherGgufFilesAreRefused) {
  const AdapterGolden llama("llama", "llama"), qwen("qwen3", "qwen3");
  const Path file = scratch_.path() / "a.gguf";
  write_gguf_adapter(llama.read(), llama.base.config, llama.model()->config(), file, false);
  expect_error(ErrorKind::unsupported, "general.architecture", [&] { adapter_at(qwen, file); });
  const std::string bytes = read_text(file);
  for (const size_t size : {size_t{40}, bytes.size() / 2}) {
    const Path cut = scratch_.path() / ("cut" + std::to_string(size) + ".gguf");
    std::ofstream(cut, std::ios::binary) << bytes.substr(0, size);
    EXPECT_THROW(adapter_at(llama, cut), Error) << size;
  }
}

TEST(AdapterUse, ReadsScales) {
  EXPECT_EQ(parse_adapter_use("a/b").weight, 1);
  EXPECT_EQ(parse_adapter_use("a/b:0.5").weight, 0.5);
  EXPECT_EQ(parse_adapter_use("a/b:-2").place, "a/b");
  for (const char* wrong : {"a:b", ":1", "a:", "a:1x", "a:inf"})
    EXPECT_THROW(parse_adapter_use(wrong), Error) << wrong;
}

}  // namespace
}  // namespace qwb
