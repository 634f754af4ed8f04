// Which GPUs there are and why one cannot be used, on a library without a GPU (fake_cuda.cpp); and
// weights that are made ready in its memory, bit by bit.
#include "lib/exec/devices.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cuda/executor.h"
#include "tests/exec/weights_helper.h"

namespace qwb {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

// FAKE_CUDA while this lives.
struct FakeMode {
  explicit FakeMode(const std::string& mode) { setenv("FAKE_CUDA", mode.c_str(), 1); }
  ~FakeMode() { unsetenv("FAKE_CUDA"); }
  FakeMode(const FakeMode&) = delete;
  FakeMode& operator=(const FakeMode&) = delete;
};

CudaLibrary fake_library() {
  return open_cuda_library(QWB_FAKE_CUDA);
}

TEST(Devices, NamesAreRead) {
  using Kind = DeviceChoice::Kind;
  EXPECT_EQ(parse_device("CPU").kind, Kind::processor);
  EXPECT_EQ(parse_device("auto").kind, Kind::automatic);
  EXPECT_EQ(parse_device("cuda").index, 0);
  EXPECT_EQ(parse_device("cuda:12").index, 12);
  EXPECT_EQ(parse_device("cuda:12").kind, Kind::gpu);
  for (const char* wrong : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda 0"}) {
    EXPECT_THROW(
        {
          try {
            parse_device(wrong);
          } catch (const Error& error) {
            EXPECT_EQ(error.kind(), ErrorKind::usage) << wrong;
            throw;
          }
        },
        Error)
        << wrong;
  }
}

TEST(Devices, AreListed) {
  const Gpus all = list_gpus_by(fake_library());
  ASSERT_EQ(all.cards.size(), 1u);
  EXPECT_EQ(all.cards[0].name, "Fake GPU");
  EXPECT_THAT(all.cards[0].problem, IsEmpty());
  EXPECT_EQ(all.driver, "13.1");
  EXPECT_EQ(all.runtime, "13.0");
  EXPECT_EQ(all.built_for, "7.5 8.0 9.0");
  {
    const FakeMode newer("new-card");  // by the PTX
    EXPECT_THAT(list_gpus_by(fake_library()).cards[0].problem, IsEmpty());
  }
  const FakeMode mode("old-card");
  EXPECT_THAT(list_gpus_by(fake_library()).cards[0].problem,
              AllOf(HasSubstr("no code for Fake GPU (compute capability 6.0)"),
                    HasSubstr("for 7.5 8.0 9.0"), HasSubstr("QWB_CUDA_ARCHITECTURES")));
}

TEST(Devices, WhyThereIsNone) {
  const auto problem = [](const std::string& mode) {
    const FakeMode fake(mode);
    const Gpus all = list_gpus_by(fake_library());
    return all.problem + "; " + all.advice;
  };
  EXPECT_THAT(problem("no-driver"),
              AllOf(HasSubstr("no NVIDIA driver"), HasSubstr("--device cpu")));
  EXPECT_THAT(problem("code 35"), AllOf(HasSubstr("too old: it knows CUDA 12.4, this build needs "
                                                  "13.0"),
                                        HasSubstr("580")));
  EXPECT_THAT(problem("code 100"), HasSubstr("CUDA_VISIBLE_DEVICES"));
  EXPECT_THAT(problem("interface"), HasSubstr("interface"));
  const CudaLibrary none = open_cuda_library("/nonexistent/libqwb-cuda.so");
  EXPECT_EQ(none.functions, nullptr);
  EXPECT_THAT(none.problem, HasSubstr("cannot be loaded"));
}

TEST(Devices, EveryCodeHasASentence) {
  const CudaFound found{.driver = "12.4",
                        .runtime = "13.0",
                        .card = "Fake GPU",
                        .built_for = "7.5 9.0",
                        .asked = 3'000'000'000,
                        .free = 1'000'000'000,
                        .total = 8'000'000'000};
  const std::vector<std::pair<int, std::string>> sentences = {
      {2, "3.00 GB were asked for, 1.00 GB of 8.00 GB are free"},
      {46, "another process has it"},
      {209, "no code for Fake GPU: this build is for 7.5 9.0"},
      {214, "ECC"},
      {222, "the driver (CUDA 12.4) cannot compile code of this build (CUDA 13.0) for Fake GPU"},
      {700, "outside of its memory"},
      {702, "longer than the system allows"},
      {802, "nvidia-fabricmanager"},
      {803, "restart the machine"},
      {804, "compatibility package"},
      {999, "dmesg"},
      {12345, "a text of the runtime (CUDA error 12345)"}};
  for (const auto& [code, sentence] : sentences)
    EXPECT_THAT(cuda_error(code, "a text of the runtime", "linear", found).what(),
                AllOf(HasSubstr(sentence), HasSubstr("linear")));
  EXPECT_EQ(cuda_error(209, {}, {}, found).kind(), ErrorKind::unsupported);
  EXPECT_EQ(cuda_error(2, {}, {}, found).kind(), ErrorKind::failed);
}

TEST(Devices, MemoryIsTakenAgainAndAFullOneTold) {
  const CudaLibrary library = fake_library();
  const FakeMode mode("full");
  // Lives as long as the program, as every device.
  static const auto* device = new CudaDevice(*library.functions, list_gpus_by(library), 0);
  std::byte* first = device->take(100'000);
  device->give_back(first);
  EXPECT_EQ(device->take(99'999), first);
  device->give_back(first);
  EXPECT_NE(device->take(100), first);
  try {
    device->take(5'000'000);
    ADD_FAILURE() << "there is no room for this";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("the GPU's memory is full: 0.01 GB were asked for"));
  }
}

// What decode.h makes of every codec is what the processor does; the kernels run the same
// functions.
TEST(Devices, WeightsHaveTheProcessorsBits) {
  const CudaLibrary library = fake_library();
  static const auto* device = new CudaDevice(*library.functions, list_gpus_by(library), 0);
  const CudaExecutor executor(*device, Threads(1));
  const auto check = [&](const Weight& weight, const std::string& kind) {
    std::vector<float> expected(static_cast<size_t>(weight.count()));
    dequantize(weight, expected.data());
    std::vector<int32_t> ids(static_cast<size_t>(weight.rows()));
    std::iota(ids.begin(), ids.end(), 0);
    const Matrix values = executor.allocate(weight.rows(), weight.columns());
    executor.look_up(executor.prepare(weight, Reuse::seldom), ids, values);
    EXPECT_EQ(executor.download(values), expected) << kind;
  };
  for (const std::string kind :
       {"dense-f32", "dense-f16", "dense-bf16-T", "grid2", "grid3-asym-g7", "grid4-asym", "grid5",
        "grid6", "grid7", "grid8-asym", "int8", "nf4", "fp4-double", "nf4-double-T", "grid4-act-g7",
        "grid3-asym-act-g7"}) {
    for (const int64_t in : {1, 131, 300}) check(random_weight(kind, 9, in, 11).weight, kind);
  }
  for (const GgmlTypeInfo& info : ggml_types()) {
    if (!ggml_is_quantized(info.type)) continue;
    for (const int64_t heads : {0, 8}) {
      WeightLayout layout = ggml_blocks_layout(16, 512, info.type);
      GgmlBlocks blocks = layout.get<GgmlBlocks>();
      blocks.head_rows = heads;
      layout.set(std::move(blocks));
      const QuantizedTensor made = random_weight(layout, 17);
      check(made.view(), std::string(info.name));
    }
  }
}

}  // namespace
}  // namespace qwb
