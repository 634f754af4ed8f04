#include "tools/manual/generate.h"

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "tools/manual/completions.h"

namespace qwb {

std::optional<std::string> generated(CLI::App& app, int argc, const char* const* argv,
                                     const ManualHead& head) {
  if (argc < 3 || std::string(argv[1]) != "--generate") return std::nullopt;
  const std::string kind = argv[2];
  const Declaration declaration = declaration_of(app);
  if (kind == "bash") return bash_completion(declaration);
  if (kind == "zsh") return zsh_completion(declaration);
  if (kind == "fish") return fish_completion(declaration);
  if (kind == "json") return declaration_json(declaration).dump(2) + "\n";
  if (argc == 4 && kind == "man") return manual_roff(read_text(argv[3]), declaration, head);
  if (argc == 4 && kind == "page") return page_with_options(read_text(argv[3]), declaration);
  throw Error(ErrorKind::usage, "--generate makes man PAGE, page PAGE, bash, zsh, fish or json");
}

}  // namespace qwb
