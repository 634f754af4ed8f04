#include "lib/jobs/wikitext.h"

#include <zip.h>

#include <cstdlib>
#include <memory>
#include <system_error>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/text_file.h"
#include "lib/hub/settings.h"
#include "lib/jobs/sources.h"

namespace qwb {
namespace {

constexpr char kWikitextMember[] = "wiki.test.raw";
constexpr char kWikitextZip[] = "wikitext-2-raw-v1.zip";
constexpr int64_t kLargestText = int64_t{64} << 20;  // it has 1.3 MB

bool is_present(const Path& file) {
  std::error_code ignored;
  return std::filesystem::exists(file, ignored);
}

EvaluationText zipped_wikitext(const Path& archive) {
  return wikitext_text(read_zip_member(archive, kWikitextMember, kLargestText), archive.string());
}

// pandas, which writes the one form, comes with whatever wrote the other.
std::string wikitext_advice() {
  std::string text =
      "with a network it comes by itself (ggml-org/ci on the Hub); else put wiki.test.raw, or "
      "wikitext-2-raw-v1.zip as it is, into a folder and name that folder by QWB_DATA";
  const Path cache = hub::HubSettings::from_environment().cache;
  for (const char* name : {"datasets--Salesforce--wikitext", "datasets--wikitext"}) {
    if (!is_present(cache / name)) continue;
    return text + "; the parquet file in " + (cache / name).string() +
           " is not read, but this makes a text of it: python3 -c \"import datasets; "
           "datasets.load_dataset('Salesforce/wikitext', 'wikitext-2-raw-v1', "
           "split='test').to_json('wikitext2.jsonl')\", to be put into QWB_DATA";
  }
  return text;
}

struct CloseZip {
  void operator()(zip_t* archive) const { zip_discard(archive); }
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};

}  // namespace

std::string read_zip_member(const Path& archive, const std::string& name_end, int64_t limit) {
  const auto damaged = [&](const std::string& what) {
    return Error(ErrorKind::failed, what, archive.string(), "download it again");
  };
  int code = 0;
  const std::unique_ptr<zip_t, CloseZip> zip(
      zip_open(archive.c_str(), ZIP_RDONLY | ZIP_CHECKCONS, &code));
  if (!zip) throw damaged("this is no zip file, or a damaged one");
  for (zip_int64_t i = 0; i < zip_get_num_entries(zip.get(), 0); ++i) {
    const auto index = static_cast<zip_uint64_t>(i);
    zip_stat_t stat;
    if (zip_stat_index(zip.get(), index, 0, &stat) != 0 || (stat.valid & ZIP_STAT_SIZE) == 0 ||
        !std::string(stat.name).ends_with(name_end))
      continue;
    if (stat.size > static_cast<zip_uint64_t>(limit))
      throw damaged(name_end + " in it is too large");
    const std::unique_ptr<zip_file_t, CloseZip> file(zip_fopen_index(zip.get(), index, 0));
    std::string text(stat.size, '\0');
    // The byte more lets libzip see the end, where it compares the checksum.
    char beyond = 0;
    if (!file ||
        zip_fread(file.get(), text.data(), stat.size) != static_cast<zip_int64_t>(stat.size) ||
        zip_fread(file.get(), &beyond, 1) != 0)
      throw damaged(name_end + " in it is damaged");
    return text;
  }
  throw damaged("it has no " + name_end);
}

EvaluationText wikitext2_text(const Context& context) {
  const char* data = std::getenv("QWB_DATA");
  if (data != nullptr && *data != '\0') {
    const Path folder = data;
    for (const char* name : {"wiki.test.raw", "wikitext-2-raw/wiki.test.raw"}) {
      if (is_present(folder / name))
        return wikitext_text(read_text_file(folder / name), (folder / name).string());
    }
    if (is_present(folder / kWikitextZip)) return zipped_wikitext(folder / kWikitextZip);
    const Path rows = folder / "wikitext2.jsonl";
    if (is_present(rows)) return wikitext_jsonl_text(read_text_file(rows), rows.string());
  }
  Path archive;
  try {
    archive = published_file("ggml-org/ci", kWikitextZip, context);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::not_found) throw;
    throw Error(ErrorKind::not_found, "the text 'wikitext2' is not here", error.what(),
                wikitext_advice());
  }
  return zipped_wikitext(archive);
}

}  // namespace qwb
