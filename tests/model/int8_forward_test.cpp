// Which forward pass int8 rows take, and how it is named.
#include "lib/model/int8_forward.h"

#include <gtest/gtest.h>

#include "formats/registry.h"
#include "lib/base/file.h"
#include "lib/codec/int8_rows.h"

namespace qwb {
namespace {

// The golden llama, one module of which is stored as int8 rows.
class OneInt8Module : public TensorSource {
 public:
  OneInt8Module(std::shared_ptr<const TensorSource> source, std::string module)
      : source_(std::move(source)), module_(std::move(module)) {
    const Shape shape = source_->find(module_ + ".weight").value().shape;
    codes_ = Tensor(DType::i8, shape);
    absmax_ = Tensor(DType::f32, {shape[0]});
    std::fill_n(codes_.data<int8_t>(), codes_.count(), int8_t{1});
    std::fill_n(absmax_.data<float>(), absmax_.count(), 0.5f);
  }
  std::optional<TensorView> find(const std::string& name) const override {
    return source_->find(name);
  }
  std::vector<std::string> names() const override { return source_->names(); }
  std::optional<Weight> quantized(const std::string& module) const override {
    if (module != module_) return std::nullopt;
    const Shape shape = codes_.shape();
    return Weight{shape[0], shape[1], Orientation::out_in, Int8Rows(codes_.view(), absmax_.view())};
  }

 private:
  std::shared_ptr<const TensorSource> source_;
  std::string module_;
  Tensor codes_, absmax_;
};

TEST(Int8Forward, IsNamedWhereThereAreInt8Modules) {
  const OpenModel open = open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model/llama");
  const auto plain = Model::load(open.source, open.config, "llama");
  const auto source = std::make_shared<OneInt8Module>(open.source, "model.layers.1.mlp.down_proj");
  const auto int8 = Model::load(source, open.config, "llama");
  EXPECT_EQ(plain->int8_modules(), 0);
  EXPECT_EQ(int8->int8_modules(), 1);
  const Int8Forward dequantize, six = {6.0f};
  EXPECT_EQ(int8_forward_json(*plain, dequantize), Json(nullptr));
  EXPECT_EQ(int8_forward_json(*plain, six), Json(nullptr));
  EXPECT_EQ(int8_forward_json(*int8, dequantize), Json({{"name", "dequantize"}}));
  EXPECT_EQ(int8_forward_json(*int8, six), Json({{"name", "LLM.int8"}, {"threshold", 6.0}}));
  EXPECT_NO_THROW(require_int8_modules(*plain, dequantize, "m"));
  EXPECT_NO_THROW(require_int8_modules(*int8, six, "m"));
  try {
    require_int8_modules(*plain, six, "the model");
    FAIL() << "was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("the model"), std::string::npos);
  }
}

TEST(Int8Forward, HasAText) {
  EXPECT_EQ(int8_forward_text(nullptr), "");
  EXPECT_EQ(int8_forward_text({{"name", "dequantize"}}), "dequantize");
  EXPECT_EQ(int8_forward_text({{"name", "LLM.int8"}, {"threshold", 6.5}}),
            "LLM.int8, threshold 6.5");
}

TEST(Int8Forward, ChoosesTheExecutor) {
  const std::string plain = make_executor(ExecutorKind::fast, Threads(1))->identity();
  EXPECT_EQ(make_executor(Int8Forward{}, Threads(1))->identity(), plain);
  EXPECT_NE(make_executor(Int8Forward{0.0f}, Threads(1))->identity(), plain);
  EXPECT_THROW(make_executor(Int8Forward{-1.0f}, Threads(1)), Error);
}

}  // namespace
}  // namespace qwb
