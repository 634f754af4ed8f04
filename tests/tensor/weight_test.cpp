#include "lib/codec/weight.h"

#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "lib/codec/bit_codes.h"

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

// The page formats/qwb.md draws this: least significant bit first.
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

QuantizedTensor grid(int64_t out, int64_t in, int bits, int64_t group) {
  QuantizedTensor tensor{out, in, Orientation::out_in, "integer-grid", {}, {}};
  tensor.parameters = {{"bits", bits}, {"group_size", static_cast<double>(group)}};
  for (const PartSpec& spec : integer_grid_parts(out, in, 4, 32, false, DType::f16)) {
    tensor.parts.emplace(spec.name, Tensor(spec.dtype, spec.shape));
  }
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
  unknown.codec = "vector-grid";
  EXPECT_THROW(unknown.view(), Error);
  QuantizedTensor transposed = grid(8, 70, 4, 32);
  transposed.orientation = Orientation::in_out;
  EXPECT_THROW(transposed.view(), Error);
  QuantizedTensor wrong = grid(8, 70, 4, 32);
  wrong.parameters["bits"] = 4.5;
  EXPECT_THROW(wrong.view(), Error);
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

TEST(Weight, FormSaysWhatIsStored) {
  const QuantizedTensor tensor = grid(8, 70, 4, 32);
  const WeightLayout form = layout_of(tensor.view());
  EXPECT_EQ(form.codec, "integer-grid");
  EXPECT_EQ(form.parameters, tensor.parameters);
  EXPECT_EQ(form.bytes(), tensor.view().bytes());
  EXPECT_TRUE(form.has("zeros"));
  EXPECT_FALSE(form.has("group_index"));
  EXPECT_THROW(form.part("absmax"), Error);
  EXPECT_EQ(tensor.view()).size(.parts(), tensor.parts.size());
}

TEST(Shapes, OverflowIsAnErrorThatNamesThePlace) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({3, 0, 5}), 0);
  EXPECT_THROW(element_count({int64_t{1} << 40, int64_t{1} << 40}, "here"), Error);
  EXPECT_THROW(element_count({-1, 4}), Error);
}

}  // namespace
}  // namespace qwb
