// The safetensors reader against a file of the Python package and against liars; the writer against
// the reader.
#include "formats/safetensors/safetensors.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "lib/base/json.h"
#include "lib/base/rng.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;

const Path kGolden = Path(QWB_SOURCE_DIR) / "tests/golden/formats";

std::string file_text(const std::string& header, const std::string& data) {
  std::string text(8, '\0');
  store(text.data(), static_cast<uint64_t>(header.size()));
  return text + header + data;
}

SafetensorsHeader parse(const std::string& text) {
  return parse_safetensors_header(as_bytes(text), "file");
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
         "],\"data_offsets\":[" + offsets + "]}";
}

// The file that safetensors.numpy wrote (tests/golden/make_formats.py) with values that the script
// derives from the same formula.
TEST(Safetensors, ReadsThePythonPackagesFile) {
  const auto file = SafetensorsFile::open(kGolden / "python.safetensors");
  const Json expected = parse_json(read_text(kGolden / "python.json"), "python.json");
  EXPECT_EQ(file.header().metadata.at("format"), "pt");
  EXPECT_EQ(file.header().metadata.at("grüße"), "\"quoted\"\n");
  ASSERT_EQ(file.header().tensors.size(), expected.size());
  for (const auto& [name, tensor] : expected.items()) {
    const auto view = file.find(name);
    ASSERT_TRUE(view.has_value()) << name;
    EXPECT_EQ(dtype_name(view->dtype), tensor.at("dtype").get<std::string>());
    EXPECT_EQ(view->shape, tensor.at("shape").get<Shape>());
    EXPECT_EQ(hash_hex(view->bytes), tensor.at("xxh128").get<std::string>()) << name;
  }
}

// Same tensors in, same file out: the writer's order, padding and header text are those of the
// package.
TEST(Safetensors, WritesTheSameBytesAsThePythonPackage) {
  TemporaryFolder folder;
  const auto file = SafetensorsFile::open(kGolden / "python-plain.safetensors");
  std::vector<PartSpec> specs;
  for (const auto& tensor : file.header().tensors)
    specs.push_back({tensor.name, tensor.dtype, tensor.shape});
  std::reverse(specs.begin(), specs.end());
  SafetensorsWriter writer(folder.path() / "ours", specs, file.header().metadata);
  for (const auto& spec : specs) writer.put(spec.name, file.find(spec.name)->bytes);
  writer.finish();
  EXPECT_EQ(read_text(folder.path() / "ours"), read_text(kGolden / "python-plain.safetensors"));
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  EXPECT_TRUE(parse(file_text("{}", "")).tensors.empty());
  EXPECT_TRUE(parse(file_text("{}      ", "")).tensors.empty());
  const auto scalar = parse(file_text("{" + entry("s", "F32", "", "0,4") + "}", "1234"));
  EXPECT_EQ(scalar.tensors.at(0).shape, Shape{});
  const auto zero = parse(file_text("{" + entry("a", "F32", "0,9223372036854775807", "0,0") + "," +
                                        entry("b", "U8", "1", "0,1") + "}",
                                    "x"));
  EXPECT_EQ(zero.tensors.size(), 2u);
  const auto order = parse(file_text(
      "{" + entry("b", "U8", "1", "1,2") + "," + entry("a", "U8", "1", "0,1") + "}", "xy"));
  EXPECT_EQ(order.tensors.at(0).name, "a");
}

TEST(Safetensors, RefusesLies) {
  const std::string one = entry("t", "U8", "2", "0,2");
  const struct {
    std::string text;
    const char* said;
  } cases[] = {
      {"", "is empty"},
      {"1234567", "7 bytes"},
      {std::string("\0\0\0\0\0\0\0\x40", 8) + "{}", "claims"},  // 2^62
      {std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8) + "{}", "claims"},
      {std::string("\x01\xe1\xf5\x05\0\0\0\0", 8) + "{}", "claims"},  // 100,000,001
      {std::string("\x03\0\0\0\0\0\0\0", 8) + "{}", "past the end"},
      {std::string("\0\0\0\0\0\0\0\0", 8), "begin with '{'"},
      {file_text(" {}", ""), "begin with '{'"},
      {file_text("[]", ""), "begin with '{'"},
      {file_text("{", ""), "not valid JSON"},
      {file_text("{}x", ""), "not valid JSON"},
      {file_text(std::string("{}\0", 3), ""), "not valid JSON"},
      {file_text("{\"\xff\":1}", ""), "not valid JSON"},
      {file_text("{" + one + "}", "x"), "past the end of the file"},
      {file_text("{" + one + "}", "xyz"), "1 bytes after the last tensor"},
      {file_text("{" + one + "," + entry("u", "U8", "2", "1,3") + "}", "xyz"), "overlaps"},
      {file_text("{" + one + "," + entry("u", "U8", "2", "3,5") + "}", "vwxyz"), "hole of 1 bytes"},
      {file_text("{" + entry("t", "U8", "2", "1,3") + "}", "xyz"), "hole of 1 bytes"},
      {file_text("{" + one + "," + one + "}", "xy"), "appears twice"},
      {file_text("{" + one + "," + entry("t", "U8", "1", "2,3") + "}", "xyz"), "appears twice"},
      {file_text("{" + entry("t", "U8", "3", "0,2") + "}", "xy"), "needs 3"},
      {file_text("{" + entry("t", "U8", "0", "2,0") + "}", "xy"), "backwards"},
      {file_text("{" + entry("t", "U8", "9223372036854775808", "0,2") + "}", "xy"), "63 bits"},
      {file_text("{" + entry("t", "U8", "4611686018427387904,2", "0,2") + "}", "xy"), "63 bits"},
      {file_text("{" + entry("t", "F64", "2305843009213693952", "0,2") + "}", "xy"), "63 bits"},
      {file_text("{" + entry("t", "U8", "2", "0,18446744073709551617") + "}", "xy"),
       "plain integer"},
      {file_text("{" + entry("t", "U8", "-2", "0,2") + "}", "xy"), "negative"},
      {file_text("{" + entry("t", "U8", "2.0", "0,2") + "}", "xy"), "plain integer"},
      {file_text("{" + entry("t", "U8", "2e0", "0,2") + "}", "xy"), "plain integer"},
      {file_text("{" + entry("t", "U8", "[2]", "0,2") + "}", "xy"), "array"},
      {file_text("{" + entry("t", "U8", "\"2\"", "0,2") + "}", "xy"), "string"},
      {file_text("{" + entry("t", "U8", "2", "0") + "}", "xy"), "two numbers"},
      {file_text("{" + entry("t", "U8", "2", "0,2,3") + "}", "xy"), "two numbers"},
      {file_text("{\"t\":{\"dtype\":\"U8\",\"shape\":[2]}}", "xy"), "missing"},
      {file_text("{\"t\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
                 "xy"),
       "appears twice"},
      {file_text("{\"t\":{\"strides\":[1],\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
                 "xy"),
       "unknown field"},
      {file_text("{\"t\":7}", ""), "number"},
      {file_text("{\"t\":null}", ""), "null"},
      {file_text("{\"t\":{\"dtype\":{}}}", ""), "object"},
      {file_text("{\"__metadata__\":{\"a\":1}}", ""), "number"},
      {file_text("{\"__metadata__\":{\"a\":{}}}", ""), "object"},
      {file_text("{\"__metadata__\":{\"a\":\"b\",\"a\":\"b\"}}", ""), "appears twice"},
      {file_text("{\"__metadata__\":{},\"__metadata__\":{}}", ""), "appears twice"},
      {file_text("{\"__metadata__\":[]}", ""), "array"},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.text.substr(0, 120));
    expect_error(ErrorKind::failed, test.said, [&] { parse(test.text); });
  }
  std::string many = "1";
  for (int i = 0; i < 64; ++i) many += ",1";
  expect_error(ErrorKind::failed, "dimensions",
               [&] { parse(file_text("{" + entry("t", "U8", many, "0,1") + "}", "x")); });
  expect_error(ErrorKind::unsupported, "F8_E5M2",
               [&] { parse(file_text("{" + entry("t", "F8_E5M2", "2", "0,2") + "}", "xy")); });
  const std::string deep = "{\"a\":" + std::string(1'000'000, '[');
  expect_error(ErrorKind::failed, "array", [&] { parse(file_text(deep, "")); });
}

// Every proper prefix of a good file is refused, and so is every file with one byte more.
TEST(Safetensors, RefusesEveryTruncation) {
  const std::string good = read_text(kGolden / "python-plain.safetensors");
  EXPECT_NO_THROW(parse(good));
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_THROW(parse(good.substr(0, size)), Error) << size;
  EXPECT_THROW(parse(good + "x"), Error);
}

TEST(Safetensors, RandomFilesComeBack) {
  Rng rng(5);
  const DType types[] = {DType::f64, DType::f32, DType::f16,     DType::bf16,    DType::i64,
                         DType::i32, DType::i16, DType::i8,      DType::u64,     DType::u32,
                         DType::u16, DType::u8,  DType::boolean, DType::f8_e4m3, DType::f8_e8m0};
  for (int round = 0; round < 30; ++round) {
    TemporaryFolder folder;
    std::vector<PartSpec> specs;
    std::map<std::string, std::string> contents;
    for (uint64_t t = rng.below(12); t > 0; --t) {
      Shape shape(rng.below(5));
      for (auto& extent : shape) extent = static_cast<int64_t>(rng.below(7));
      const PartSpec spec{"täg\"" + std::to_string(t), types[rng.below(15)], shape};
      std::string bytes(static_cast<size_t>(element_count(shape) * dtype_size(spec.dtype)), '\0');
      for (char& byte : bytes) byte = static_cast<char>(rng.next());
      contents[spec.name] = bytes;
      specs.push_back(spec);
    }
    SafetensorsWriter writer(folder.path() / "f", specs, {{"round", std::to_string(round)}});
    std::vector<std::thread> threads;  // pieces in any order, from any thread
    for (const auto& spec : specs) {
      const std::string& bytes = contents[spec.name];
      const size_t cut = bytes.empty() ? 0 : rng.below(bytes.size());
      threads.emplace_back([&writer, &spec, &bytes, cut] {
        writer.put_part(spec.name, static_cast<int64_t>(cut), as_bytes(bytes).subspan(cut));
        writer.put_part(spec.name, 0, as_bytes(bytes).first(cut));
      });
    }
    for (auto& thread : threads) thread.join();
    writer.finish();
    const auto file = SafetensorsFile::open(folder.path() / "f");
    EXPECT_EQ(static_cast<int64_t>(fs::file_size(folder.path() / "f")), writer.file_size());
    EXPECT_EQ(file.header().data_begin % 8, 0);
    EXPECT_EQ(file.header().metadata.at("format"), "pt");
    ASSERT_EQ(file.header().tensors.size(), specs.size());
    for (const auto& spec : specs) {
      const auto view = file.find(spec.name);
      ASSERT_TRUE(view.has_value());
      EXPECT_EQ(view->dtype, spec.dtype);
      EXPECT_EQ(view->shape, spec.shape);
      EXPECT_EQ(as_text(view->bytes), contents[spec.name]);
    }
  }
}

TEST(SafetensorsWriter, EveryByteExactlyOnce) {
  TemporaryFolder folder;
  const std::string ten = "0123456789";
  const std::vector<PartSpec> specs = {{"t", DType::u8, {10}}};
  const auto with = [&](const auto& action) {
    SafetensorsWriter writer(folder.path() / "f", specs);
    action(writer);
    writer.finish();
  };
  const auto part = [&](SafetensorsWriter& w, int64_t at, size_t count) {
    w.put_part("t", at, as_bytes(ten).first(count));
  };
  expect_error(ErrorKind::usage, "not all bytes", [&] { with([](auto&) {}); });
  EXPECT_FALSE(fs::exists(folder.path() / "f")) << "an unfinished file is removed";
  expect_error(ErrorKind::usage, "not all bytes",
               [&] { with([&](auto& w) { part(w, 0, 4), part(w, 5, 5); }); });
  expect_error(ErrorKind::usage, "twice",
               [&] { with([&](auto& w) { part(w, 0, 6), part(w, 5, 5); }); });
  expect_error(ErrorKind::usage, "twice",
               [&] { with([&](auto& w) { part(w, 4, 6), part(w, 0, 5); }); });
  expect_error(ErrorKind::usage, "twice",
               [&] { with([&](auto& w) { part(w, 0, 10), part(w, 3, 1); }); });
  expect_error(ErrorKind::usage, "beyond", [&] { with([&](auto& w) { part(w, 1, 10); }); });
  expect_error(ErrorKind::usage, "beyond", [&] { with([&](auto& w) { part(w, -1, 2); }); });
  expect_error(ErrorKind::usage, "declared",
               [&] { with([&](auto& w) { w.put("t", as_bytes("x")); }); });
  expect_error(ErrorKind::usage, "not declared",
               [&] { with([&](auto& w) { w.put("u", as_bytes("x")); }); });
  expect_error(ErrorKind::usage, "twice", [&] {
    SafetensorsWriter(folder.path() / "f", {specs[0], specs[0]});
  });
  expect_error(ErrorKind::usage, "reserved", [&] {
    SafetensorsWriter(folder.path() / "f", {{"__metadata__", DType::u8, {1}}});
  });
  expect_error(ErrorKind::usage, "UTF-8", [&] {
    SafetensorsWriter(folder.path() / "f", {{"\xff", DType::u8, {1}}});
  });
  with([&](auto& w) { part(w, 5, 5), part(w, 0, 2), part(w, 3, 2), part(w, 2, 1); });
  EXPECT_TRUE(fs::exists(folder.path() / "f"));
  expect_error(ErrorKind::failed, "cannot create", [&] { with([](auto&) {}); });
  EXPECT_TRUE(fs::exists(folder.path() / "f")) << "somebody else's file stays";
}

// In a child, because the limit cannot be lifted again.
TEST(SafetensorsWriter, NoRoomIsAnErrorBeforeTheWork) {
  TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 20, 1 << 20};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      SafetensorsWriter(folder.path() / "f", {{"t", DType::u8, {2 << 20}}});
    } catch (const Error& error) {
      ::_exit(std::string(error.what()).find("reserve") != std::string::npos ? 7 : 8);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace qwb
