// Files of torch.save: the tensors of both forms are those that torch reads, and everything that
// could be more than a state dict is refused by name (the tricks of published holes among it).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "formats/hf/checkpoint.h"
#include "formats/pickle/torch_file.h"
#include "formats/registry.h"
#include "formats/tensor_file.h"
#include "tests/base/context_helper.h"
#include "tests/formats/files_helper.h"
#include "tests/formats/torch_bytes_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;
using namespace torch_bytes;

const Path kPickles = Path(QWB_SOURCE_DIR) / "tests/golden/pickle";

void parse_torch(const std::string& file) {
  parse_torch_file(as_bytes(file), "file");
}
// A state dict of one tensor "w", in an archive.
std::vector<Member> good_members(const std::string& body, size_t bytes) {
  return {{"m/data.pkl", pickle(body)},
          {"m/byteorder", "little"},
          {"m/data/0", std::string(bytes, 'x')}};
}
std::string one(const std::string& value) {
  return dict(text("w") + value);
}
const std::string kGood = one(tensor(storage(6), 0, {2, 3}, {3, 1}));

void expect_same_tensors(const TensorFile& file, const SafetensorsFile& expected) {
  for (size_t i = 0; i < file.count(); ++i) {
    const PartSpec spec = file.spec(i);
    SCOPED_TRACE(spec.name);
    const auto view = expected.find(spec.name);
    ASSERT_TRUE(view.has_value());
    EXPECT_EQ(spec.dtype, view->dtype);
    EXPECT_EQ(spec.shape, view->shape);
    EXPECT_EQ(as_text(file.view(i).bytes), as_text(view->bytes));
  }
}

TEST(Pickle, BothFormsGiveWhatTorchReads) {
  const auto expected = SafetensorsFile::open(kPickles / "expected.safetensors");
  const auto zip = open_torch_file(kPickles / "zip.bin");
  const auto stream_file = open_torch_file(kPickles / "stream.bin");
  EXPECT_EQ(zip->count(), expected.header().tensors.size());
  EXPECT_EQ(stream_file->count(), expected.header().tensors.size() - 3);
  expect_same_tensors(*zip, expected);
  expect_same_tensors(*stream_file, expected);
  EXPECT_THAT(stream_file->notes(), testing::ElementsAre(testing::HasSubstr("'state_dict'")));
}

// Contiguous tensors are views of the mapped file; the two names of one tensor share its bytes.
TEST(Pickle, StoragesAreMappedAndShared) {
  const auto file = open_torch_file(kPickles / "zip.bin");
  std::map<std::string, const std::byte*> at;
  for (size_t i = 0; i < file->count(); ++i) at[file->spec(i).name] = file->view(i).bytes.data();
  const Bytes all = file->mapped().bytes();
  EXPECT_GE(at["base"], all.data());
  EXPECT_LT(at["base"], all.data() + all.size());
  EXPECT_EQ(at["base"], at["same"]);
  EXPECT_EQ(at["rows"], at["base"] + 2 * 8 * 4);
}

TEST(Pickle, AFolderOfShardsIsThatOfSafetensors) {
  TemporaryFolder folder;
  fs::copy(kPickles / "sharded/config.json", folder.path());
  fs::copy(kPickles / "sharded/expected.safetensors", folder.path() / "model.safetensors");
  const OpenModel safe = open_model(folder.path());
  const OpenModel shards = open_model(kPickles / "sharded");
  EXPECT_EQ(shards.content_hash({}, {}), safe.content_hash({}, {}));
  EXPECT_EQ(shards.source->names(), safe.source->names());
  EXPECT_EQ(shards.source->stored_tensors().front().file, "pytorch_model-00001-of-00002.bin");
  // Where both are, safetensors are taken, as transformers does.
  write(folder.path() / "pytorch_model.bin", "x");
  EXPECT_NO_THROW(open_model(folder.path()));
  fs::remove(folder.path() / "model.safetensors");
  expect_error(ErrorKind::failed, "not what torch.save writes", [&] { open_model(folder.path()); });
}

TEST(Pickle, OnlyWhatAStateDictNeedsIsRead) {
  EXPECT_NO_THROW(parse_torch(stream_of(kGood, 6, 24)));
  const struct {
    const char* said;
    std::string body;
  } cases[] = {
      // The classic, by every way to call; CVE-2025-1716: pip instead of os.
      {"'os.system'", global("os", "system") + tuple(text("id")) + "R"},
      {"'posix.system'", one(global("posix", "system") + tuple(text("id")) + "R")},
      {"'pip.main'", global("pip", "main") + tuple("](" + text("install") + "e") + "R"},
      {"'builtins.eval'", global("builtins", "eval") + tuple(text("1")) + "\x81"},
      // CVE-2025-10157: a member of an innocent name; dotted names behind an allowed module.
      {"'torch._utils._rebuild_tensor_v2.__globals__'",
       global("torch._utils", "_rebuild_tensor_v2.__globals__")},
      {"'collections.OrderedDict\r'", global("collections", "OrderedDict\r")},
      {"'torch.storage._load_from_bytes'", global("torch.storage", "_load_from_bytes")},
      {"0x93", text("os") + text("system") + "\x93"},
      {"0x69 ('i')", "(ios\nsystem\n"},
      {"0x6f ('o')", "(" + text("os") + "o"},
      {"0x50 ('P')", "Pkey\n"},
      {"0x82", std::string("\x82\x01")},
      {"protocol 4", std::string("\x80\x04")},
      {"calls a text", text("os.system") + ")R"},
      {"calls 'torch.FloatStorage'", global("torch", "FloatStorage") + ")R"},
      {"makes an object", global("torch", "FloatStorage") + ")\x81"},
      {"sets attributes of a dict", dict("") + dict(text("__class__") + text("x")) + "b"},
      {"sets attributes of a text", text("x") + dict(text("_metadata") + dict("")) + "b"},
      // CVE-2026-24747: items for what holds none.
      {"puts items into a tuple", ")" + text("k") + text("v") + "s"},
      {"puts items into a text", text("x") + text("k") + text("v") + "s"},
      {"puts items into a list", "]" + text("k") + text("v") + "s"},
      {"puts items into a dict", "}" + text("k") + "a"},
      {"persistent object", text("storage") + "Q"},
      {"persistent object",
       tuple(text("module") + text("a") + text("b") + text("c") + "K\x01") + "Q"},
      {"a parameter of something else",
       global("torch._utils", "_rebuild_parameter") + tuple(text("x") + "\x88" + hooks()) + "R"},
      {"holds a list", "]"},
      {"is a number", one("K\x01")},
      {"'torch.ComplexFloatStorage'", one(tensor(storage(6, "ComplexFloatStorage"), 0, {2}, {1}))},
      {"metadata", one(tensor(storage(6), 0, {2}, {1}, dict(text("neg") + "\x88")))},
      {"expanded", one(tensor(storage(6), 0, {1 << 30, 1 << 30}, {0, 0}))},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.said);
    expect_error(ErrorKind::unsupported, test.said,
                 [&] { parse_torch(stream_of(test.body, 6, 24)); });
  }
}

TEST(Pickle, DamageIsNamed) {
  const struct {
    const char* said;
    std::string file;
  } cases[] = {
      {"its stack is empty", stream("a")},
      {"its stack is empty", stream("(a")},
      {"a mark is missing", stream("t")},
      {"left over", stream("NN")},
      {"never kept", stream("h\x07")},
      {"no value", stream("}(" + text("k") + "u")},
      {"ends inside", stream("X\xff\xff\xff\x7f")},
      {"more than 64 bits", stream("\x8a\x09"
                                   "123456789")},
      {"past the end of its storage", stream_of(one(tensor(storage(6), 1, {2, 3}, {3, 1})), 6, 24)},
      {"past the end of its storage", stream_of(one(tensor(storage(6), 0, {2}, {6})), 6, 24)},
      {"overflows", stream_of(one(tensor(storage(6), 0, std::vector<int32_t>(9, 1 << 30),
                                         std::vector<int32_t>(9, 1))),
                              6, 24)},
      {"one stride a dimension", stream_of(one(tensor(storage(6), 0, {2, 3}, {3})), 6, 24)},
      {"for a size", stream_of(one(tensor(storage(6), -1, {2}, {1})), 6, 24)},
      {"for a size", stream_of(one(tensor(storage(6), 0, {2}, {-1})), 6, 24)},
      {"appears twice", stream_of(dict(text("w") + tensor(storage(6), 0, {2}, {1}) + text("w") +
                                       tensor(storage(6), 0, {2}, {1})),
                                  6, 24)},
      // CVE-2026-24747: two descriptions of one storage.
      {"describes differently", stream_of(dict(text("v") + tensor(storage(6), 0, {2}, {1}) +
                                               text("w") + tensor(storage(9), 0, {9}, {1})),
                                          6, 24)},
      {"describes differently",
       stream_of(dict(text("v") + tensor(storage(6), 0, {2}, {1}) + text("w") +
                      tensor(storage(6, "IntStorage"), 0, {6}, {1})),
                 6, 24)},
      {"another size", stream_of(kGood, 7, 28)},
      {"another size", stream_of(kGood, 6, 20)},
      {"bytes follow", stream_of(kGood, 6, 25)},
      {"a storage is missing", stream(kGood)},
      {"does not describe, or twice", stream(kGood, "](" + text("0") + text("0") + "e",
                                             number(int64_t{6}) + std::string(24, 'x') +
                                                 number(int64_t{6}) + std::string(24, 'x'))},
      {"does not describe, or twice", stream("}", "](" + text("0") + "e", std::string(8, '\0'))},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.said);
    expect_error(ErrorKind::failed, test.said, [&] { parse_torch(test.file); });
  }
}

// What one reader of archives takes for something else than another: CVE-2025-1944 (names), -1945
// (flags), -10156 (sums), and pickles beside the pickle (-1889).
TEST(Pickle, ArchivesHaveOneMeaning) {
  const auto with = [](const auto& change) {
    auto members = good_members(kGood, 24);
    change(members);
    return archive(members);
  };
  EXPECT_NO_THROW(parse_torch(with([](auto&) {})));
  const std::string good = with([](auto&) {});
  const struct {
    ErrorKind kind;
    const char* said;
    std::string file;
  } cases[] = {
      {ErrorKind::failed, "two headers", with([](auto& m) { m[0].local_name = "m/data.pkx"; })},
      {ErrorKind::unsupported, "flags 1", with([](auto& m) { m[2].flags = 1; })},
      {ErrorKind::unsupported, "flags 32", with([](auto& m) { m[2].flags = 32; })},
      {ErrorKind::unsupported, "method 8", with([](auto& m) { m[0].method = 8; })},
      {ErrorKind::failed, "do not have their sum", with([](auto& m) { m[0].sum_error = 1; })},
      {ErrorKind::unsupported, "2 pickles", with([](auto& m) {
         m.push_back({"n/data.pkl", pickle(kGood)});
       })},
      {ErrorKind::failed, "appears twice", with([](auto& m) { m.push_back(m[2]); })},
      {ErrorKind::failed, "bytes follow the end of its pickle",
       with([](auto& m) { m[0].content += pickle(global("os", "system")); })},
      {ErrorKind::unsupported, "TorchScript", with([](auto& m) {
         m.push_back({"m/code/a.py", "x"});
       })},
      {ErrorKind::unsupported, "TorchScript", with([](auto& m) {
         m.push_back({"m/constants.pkl", "x"});
       })},
      {ErrorKind::unsupported, "order 'big'", with([](auto& m) { m[1].content = "big"; })},
      {ErrorKind::unsupported, "without the pickle", with([](auto& m) { m[0].name = "m/x.pkl"; })},
      {ErrorKind::failed, "is missing", with([](auto& m) { m[2].name = "m/data/1"; })},
      {ErrorKind::failed, "smaller than its description",
       with([](auto& m) { m[2].content.pop_back(); })},
      {ErrorKind::failed, "something follows", good + "x"},
      {ErrorKind::failed, "two ends tell",
       [] {
         std::string file = read_text(kPickles / "zip.bin");
         ++file[file.size() - 12];  // members, of the 32-bit end
         return file;
       }()},
      {ErrorKind::unsupported, "tar", std::string(257, '\0') + "ustar" + std::string(300, '\0')},
      {ErrorKind::unsupported, "is a pickle", pickle(global("os", "system"))},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.said);
    expect_error(test.kind, test.said, [&] { parse_torch(test.file); });
  }
}

// Sums of storages are checked when their tensors are first asked for, and every time after.
TEST(Pickle, ADamagedStorageIsNoticed) {
  TemporaryFolder folder;
  auto members = good_members(kGood, 24);
  members[2].sum_error = 1;
  write(folder.path() / "pytorch_model.bin", archive(members));
  const auto file = open_torch_file(folder.path() / "pytorch_model.bin");
  for (int i = 0; i < 2; ++i) expect_error(ErrorKind::failed, "'m/data/0'", [&] { file->view(0); });
}

// A trainer's file: the storages of its optimizer stand among those of the weights.
TEST(Pickle, StoragesThatNobodyReadsArePassed) {
  const std::string object = dict(
      text("optimizer") + dict(text("m") + tensor(storage(3, "DoubleStorage", "1"), 0, {3}, {1})) +
      text("state_dict") + one(tensor(storage(6), 0, {2, 3}, {3, 1})));
  const std::string keys = "](" + text("1") + text("0") + "e";
  const std::string own = number(int64_t{3}) + std::string(24, 'm');
  const std::string read = number(int64_t{6}) + std::string(24, 'w');
  const std::string file = stream(object, keys, own + read);
  const TorchContents contents = parse_torch_file(as_bytes(file), "file");
  ASSERT_EQ(contents.places.size(), 1U);
  EXPECT_EQ(file.substr(static_cast<size_t>(contents.places[0].begin)), std::string(24, 'w'));
  expect_error(ErrorKind::failed, "overflows",
               [&] { parse_torch(stream(object, keys, number(int64_t{-3}) + own + read)); });
  expect_error(ErrorKind::failed, "is missing",
               [&] { parse_torch(stream(object, "](" + text("1") + "e", own)); });
}

// The stride of a dimension of one element takes no part, whatever it is.
TEST(Pickle, StridesWithoutAStepMeanNothing) {
  const std::string largest = "\x8a\x08" + number(std::numeric_limits<int64_t>::max());
  const std::string strides = tuple(integer(1) + largest + integer(2));
  const std::string file = stream_of(
      one(global("torch._utils", "_rebuild_tensor_v2") +
          tuple(storage(6) + integer(0) + sizes({2, 1, 3}) + strides + "\x89" + hooks()) + "R"),
      6, 24);
  const TorchContents contents = parse_torch_file(as_bytes(file), "file");
  const std::string bytes =
      "0000111122223333"
      "44445555";
  EXPECT_EQ(as_text(gather(contents.dict.tensors[0], as_bytes(bytes)).view().bytes),
            "000022224444111133335555");
}

// Values in values are places in a list: no depth, and no circle, takes memory of the stack.
TEST(Pickle, DepthAndCirclesAreRefused) {
  const std::string deep = "N" + std::string(300000, '\x85');
  expect_error(ErrorKind::unsupported, "is a tuple", [&] { parse_torch(stream(one(deep))); });
  expect_error(ErrorKind::unsupported, "is a dict",
               [&] { parse_torch(stream("}q\x01(" + text("w") + "h\x01u")); });
}

// Every proper prefix of a good file is refused, and so is every file with one byte more.
TEST(Pickle, RefusesEveryTruncation) {
  for (const std::string& file : {stream_of(kGood, 6, 24), archive(good_members(kGood, 24))}) {
    EXPECT_NO_THROW(parse_torch(file));
    for (size_t size = 0; size < file.size(); ++size)
      EXPECT_THROW(parse_torch(file.substr(0, size)), Error) << size;
    EXPECT_THROW(parse_torch(file + "x"), Error);
  }
}

}  // namespace
}  // namespace qwb
