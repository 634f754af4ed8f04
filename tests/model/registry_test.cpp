// The list of architectures.
#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/model/architecture.h"

namespace qwb {
namespace {

TEST(Architectures, AreFoundByTheirNameOrListed) {
  for (const Architecture& one : architectures())
    EXPECT_EQ(&find_architecture(one.name, "test"), &one);
  try {
    find_architecture("mamba", "config.json");
    FAIL() << "was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    const std::string text = error.what();
    EXPECT_NE(text.find("'mamba'"), std::string::npos) << text;
    EXPECT_NE(
        text.find("llama, mistral, qwen2, qwen3, mixtral, qwen2_moe, qwen3_moe, olmoe, gemma2"),
        std::string::npos)
        << text;
  }
}

TEST(Architectures, OneMoreLeavesReferencesAsTheyAre) {
  const Architecture* const llama = &find_architecture("llama", "test");
  Architecture more = *llama;
  more.name = "llama for the test of the list";
  add_architecture(more);
  EXPECT_EQ(&find_architecture("llama", "test"), llama);
  EXPECT_EQ(find_architecture(more.name, "test").name, more.name);
  EXPECT_THROW(add_architecture(more), Error);
}

}  // namespace
}  // namespace qwb
