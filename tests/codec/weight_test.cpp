#include "lib/codec/weight.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "lib/codec/bit_codes.h"
#include "lib/codec/dense.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/integer_grid.h"
#include "lib/codec/registry.h"

namespace qwb {
namespace {

TEST(Codes, SurvivePackingAtEveryWidthAndLength) {
  Rng rng(1);
  for (int bits = 1; bits <= 8; ++bits) {
    for (int64_t count = 0; count <= 70; ++count) {
      std::vector<uint8_t> codes(static_cast<size_t>(count));
      for (uint8_t& code : codes) code = static_cast<uint8_t>(rng.below(uint64_t{1} << bits));
      std::vector<std::byte> packed(static_cast<size_t>(packed_bytes(count, bits)) + 1,
                                    std::byte{0xee});
      pack_codes(codes.data(), count, bits, packed.data());
      EXPECT_EQ(packed.back(), std::byte{0xee}) << "wrote beyond the row";
      std::vector<uint8_t> back(codes.size());
      unpack_codes(packed.data(), count, bits, back.data());
      EXPECT_EQ(back, codes) << bits << " bits, " << count;
    }
  }
}

// The page formats/qwb/qwb.md draws this: least significant bit first.
TEST(Codes, LieLeastSignificantBitFirst) {
  const std::vector<uint8_t> codes = {0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<std::byte> packed(4);
  pack_codes(codes.data(), 8, 4, packed.data());
  EXPECT_EQ(packed, (std::vector<std::byte>{std::byte{0x10}, std::byte{0x32}, std::byte{0x54},
                                            std::byte{0x76}}));
  packed.resize(3);
  pack_codes(codes.data(), 8, 3, packed.data());
  EXPECT_EQ(packed, (std::vector<std::byte>{std::byte{0x88}, std::byte{0xc6}, std::byte{0xfa}}));
}

// A grid of 4 bits and groups of 32 that says it is of others.
QuantizedTensor grid(int64_t out, int64_t in, int bits, int64_t group) {
  QuantizedTensor tensor(
      integer_grid_layout(out, in, {.bits = 4, .group_size = 32, .symmetric = false}));
  IntegerGrid told = tensor.get<IntegerGrid>();
  told.bits = bits;
  told.group_size = group;
  tensor.set(std::move(told));
  return tensor;
}

TEST(Weight, IsRefusedUnlessEveryPartFits) {
  EXPECT_NO_THROW(grid(8, 70, 4, 32).view());
  EXPECT_THROW(grid(8, 70, 3, 32).view(), Error);  // codes too wide
  EXPECT_THROW(grid(8, 70, 4, 16).view(), Error);  // too few scales
  EXPECT_THROW(grid(8, 70, 9, 32).view(), Error);
  EXPECT_THROW(grid(8, 70, 4, 0).view(), Error);
  EXPECT_THROW(grid(8, 70, 4, 71).view(), Error);
  QuantizedTensor missing = grid(8, 70, 4, 32);
  missing.parts.erase("scales");
  EXPECT_THROW(missing.view(), Error);
  QuantizedTensor unknown = grid(8, 70, 4, 32);
  unknown.parts.emplace("extra", Tensor(DType::u8, {8}));
  EXPECT_THROW(unknown.view(), Error);
  QuantizedTensor transposed = grid(8, 70, 4, 32);
  transposed.orientation = Orientation::in_out;
  EXPECT_THROW(transposed.view(), Error);
}

TEST(Weight, GroupsOfColumnsAreWithinThoseThereAre) {
  const auto with_index = [](const std::vector<int32_t>& groups) {
    QuantizedTensor tensor = grid(8, 70, 4, 32);
    Tensor index(DType::i32, {static_cast<int64_t>(groups.size())});
    std::copy(groups.begin(), groups.end(), index.data<int32_t>());
    tensor.parts.emplace("group_index", std::move(index));
    return tensor;
  };
  std::vector<int32_t> groups(70, 2);
  EXPECT_NO_THROW(with_index(groups).view());
  EXPECT_EQ(with_index(groups).view().bytes(), grid(8, 70, 4, 32).view().bytes() + 4 * 70);
  for (const int32_t bad : {-1, 3, 1 << 30}) {
    groups[69] = bad;
    EXPECT_THROW(with_index(groups).view(), Error);
  }
  EXPECT_THROW(with_index(std::vector<int32_t>(69, 0)).view(), Error);
}

TEST(Weight, LayoutSaysWhatIsStored) {
  const QuantizedTensor tensor = grid(8, 70, 4, 32);
  const WeightLayout layout = layout_of(tensor.view());
  EXPECT_EQ(layout.codec(), "integer-grid");
  EXPECT_EQ(layout.specs(), tensor.specs());
  EXPECT_EQ(layout.bytes(), tensor.view().bytes());
  EXPECT_TRUE(layout.has("zeros"));
  EXPECT_FALSE(layout.has("group_index"));
  EXPECT_THROW(layout.spec("absmax"), Error);
  EXPECT_THROW(layout.get<DenseWeight>(), Error);
  EXPECT_THROW(check_weight(Weight(layout), "test"), Error) << "it has no bytes";
}

// What a file tells is what comes back; what this build does not understand is refused by name.
TEST(Codecs, ReadWhatTheyWrite) {
  const QuantizedTensor tensor = grid(8, 70, 4, 32);
  const auto read = [&](const Json& parameters, const std::string& codec = "integer-grid") {
    return read_weight(tensor, codec, parameters, tensor.part_views(), "here");
  };
  const Json parameters = tensor.encoding->parameters();
  EXPECT_EQ(parameters.dump(), R"({"bits":4,"group_size":32})");
  EXPECT_EQ(read(parameters).specs(), tensor.specs());
  const auto kind_of = [&](const Json& given, const std::string& codec = "integer-grid") {
    try {
      read(given, codec);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::usage;
  };
  EXPECT_EQ(kind_of({{"bits", 4.5}, {"group_size", 32}}), ErrorKind::failed);
  EXPECT_EQ(kind_of({{"bits", 4}}), ErrorKind::failed);
  EXPECT_EQ(kind_of({{"bits", 4}, {"group_size", "32"}}), ErrorKind::failed);
  EXPECT_EQ(kind_of({{"bits", 4}, {"group_size", 32}, {"signed", 1}}), ErrorKind::unsupported);
  EXPECT_EQ(kind_of(parameters, "vector-grid"), ErrorKind::unsupported);
  EXPECT_EQ(kind_of(Json::object(), "int8-rows"), ErrorKind::unsupported);  // foreign parts
}

// Of random blocks, by every value that they stand for.
TEST(GgmlBlocks, ScalesAreFiniteWhereAllValuesAre) {
  Rng rng(3);
  for (const GgmlTypeInfo& info : ggml_types()) {
    if (!ggml_is_quantized(info.type)) continue;
    int bad = 0;
    std::vector<std::byte> block(static_cast<size_t>(info.bytes));
    for (int round = 0; round < 400; ++round) {
      for (std::byte& byte : block) byte = static_cast<std::byte>(rng.next());
      bool finite = true;
      for (int i = 0; i < info.block; ++i)
        finite = finite && std::isfinite(reference_ggml_element(info.type, block.data(), i));
      EXPECT_EQ(ggml_scales_finite(info.type, block), finite) << info.name;
      bad += finite ? 0 : 1;
    }
    EXPECT_GT(bad, 0) << info.name;
    EXPECT_LT(bad, 100) << info.name;
  }
}

}  // namespace
}  // namespace qwb
