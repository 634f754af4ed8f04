// A model's GGUF files as one: splits put together, and the file of a folder found.
#include <algorithm>
#include <charconv>
#include <map>

#include "formats/gguf/file.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

constexpr std::string_view kSuffix = ".gguf";
constexpr size_t kTailSize = 20;  // "-00001-of-00003.gguf"

struct SplitName {
  std::string stem;  // before the tail
  int64_t number = 0, count = 0;

  std::string file(int64_t which) const {
    std::string tail = "-00000-of-00000.gguf";
    const auto put = [&](size_t end, int64_t value) {
      for (; value > 0; value /= 10) tail[--end] = static_cast<char>('0' + value % 10);
    };
    put(6, which);
    put(15, count);
    return stem + tail;
  }
};

// Nothing if the name is not that of a split.
std::optional<SplitName> parse_split_name(const std::string& name) {
  if (name.size() <= kTailSize || !name.ends_with(kSuffix)) return std::nullopt;
  const std::string tail = name.substr(name.size() - kTailSize);
  SplitName split{name.substr(0, name.size() - kTailSize), 0, 0};
  const auto number = [&](size_t begin, int64_t& value) {
    const char* end = tail.data() + begin + 5;
    const auto result = std::from_chars(tail.data() + begin, end, value);
    return result.ec == std::errc() && result.ptr == end && tail[begin] >= '0' &&
           tail[begin] <= '9';
  };
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || !number(1, split.number) ||
      !number(10, split.count))
    return std::nullopt;
  if (split.number < 1 || split.number > split.count) return std::nullopt;
  return split;
}

void check_split(const GgufHeader& header, int64_t index, int64_t count, const std::string& where) {
  const int64_t said = header.metadata.integer("split.count", where, count == 1 ? 1 : -1);
  const int64_t number = header.metadata.integer("split.no", where, count == 1 ? 0 : -1);
  if (said > 1 && count == 1)
    throw Error(ErrorKind::unsupported, "is one of " + std::to_string(said) + " splits", where,
                "splits are found by their names, NAME-00001-of-0000N.gguf: rename them so");
  if (std::max<int64_t>(said, 1) != count || number != index)
    throw Error(ErrorKind::failed, "is not the split that its name says", where,
                "the splits do not belong together; fetch them again");
}

}  // namespace

void GgufFile::add(const Path& path, Content& content) const {
  const std::string where = path.string();
  Part part;
  part.file = MappedFile::open(path);
  part.header = parse_gguf_header(part.file.bytes(), where);
  for (size_t i = 0; i < part.header.tensors.size(); ++i) {
    const std::string& name = part.header.tensors[i].name;
    if (!content.index.emplace(name, std::make_pair(content.parts.size(), i)).second)
      throw Error(ErrorKind::failed, "tensor '" + name + "' is in two splits", where,
                  "the model is damaged");
  }
  content.paths.push_back(path);
  content.parts.push_back(std::move(part));
}

GgufFile GgufFile::open(const Path& path) {
  const auto split = parse_split_name(path.filename().string());
  const int64_t count = split ? split->count : 1;
  auto content = std::make_shared<Content>();
  GgufFile file;
  for (int64_t i = 0; i < count; ++i) {
    const Path part = split ? path.parent_path() / split->file(i + 1) : path;
    std::error_code ignored;
    if (split && !fs::exists(part, ignored))
      throw Error(ErrorKind::not_found, "split " + part.filename().string() + " is missing",
                  path.parent_path().string(), "the download is incomplete: fetch it again");
    file.add(part, *content);
    check_split(content->parts.back().header, i, count, part.string());
  }
  const std::string where = content->paths.front().string();
  const auto tensors = static_cast<int64_t>(content->index.size());
  if (count > 1 &&
      content->parts.front().header.metadata.integer("split.tensors.count", where) != tensors)
    throw Error(ErrorKind::failed,
                "the splits hold another number of tensors than the first one says", where,
                "the splits do not belong together; fetch them again");
  file.content_ = std::move(content);
  return file;
}

std::vector<std::string> GgufFile::tensor_names() const {
  std::vector<std::string> names;
  for (const Part& part : content_->parts) {
    for (const GgufTensor& tensor : part.header.tensors) names.push_back(tensor.name);
  }
  return names;
}

const GgufTensor* GgufFile::find(const std::string& name) const {
  const auto it = content_->index.find(name);
  if (it == content_->index.end()) return nullptr;
  return &content_->parts[it->second.first].header.tensors[it->second.second];
}

Bytes GgufFile::bytes(const GgufTensor& tensor) const {
  const Part& part = content_->parts[content_->index.at(tensor.name).first];
  return part.file.bytes().subspan(static_cast<size_t>(part.header.data_begin + tensor.begin),
                                   static_cast<size_t>(tensor.bytes));
}

const Path& GgufFile::path_of(const GgufTensor& tensor) const {
  return content_->paths[content_->index.at(tensor.name).first];
}

int64_t GgufFile::file_bytes() const {
  int64_t total = 0;
  for (const Part& part : content_->parts) total += static_cast<int64_t>(part.file.bytes().size());
  return total;
}

bool is_gguf_file(const Path& path) {
  if (path.extension() == kSuffix) return true;
  try {
    return as_text(MappedFile::open(path).bytes()).starts_with("GGUF");
  } catch (const Error&) {
    return false;
  }
}

std::optional<Path> gguf_in_folder(const Path& folder) {
  std::map<std::string, std::string> models;  // stem -> first file
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (!name.ends_with(kSuffix) || name.starts_with("mmproj") ||
        !fs::is_regular_file(it->path(), ignored))
      continue;
    const auto split = parse_split_name(name);
    std::string& first = models[split ? split->stem + "/" + std::to_string(split->count) : name];
    if (first.empty() || name < first) first = name;
  }
  if (models.empty()) return std::nullopt;
  if (models.size() > 1) {
    std::string names;
    for (const auto& [stem, first] : models) names += (names.empty() ? "" : ", ") + first;
    throw Error(ErrorKind::usage, "several GGUF models: " + names, folder.string(),
                "name the file");
  }
  return folder / models.begin()->second;
}

}  // namespace qwb
