// qwb-convert: a model in one format becomes a model in another.
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "formats/hf/checkpoint.h"
#include "formats/model_format.h"
#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/base/text.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/convert_job.h"
#include "lib/jobs/sources.h"
#include "tools/common/method_flags.h"
#include "tools/common/number_checks.h"
#include "tools/common/tool.h"
#include "tools/manual/declaration.h"

namespace qwb {
namespace {

constexpr const char* kConvertExamples =
    "Examples:\n"
    "  qwb-convert ./llama-gptq --to awq ./llama-awq            codes and scales move as they are\n"
    "  qwb-convert ./llama-gptq --to huggingface --dtype f16    dequantized\n"
    "  qwb-convert ./llama-nf4 --to gptq --requantize rtn --bits 4 --group-size 128\n"
    "  qwb-convert ./llama-awq --to qwb --dry-run               what would be exact, and how large "
    "it gets\n"
    "  qwb-convert ./llama --to gguf --type q4_k ./llama.gguf   every matrix as Q4_K blocks\n"
    "The new folder's (or file's) path is the only thing on standard output.";

struct Options {
  std::string model, to, dtype, method, type, embedding_type, output_type;
  std::vector<std::string> positions;  // IN and OUT, or with --model OUT
  int64_t max_shard_bytes = 0;         // 0: not given
  bool round_scales = false;
  std::unique_ptr<MethodFlags> parameters;
};

// NAME.gguf becomes NAME, so that its parts do not stay in the new name.
Path default_target(const Path& source, const ModelFormat& format) {
  const Path plain = std::filesystem::absolute(source).lexically_normal();
  const Path last = plain.has_filename() ? plain.filename() : plain.parent_path().filename();
  const bool is_file = std::filesystem::is_regular_file(plain) && last.has_extension();
  const std::string name = (is_file ? last.stem() : last).string();
  if (format.extension.empty()) return Path(name + "-" + format.name);
  const bool same = has_suffix(last.native(), format.extension);
  return Path(name + (same ? "-new" : "") + format.extension);
}

// "float16", "f16", "bf16", ...; throws usage.
DType parse_dtype(const std::string& text) {
  const std::string name = lower_case(text);
  if (name == "f32" || name == "float32") return DType::f32;
  if (name == "f16" || name == "float16") return DType::f16;
  if (name == "bf16" || name == "bfloat16") return DType::bf16;
  throw Error(ErrorKind::usage, "--dtype must be f32, f16 or bf16, not '" + text + "'");
}

// "F32, F16, ..."
std::string type_names() {
  std::string names;
  for (const GgmlTypeInfo& info : ggml_types())
    names += (names.empty() ? "" : ", ") + std::string(info.name);
  return names;
}

// "Q4_0", "q4_k", ...; throws usage. Nothing for a flag that was not given.
std::optional<GgmlType> parse_type(const std::string& text, const char* flag) {
  if (text.empty()) return std::nullopt;
  if (const auto type = ggml_type_from_name(text)) return *type;
  throw Error(ErrorKind::usage, "there is no type '" + text + "'", flag, "one of " + type_names());
}

ConvertRequest convert_request(const Options& o, const Path& model, const ModelFormat& format) {
  ConvertRequest request{.model = model, .format = format.name};
  if (!o.dtype.empty()) request.dtype = parse_dtype(o.dtype);
  request.round_scales = o.round_scales;
  request.max_shard_bytes = o.max_shard_bytes;
  request.types.all = parse_type(o.type, "--type");
  request.types.embedding = parse_type(o.embedding_type, "--token-embedding-type");
  request.types.output = parse_type(o.output_type, "--output-tensor-type");
  if (o.method.empty()) return request;
  if (format.typed) {
    request.types.otherwise = parse_type(o.method, "--requantize");
  } else {
    request.requantize = &find_method(o.method);
    request.settings =
        resolve_settings(*request.requantize, o.parameters->given(*request.requantize));
  }
  return request;
}

// Flags of one kind of target given for the other are mistakes, not to be ignored.
void check_flags(const Options& o, const ModelFormat& format) {
  const auto refuse = [&](bool given, const char* flag) {
    if (given)
      throw Error(ErrorKind::usage, std::string(flag) + " means nothing for --to " + format.name);
  };
  refuse(!format.typed && !o.type.empty(), "--type");
  refuse(!format.typed && !o.embedding_type.empty(), "--token-embedding-type");
  refuse(!format.typed && !o.output_type.empty(), "--output-tensor-type");
  refuse(format.typed && o.round_scales, "--round-scales");
  refuse(!format.extension.empty() && o.max_shard_bytes > 0, "--max-shard-size");
}

void answer(Json json, const Path& out, Tool& tool) {
  if (tool.json()) {
    json["folder"] = tool.dry_run() ? Json(nullptr) : Json(out.string());
    tool.print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  } else if (!tool.dry_run()) {
    tool.print(out.string() + "\n");
  }
}

// What the command line names: IN (or --model) and OUT.
struct Names {
  std::string in;
  std::string out;  // empty: a name of its own in the current folder
};

Names names_of(const Options& o) {
  std::vector<std::string> names = o.positions;
  if (!o.model.empty()) names.insert(names.begin(), o.model);
  if (names.empty()) throw Error(ErrorKind::usage, "no model given; see qwb-convert --help");
  if (names.size() > 2)
    throw Error(ErrorKind::usage, "unknown here: " + names[2], {},
                "a model and the place for the new one");
  if (names.size() > 1 && names[1].empty())
    throw Error(ErrorKind::usage, "the place to write to is empty", {},
                "name it, or leave it out for a name of its own here");
  return {names[0], names.size() > 1 ? names[1] : ""};
}

int convert(const Options& o, Tool& tool) {
  if (tool.dry_run()) keep_no_memos();
  tool.reuse_large_buffers();
  const Names names = names_of(o);
  const ModelFormat& format = find_format(o.to);
  check_flags(o, format);
  const Path model = model_folder(names.in, tool.context());
  require_model_folder(model);
  tool.reads(model);
  const Path out = names.out.empty() ? default_target(model, format) : Path(names.out);
  const Path place = format.extension.empty() ? tool.outputs().folder(out, "OUT")
                                              : tool.outputs().file(out, "OUT", format.begins);
  ConvertRequest request = convert_request(o, model, format);
  request.replace = tool.outputs().force();
  request.only_plan = tool.dry_run();
  ConvertJob job(std::move(request), tool.context());
  if (!tool.dry_run()) job.write(place);
  job.log(!tool.dry_run(), tool.progress());
  answer(job.report(), out, tool);
  return 0;
}

// The types of tensors as people type them.
std::string typed_type_names() {
  return lower_case(type_names());
}

// Methods that need no calibration, and the types of GGUF.
std::string requantize_names() {
  std::string names;
  for (const auto& method : methods()) {
    if (!method->needs_calibration()) names += method->name() + ", ";
  }
  return names + typed_type_names();
}

void add_options(CLI::App& app, Options& o) {
  app.add_option(
         "IN", o.positions,
         "A model in any format (a folder, a file, or its name on the Hub), and the new folder "
         "[./NAME-FORMAT] or for gguf file [./NAME.gguf]")
      ->type_name("");
  app.add_option("--model", o.model, "the same as IN; OUT is then the only position")
      ->type_name("MODEL");
  offer_list(app.add_option("--to", o.to, format_help())->type_name("FORMAT")->required(),
             format_names());
  CLI::Option* dtype = app.add_option("--dtype", o.dtype,
                                      "f32, f16 or bf16 for everything that is not quantized [as "
                                      "it is; dequantized modules: the "
                                      "model's]")
                           ->type_name("TYPE");
  offer(dtype, {"f32", "f16", "bf16"});
  CLI::Option* requantize = app.add_option("--requantize", o.method,
                                           "quantize anew, by this method (for gguf: as this "
                                           "type), the modules that FORMAT cannot hold "
                                           "exactly [refuse them]")
                                ->type_name("METHOD");
  offer_list(requantize, requantize_names());
  const auto ggml_type = [&](const char* flag, std::string& value, const std::string& help) {
    offer_list(app.add_option(flag, value, help)->type_name("TYPE"), typed_type_names());
  };
  ggml_type("--type", o.type,
            "gguf: every matrix as this type, exact or not [as it is stored]: " + type_names());
  ggml_type("--token-embedding-type", o.embedding_type,
            "gguf: the type of token_embd [as --type says]");
  ggml_type("--output-tensor-type", o.output_type, "gguf: the type of output [as --type says]");
  app.add_flag("--round-scales", o.round_scales,
               "let scales lose bits where FORMAT has a narrower type [refuse]");
  add_size(app, "--max-shard-size", o.max_shard_bytes,
           "split the weights into files of at most this size [5GB]");
  o.parameters = std::make_unique<MethodFlags>(app, std::set<std::string>{"dtype"});
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {
      .name = "qwb-convert",
      .summary = "Convert a model from any format to another, exactly where they share a grid.",
      .examples = qwb::kConvertExamples,
      .has_dry_run = true,
      .writes = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::Options>();
    qwb::add_options(app, *options);
    return [options, &tool] { return qwb::convert(*options, tool); };
  });
}
