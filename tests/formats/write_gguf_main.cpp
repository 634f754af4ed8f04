// write_gguf MODEL OUT.gguf TYPE|exact [EMBEDDING OUTPUT]: one line for every tensor whose type is not the
// one asked for, and the time.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "formats/gguf_export.h"
#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/quantize/ggml_quants.h"

namespace {

class Notes : public qwb::Progress {
 public:
  void note(const std::string& text) override { std::printf("note: %s\n", text.c_str()); }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 && argc != 6) return 2;
  try {
    if (const char* threads = std::getenv("QWB_THREADS")) qwb::set_threads(std::atoi(threads));
    qwb::GgufOptions options;
    options.encode = qwb::quantize_ggml;
    options.type = qwb::ggml_type_from_name(argv[3]);
    if (argc == 6) {
      options.embedding = qwb::ggml_type_from_name(argv[4]);
      options.output = qwb::ggml_type_from_name(argv[5]);
    }
    const qwb::OpenModel open = qwb::open_model(argv[1]);
    Notes notes;
    const auto start = std::chrono::steady_clock::now();
    const qwb::GgufReport report = qwb::write_gguf(open, argv[2], options, notes);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    int exact = 0;
    for (const auto& tensor : report.tensors) exact += tensor.exact ? 1 : 0;
    std::printf("%zu tensors, %d exact, %lld bytes, %.3f s\n", report.tensors.size(), exact,
                static_cast<long long>(report.bytes), seconds.count());
  } catch (const qwb::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return error.exit_code();
  }
  return 0;
}
