// Modules of random codes in every codec, folders that hold them, and conversions between folders.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "formats/convert.h"
#include "formats/qwb/artifact.h"
#include "lib/base/file.h"
#include "lib/base/rng.h"

namespace qwb {

// Folders that other libraries packed (tests/golden/make_convert.py), each with the module kModule.
inline const Path kPackedGolden = Path(QWB_SOURCE_DIR) / "tests/golden/convert";
inline const std::string kModule = "layers.0.proj";
std::vector<std::string> packed_golden_cases();

// The tensors of two folders are the same, name by name and byte by byte.
void expect_same_folders(const Path& a, const Path& b, const std::string& where);

// Whether it was exact. Throws what Conversion throws.
bool convert_folder(const Path& from, const std::string& to, const Path& out,
                    ConvertOptions options = {});

// As a GGUF file, which may be there; types as the options say. The plan with every error.
std::vector<ConvertedModule> write_gguf(const OpenModel& open, const Path& file,
                                        ConvertOptions options = {}, const Context& context = {});
// Of all matrices; nothing: as they are.
ConvertOptions gguf_type(std::optional<GgmlType> type);

struct RandomGrid {
  int64_t out, in, group;
  int bits;
  bool symmetric, scattered;
  DType scales = DType::f16;
};
std::string grid_text(const RandomGrid& shape);
// Scales are fractions of 4096 below 1/4, or powers of two (whose products with zero points f16
// holds). An asymmetric grid has a zero point off the middle, since one without any would be read
// as symmetric.
QuantizedTensor random_grid(const RandomGrid& shape, uint64_t seed, bool powers_of_two = false);
QuantizedTensor random_int8(int64_t out, int64_t in, uint64_t seed);
// NF4 (table 0) or FP4 (1), with nested statistics or not.
QuantizedTensor random_blocks(int64_t out, int64_t in, int table, int64_t block, bool nested,
                              uint64_t seed);

using NamedTensors = std::vector<std::pair<std::string, const QuantizedTensor*>>;
// An artifact of these modules, and of plain f32 tensors of ones beside them.
void write_artifact(const Path& folder, const std::string& config, const NamedTensors& modules,
                    const std::vector<PartSpec>& plain);
// One module, kModule, of a model that nobody knows.
void write_artifact(const Path& folder, const QuantizedTensor& tensor);

}  // namespace qwb
