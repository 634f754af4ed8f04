// Whole GGUF models whose settings, vocabularies or layout lie: refused with an error or read,
// never more.
#include <gtest/gtest.h>

#include <algorithm>
#include <climits>

#include "formats/companions.h"
#include "formats/gguf/file.h"
#include "formats/gguf/model.h"
#include "formats/registry.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/model/config.h"
#include "tests/formats/files_helper.h"
#include "tests/formats/gguf_file_helper.h"

namespace qwb {
namespace {

const Path kGgufFiles = Path(QWB_SOURCE_DIR) / "tests/golden/gguf";

void read_all(const Path& path, const std::string& what) {
  try {
    const OpenModel model = open_model(path);
    for (const std::string& name : model.source->names()) model.source->find(name);
    for (const std::string& module : model.source->quantized_modules()) {
      const Weight weight = *model.source->quantized(module);
      FloatBuffer values(weight.out * weight.in);
      dequantize(weight, values.data());
    }
    const Tokenizer tokenizer = open_tokenizer(model);
    tokenizer.decode(tokenizer.encode("a b\n<|end|> \xc3\xbc", true), true);
  } catch (const Error& error) {
    EXPECT_NE(error.kind(), ErrorKind::interrupted) << what << ": " << error.what();
  }
}

// Reads the file with other metadata and the same tensors. Not finished: it would only be flushed
// to the disk.
void read_rewritten(const GgufFile& file, const GgufMetadata& metadata, const Path& path,
                    const std::string& what) {
  std::vector<GgufTensor> tensors;
  for (const std::string& name : file.tensor_names()) tensors.push_back(*file.find(name));
  GgufWriter writer(path, metadata, tensors);
  for (size_t i = 0; i < tensors.size(); ++i)
    writer.put(i, 0, file.bytes(*file.find(tensors[i].name)));
  read_all(path, what);
}

GgufValue number_of(GgufKind kind, uint64_t bits) {
  GgufValue value;
  value.kind = kind;
  value.data.assign(reinterpret_cast<const char*>(&bits), static_cast<size_t>(gguf_size(kind)));
  return value;
}

std::vector<GgufValue> hostile_gguf_values(const GgufValue& original) {
  std::vector<GgufValue> values = {number_of(GgufKind::u32, 0),
                                   number_of(GgufKind::u32, 1),
                                   number_of(GgufKind::u32, UINT32_MAX),
                                   number_of(GgufKind::i32, UINT32_MAX),
                                   number_of(GgufKind::u64, 1ull << 60),
                                   number_of(GgufKind::u64, UINT64_MAX),
                                   number_of(GgufKind::i64, 1ull << 63),
                                   number_of(GgufKind::f32, 0x7fc00000u),
                                   number_of(GgufKind::f32, 0x7f800000u),
                                   number_of(GgufKind::f64, 0xffefffffffffffffull),
                                   number_of(GgufKind::boolean, 1),
                                   GgufValue::of_string(""),
                                   GgufValue::of_string("\xff\xfe"),
                                   GgufValue::of_string(std::string(1 << 20, '{')),
                                   GgufValue::of_strings({}),
                                   GgufValue::of_strings({"", "", "a"}),
                                   GgufValue::of_floats({}),
                                   GgufValue::of_i32s({INT32_MIN, -1, INT32_MAX})};
  if (!original.is_array) return values;
  GgufValue shorter = original;
  if (!shorter.strings.empty()) shorter.strings.pop_back();
  if (!shorter.data.empty())
    shorter.data.resize(shorter.data.size() - static_cast<size_t>(gguf_size(shorter.kind)));
  values.push_back(shorter);
  GgufValue same = original;  // every element the first
  for (std::string& text : same.strings) text = original.strings.front();
  for (size_t i = 0; i < same.data.size(); ++i)
    same.data[i] = original.data[i % static_cast<size_t>(gguf_size(original.kind))];
  values.push_back(same);
  GgufValue extreme = original;
  for (char& byte : extreme.data) byte = '\x7f';
  for (std::string& text : extreme.strings) text += " " + text;
  values.push_back(extreme);
  return values;
}

class GgufHostile : public testing::TestWithParam<std::string> {};

// Every key in turn left out, and given values of every kind.
TEST_P(GgufHostile, EveryKeyLies) {
  const TemporaryFolder folder;
  const Path path = folder.path() / "m.gguf";
  const GgufFile file = GgufFile::open(kGgufFiles / GetParam());
  const auto& entries = file.metadata().entries();
  ASSERT_GE(entries.size(), 5u);
  for (size_t lying = 0; lying < entries.size(); ++lying) {
    std::vector<std::optional<GgufValue>> values = {std::nullopt};
    for (GgufValue& value : hostile_gguf_values(entries[lying].second))
      values.emplace_back(std::move(value));
    for (size_t v = 0; v < values.size(); ++v) {
      GgufMetadata metadata;
      for (size_t i = 0; i < entries.size(); ++i) {
        if (i != lying) metadata.add(entries[i].first, entries[i].second);
        if (i == lying && values[v]) metadata.add(entries[i].first, *values[v]);
      }
      read_rewritten(file, metadata, path, entries[lying].first + ", value " + std::to_string(v));
    }
  }
}

// Cut before, at and after the end of the header and of every tensor.
TEST_P(GgufHostile, TruncatedAtEveryBoundary) {
  const TemporaryFolder folder;
  const Path path = folder.path() / "m.gguf";
  const std::string whole = read_text(kGgufFiles / GetParam());
  const GgufHeader header = parse_gguf_header(as_bytes(whole), "test");
  std::vector<int64_t> ends = {4, 8, 16, 24, header.data_begin};
  int64_t end = header.data_begin;
  for (const GgufTensor& tensor : header.tensors) {
    end = header.data_begin + tensor.begin + tensor.bytes;
    ends.push_back(end);
  }
  for (const int64_t at : ends) {
    for (const int64_t size : {at - 1, at, at + 1}) {
      if (size >= end) continue;
      write(path, whole.substr(0, static_cast<size_t>(size)));
      expect_error(ErrorKind::failed, "", [&] { open_model(path); });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GgufHostile,
                         testing::Values("qwen3.gguf", "gpt2.gguf", "tokens-gpt2.gguf",
                                         "tokens-llama.gguf"),
                         [](const auto& file) {
                           std::string name = file.param.substr(0, file.param.find('.'));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Lists of the vocabulary that are shorter than it, or hold no pairs: named, never read beyond
// their end.
TEST(GgufVocabulary, ListsThatDoNotFit) {
  const TemporaryFolder folder;
  const Path path = folder.path() / "m.gguf";
  const auto refused = [&](const char* name, const std::string& key, const GgufValue& value,
                           const char* what) {
    const GgufFile file = GgufFile::open(kGgufFiles / name);
    GgufMetadata metadata;
    for (const auto& [known, original] : file.metadata().entries())
      metadata.add(known, known == key ? value : original);
    metadata.add(key, value);  // where the file has none
    std::vector<GgufTensor> tensors;
    for (const std::string& tensor : file.tensor_names()) tensors.push_back(*file.find(tensor));
    GgufWriter writer(path, metadata, tensors);
    for (size_t i = 0; i < tensors.size(); ++i)
      writer.put(i, 0, file.bytes(*file.find(tensors[i].name)));
    expect_error(ErrorKind::failed, what, [&] {
      const auto model = GgufModel::open(path);  // these files have a vocabulary and no layers
      open_tokenizer({model, model->config(), path, "gguf", nullptr, 0});
    });
  };
  for (const char* name : {"tokens-gpt2.gguf", "tokens-llama.gguf"}) {
    const size_t count =
        GgufFile::open(kGgufFiles / name).metadata().find("tokenizer.ggml.tokens")->strings.size();
    refused(name, "tokenizer.ggml.token_type",
            GgufValue::of_i32s(std::vector<int32_t>(count - 1, 1)), "no number for every token");
    refused(name, "tokenizer.ggml.scores", GgufValue::of_floats(std::vector<float>(count - 1)),
            "no number for every token");
  }
  for (const char* merge : {"ab", "", " ab"})
    refused("tokens-gpt2.gguf", "tokenizer.ggml.merges", GgufValue::of_strings({merge}),
            "is not two tokens");
}

// Rows of q and k that are no whole heads cannot be put back in their order.
TEST(GgufHeads, RowsThatAreNoWholeHeads) {
  const TemporaryFolder folder;
  const GgufFile file = GgufFile::open(kGgufFiles / "llama_llama3.gguf");
  for (const std::string name : {"blk.0.attn_q.weight", "blk.0.attn_k.weight"}) {
    std::vector<GgufTensor> tensors;
    for (const std::string& tensor : file.tensor_names()) {
      tensors.push_back(*file.find(tensor));
      if (tensor == name) --tensors.back().shape[0];
    }
    const Path path = folder.path() / "m.gguf";
    GgufWriter writer(path, file.metadata(), tensors);
    for (size_t i = 0; i < tensors.size(); ++i)
      writer.put(i, 0,
                 file.bytes(*file.find(tensors[i].name))
                     .first(static_cast<size_t>(writer.tensors()[i].bytes)));
    expect_error(ErrorKind::failed, "'" + name + "' is [", [&] { open_model(path); });
  }
}

// Tensors packed for one alignment in a file that says another.
TEST(GgufAlignment, IsTheOneThatTheFileNames) {
  const auto file = [](uint32_t said, size_t packed) {
    RawGguf raw;
    raw.head(2, 1).u32_key("general.alignment", said);
    raw.tensor("a", 4, 1, 0, 0).tensor("b", 4, 1, 0, static_cast<int64_t>(packed)).pad(packed);
    return raw.zeros(2 * packed).bytes();
  };
  const auto parse = [](const std::string& bytes) {
    return parse_gguf_header(as_bytes(bytes), "test");
  };
  for (const uint32_t alignment : {16u, 32u, 64u, 4096u}) {
    EXPECT_EQ(parse(file(alignment, alignment)).tensors[1].begin, alignment);
    if (alignment != 32)
      expect_error(ErrorKind::failed, "not at", [&] { parse(file(alignment, 32)); });
  }
}

}  // namespace
}  // namespace qwb
