// Every weight counts once, where its bytes lie.
#include "lib/model/weight_bytes.h"

#include <gtest/gtest.h>

#include "formats/registry.h"
#include "lib/base/file.h"
#include "lib/codec/dense.h"

namespace qwb {
namespace {

Weight dense_of(const TensorView& view) {
  return {view.shape[0], view.shape[1], Orientation::out_in, DenseWeight{view}};
}

TEST(WeightCount, CountsAWeightOnce) {
  const Tensor a(DType::f32, {3, 5}), b(DType::f16, {2, 4});
  WeightCount count;
  for (const Tensor* tensor : {&a, &b, &a}) count.add(dense_of(tensor->view()));
  EXPECT_EQ(count.bytes().copied, 3 * 5 * 4 + 2 * 4 * 2);
  EXPECT_EQ(count.bytes().mapped, 0);
  count.add_floats(7);
  EXPECT_EQ(count.bytes().vectors, 28);
  EXPECT_EQ(count.bytes().parameters, 15 + 8 + 7);
}

TEST(WeightCount, KnowsMappedFiles) {
  const OpenModel open = open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model/llama");
  const TensorView view = open.source->find("model.embed_tokens.weight").value();
  WeightCount count;
  count.add(dense_of(view));
  EXPECT_EQ(count.bytes().mapped, std::ssize(view.bytes));
  EXPECT_EQ(count.bytes().copied, 0);
}

}  // namespace
}  // namespace qwb
