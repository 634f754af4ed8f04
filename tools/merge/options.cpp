#include "tools/merge/options.h"

#include "lib/base/error.h"
#include "lib/base/names.h"
#include "tools/common/adapter_flags.h"
#include "tools/common/command_line.h"
#include "tools/common/number_checks.h"
#include "tools/common/quantities.h"
#include "tools/manual/declaration.h"

namespace qwb {

std::optional<DType> merge_dtype(const std::string& text) {
  const std::string name = lower_case(text);
  if (name == "same") return std::nullopt;
  if (name == "f32") return DType::f32;
  if (name == "bf16") return DType::bf16;
  if (name == "f16") return DType::f16;
  throw Error(ErrorKind::usage, "--dtype must be same, f32, bf16 or f16, not '" + text + "'");
}

void check_merge_options(const MergeOptions& o) {
  const auto refuse = [](bool wrong, const std::string& what) {
    if (wrong) throw Error(ErrorKind::usage, what);
  };
  refuse(o.out.empty(), "no --out: name what is to be made");
  refuse(o.adapters.empty() && o.extract.empty(), "no --adapter given");
  refuse(!o.adapters.empty() && !o.extract.empty(), "--extract makes an adapter: it takes none");
  refuse(!o.extract.empty() && o.rank == 0, "--extract needs --rank N");
  refuse(o.rank > 0 && o.extract.empty() && o.combine != "svd",
         "--rank is for --combine svd and --extract");
  refuse(o.makes_adapter() && !o.then.empty(), "--then is for merged models, not for adapters");
  refuse(o.makes_adapter() && (o.check_kl || o.max_kl),
         "--check-kl and --max-kl are for merged models, not for adapters");
  refuse(o.max_kl && o.check_kl == 0, "--max-kl needs the check that --check-kl 0 leaves out");
  refuse(!o.then.empty() && o.dtype != "same",
         "--then takes the merged values as they are, in f32: leave --dtype out");
}

namespace {

void add_adapter_making(CLI::App& app, MergeOptions& o) {
  constexpr const char* kGroup = "An adapter instead of a model";
  const auto group = [](CLI::Option* option) { option->group(kGroup); };
  CLI::Option* combine =
      app.add_option("--combine", o.combine,
                     "make one adapter of several: exact (their ranks add up) or svd (cut off at "
                     "--rank)")
          ->check(one_of({"exact", "svd"}))
          ->type_name("HOW");
  group(combine);
  group(app.add_option("--extract", o.extract,
                       "make an adapter of what this model has learned since --model")
            ->type_name("MODEL"));
  group(app.add_option("--rank", o.rank,
                       "rank of --extract and --combine svd [svd: the largest of the adapters]")
            ->check(between(1, 65536))
            ->type_name("N"));
  group(app.add_option("--to", o.to, "write it as peft or gguf [peft]")
            ->check(one_of({"peft", "gguf"}))
            ->type_name("FORMAT"));
  group(app.add_flag("--portable", o.portable,
                     "fold scales into the factors and fill up to one rank, for readers that know "
                     "plain LoRA only"));
}

}  // namespace

void add_merge_options(CLI::App& app, MergeOptions& o) {
  app.add_option("--model", o.model,
                 "The base that the adapters were trained beside, in any format (default: "
                 "$QWB_MODEL, else the demo llama)")
      ->type_name("MODEL");
  add_adapter_flag(app, o.adapters,
                   "A LoRA adapter, a folder as PEFT writes it or a GGUF file; DIR:WEIGHT "
                   "multiplies what it adds; may be repeated",
                   "DIR[:WEIGHT]");
  app.add_option("--out", o.out, "The folder (with --to gguf: file) to make")->type_name("PLACE");
  app.add_option("--onto", o.onto,
                 "Merge into: source, the unquantized model behind the base; dequantized, the "
                 "base's own values; or another model")
      ->capture_default_str()
      ->type_name("WHAT");
  CLI::Option* dtype =
      app.add_option("--dtype", o.dtype, "Type of the merged model: same, f32, bf16 or f16")
          ->capture_default_str()
          ->type_name("TYPE");
  offer(dtype, {"same", "f32", "bf16", "f16"});
  app.add_option("--then", o.then,
                 "Quantize the merged values, in f32 and without a file between: a method and "
                 "flags of qwb-quantize in quotes")
      ->type_name("METHOD...");
  app.add_option_function<int64_t>(
         "--check-kl", [&o](int64_t windows) { o.check_kl = windows; },
         "Compare what was made with the base and its adapters over so many windows of the demo "
         "text [8]; 0: do not")
      ->check(between(0, 1e6))
      ->type_name("WINDOWS");
  app.add_option_function<double>(
         "--max-kl", [&o](double most) { o.max_kl = most; },
         "Exit with 6 if the mean KL is above this")
      ->check(between(0, 1e6))
      ->type_name("NATS");
  app.add_flag("--report", o.report, "Tell of every module what the merge kept");
  add_size(app, "--max-shard-size", o.max_shard_bytes,
           "Split the weights into files of at most this size [5GB]");
  add_adapter_making(app, o);
}

}  // namespace qwb
