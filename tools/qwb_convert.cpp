// qwb-convert: a model in one format becomes a model in another.
#include <memory>
#include <set>
#include <string>

#include "formats/convert.h"
#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/tensor/large_buffers.h"
#include "tools/common/choose.h"
#include "tools/common/convert_job.h"
#include "tools/common/gguf_job.h"
#include "tools/common/method_flags.h"
#include "tools/common/pull.h"
#include "tools/common/quantities.h"
#include "tools/common/requantize.h"
#include "tools/common/tool.h"

namespace qwb {
namespace {

constexpr const char* kConvertExamples =
    "Examples:\n"
    "  qwb-convert ./llama-gptq --to awq ./llama-awq            codes and scales move as they are\n"
    "  qwb-convert ./llama-gptq --to huggingface --dtype f16    dequantized\n"
    "  qwb-convert ./llama-nf4 --to gptq --requantize rtn --bits 4 --group-size 128\n"
    "  qwb-convert ./llama-awq --to qwb --dry-run               what would be exact, and how large it gets\n"
    "  qwb-convert ./llama --to gguf --type q4_k ./llama.gguf   every matrix as Q4_K blocks\n"
    "The new folder's (or file's) path is the only thing on standard output.";

struct Options {
  std::string in, to, out, dtype, method, max_shard_size, type, embedding_type, output_type;
  bool round_scales = false, force = false;
  std::unique_ptr<MethodFlags> parameters;
};

// NAME.gguf becomes NAME, so that its parts do not stay in the new name.
Path default_target(const Path& source, const std::string& format) {
  const Path plain = std::filesystem::absolute(source).lexically_normal();
  const Path last = plain.has_filename() ? plain.filename() : plain.parent_path().filename();
  const std::string name = (last.extension() == ".gguf" ? last.stem() : last).string();
  if (format != kGgufFormat) return Path(name + "-" + format);
  return Path(name + (last.extension() == ".gguf" ? "-new.gguf" : ".gguf"));
}

ConvertOptions convert_options(const Options& o, const PackedFormat& target) {
  ConvertOptions options;
  if (!o.dtype.empty()) options.dtype = parse_dtype(o.dtype);
  options.round_scales = o.round_scales;
  options.replace = o.force;
  if (!o.max_shard_size.empty()) {
    options.max_shard_bytes = parse_bytes(o.max_shard_size);
    if (options.max_shard_bytes < 1) throw Error(ErrorKind::usage, "--max-shard-size must be positive");
  }
  if (o.method.empty()) return options;
  const Method& method = find_method(o.method);
  options.requantizer =
      make_requantizer(method, resolve_settings(method, o.parameters->given(method)), target);
  return options;
}

GgufOptions gguf_options(const Options& o) {
  GgufOptions options;
  const auto type = [](const std::string& text, const char* flag) {
    return text.empty() ? std::nullopt : std::optional(parse_ggml_type(text, flag));
  };
  options.type = type(o.type, "--type");
  options.otherwise = type(o.method, "--requantize");
  options.embedding = type(o.embedding_type, "--token-embedding-type");
  options.output = type(o.output_type, "--output-tensor-type");
  options.plain = type(o.dtype.empty() ? "" : std::string(dtype_name(parse_dtype(o.dtype))), "--dtype");
  return options;
}

// Flags of one kind of target given for the other are mistakes, not to be ignored.
void check_flags(const Options& o) {
  const bool gguf = o.to == kGgufFormat;
  const auto refuse = [&](bool given, const char* flag) {
    if (given) throw Error(ErrorKind::usage, std::string(flag) + " means nothing for --to " + o.to);
  };
  refuse(!gguf && !o.type.empty(), "--type");
  refuse(!gguf && !o.embedding_type.empty(), "--token-embedding-type");
  refuse(!gguf && !o.output_type.empty(), "--output-tensor-type");
  refuse(gguf && !o.max_shard_size.empty(), "--max-shard-size");
  refuse(gguf && o.round_scales, "--round-scales");
}

void answer(Json json, const Path& out, Tool& tool) {
  if (tool.json()) {
    json["folder"] = tool.dry_run() ? Json(nullptr) : Json(out.string());
    tool.print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  } else if (!tool.dry_run()) {
    tool.print(out.string() + "\n");
  }
}

int convert_to_gguf(const Options& o, const Path& folder, Tool& tool) {
  const Path out = o.out.empty() ? default_target(folder, o.to) : Path(o.out);
  const OpenModel open = open_model(folder, tool.progress());
  const GgufReport report = make_gguf(open, out, gguf_options(o), o.force, tool);
  tell_gguf(report, !tool.dry_run(), tool);
  answer(gguf_json(open, report), out, tool);
  return 0;
}

int convert(const Options& o, Tool& tool) {
  reuse_large_buffers();
  const Path folder = model_folder(o.in, tool.progress());
  require_model_folder(folder);
  check_flags(o);
  if (o.to == kGgufFormat) return convert_to_gguf(o, folder, tool);
  const PackedFormat& target = find_packed_format(o.to);
  const Path out = o.out.empty() ? default_target(folder, target.name()) : Path(o.out);
  Conversion conversion(open_model(folder, tool.progress()), target, convert_options(o, target));
  if (!tool.dry_run()) {
    require_disk_space(std::filesystem::absolute(out).parent_path(), conversion.tensor_bytes());
    conversion.write(out, tool.progress());
  }
  tell_conversion(conversion, !tool.dry_run(), tool);
  answer(conversion_json(conversion), out, tool);
  return 0;
}

void add_options(CLI::App& app, Options& o) {
  app.add_option("IN", o.in, "A model in any format: a folder, or its name on the Hub")
      ->type_name("")
      ->required();
  app.add_option("OUT", o.out, "The new folder [./NAME-FORMAT], or for gguf the file [./NAME.gguf]")
      ->type_name("");
  app.add_option("--to", o.to, format_help())->type_name("FORMAT")->required();
  app.add_option("--dtype", o.dtype,
                 "f32, f16 or bf16 for everything that is not quantized [as it is; dequantized modules: the "
                 "model's]")
      ->type_name("TYPE");
  app.add_option(
         "--requantize", o.method,
         "quantize anew, by this method (for gguf: as this type), the modules that FORMAT cannot hold "
         "exactly [refuse them]")
      ->type_name("METHOD");
  app.add_option("--type", o.type,
                 "gguf: every matrix as this type, exact or not [as it is stored]: " + ggml_type_names())
      ->type_name("TYPE");
  app.add_option("--token-embedding-type", o.embedding_type, "gguf: the type of token_embd [as --type says]")
      ->type_name("TYPE");
  app.add_option("--output-tensor-type", o.output_type, "gguf: the type of output [as --type says]")
      ->type_name("TYPE");
  app.add_flag("--round-scales", o.round_scales,
               "let scales lose bits where FORMAT has a narrower type [refuse]");
  app.add_option("--max-shard-size", o.max_shard_size,
                 "split the weights into files of at most this size [5GB]")
      ->type_name("SIZE");
  app.add_flag("--force", o.force, "replace what is at OUT");
  o.parameters = std::make_unique<MethodFlags>(app, std::set<std::string>{"dtype"});
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {
      .name = "qwb-convert",
      .summary = "Convert a model from any format to another, exactly where they share a grid.",
      .examples = qwb::kConvertExamples,
      .has_dry_run = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::Options>();
    qwb::add_options(app, *options);
    return [options, &tool] { return qwb::convert(*options, tool); };
  });
}
