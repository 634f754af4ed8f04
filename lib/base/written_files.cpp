#include "lib/base/written_files.h"

#include <algorithm>
#include <sstream>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/file_hash.h"
#include "lib/base/parallel.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

constexpr size_t kHash = 32;  // hex digits

bool is_list(const std::string& name) {
  return name == kArtifactSums || name == kWrittenFiles;
}

// A name that stays inside the folder.
bool is_inner_name(const std::string& name) {
  const Path path(name);
  return !name.empty() && !path.is_absolute() && path.lexically_normal() == path &&
         std::none_of(path.begin(), path.end(),
                      [](const Path& part) { return part == ".." || part == "."; });
}

// Those of folders within too, as "folder/name".
std::vector<std::string> listed_files(const Path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).generic_string();
    if (entry.is_regular_file() && !is_list(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

FileHashes hash_named(const Path& folder, const std::vector<std::string>& names,
                      const Context& context) {
  std::vector<std::string> hashes(names.size());
  parallel_for(context, static_cast<int64_t>(names.size()),
               [&](int64_t i) { hashes[i] = written_file_hash(folder / names[i], context.stop); });
  FileHashes files;
  for (size_t i = 0; i < names.size(); ++i) files.emplace(names[i], std::move(hashes[i]));
  return files;
}

Path list_of(const Path& folder) {
  std::error_code ignored;
  for (const char* name : {kArtifactSums, kWrittenFiles}) {
    if (fs::is_regular_file(fs::symlink_status(folder / name, ignored))) return folder / name;
  }
  return {};
}

std::string changed_file(const Path& folder, const FileHashes& files, const StopToken& stop) {
  for (const auto& [name, hash] : files) {
    std::error_code ignored;
    if (fs::exists(folder / name, ignored) && written_file_hash(folder / name, stop) != hash)
      return name + " was changed since qwb wrote it";
  }
  return {};
}

}  // namespace

FileHashes hash_files(const Path& folder, const Context& context, FileHashes known) {
  std::vector<std::string> names = listed_files(folder);
  std::erase_if(names, [&](const std::string& name) { return known.contains(name); });
  known.merge(hash_named(folder, names, context));
  return known;
}

std::future<FileHashes> hash_files_beside(const Path& folder, const Context& context) {
  return std::async(std::launch::async, [folder, context, names = listed_files(folder)] {
    return hash_named(folder, names, context);
  });
}

std::string written_files_text(const FileHashes& files) {
  std::string text;
  for (const auto& [name, hash] : files) text += hash + "  " + name + "\n";
  return text;
}

FileHashes read_written_files(const Path& list) {
  std::istringstream lines(read_text(list, 1 << 26));
  FileHashes files;
  for (std::string line; std::getline(lines, line);) {
    if (line.size() < kHash + 3 || line.substr(kHash, 2) != "  " ||
        !is_inner_name(line.substr(kHash + 2)))
      throw Error(ErrorKind::failed, "'" + line.substr(0, 80) + "' is not a checksum line",
                  list.string());
    files.emplace(line.substr(kHash + 2), line.substr(0, kHash));
  }
  if (files.empty()) throw Error(ErrorKind::failed, "is empty", list.string());
  return files;
}

std::string own_folder_problem(const Path& folder, const StopToken& stop) {
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(folder, error))) return "it is no folder";
  if (fs::is_empty(folder, error)) return {};
  const Path list = list_of(folder);
  if (list.empty()) return "qwb did not write it: it has neither qwb.sums nor .qwb-files";
  try {
    const auto files = read_written_files(list);
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      const std::string name = entry.path().lexically_relative(folder).generic_string();
      const bool holds = entry.is_directory() && !entry.is_symlink() &&
                         std::any_of(files.begin(), files.end(), [&](const auto& file) {
                           return file.first.starts_with(name + "/");
                         });
      if (holds) continue;
      if (!entry.is_regular_file() || entry.is_symlink() ||
          !(is_list(name) || files.contains(name)))
        return name + " in it is not of qwb's making";
    }
    return changed_file(folder, files, stop);
  } catch (const Error& failure) {
    if (failure.kind() == ErrorKind::interrupted) throw;
    return failure.what();
  } catch (const fs::filesystem_error& failure) {
    return "it cannot be read: " + failure.code().message();
  }
}

void require_own_folder(const Path& folder, const StopToken& stop) {
  const std::string problem = own_folder_problem(folder, stop);
  if (problem.empty()) return;
  throw Error(ErrorKind::usage, "the folder stays, --force or not: " + problem, folder.string(),
              "choose another place, or move it away yourself");
}

}  // namespace qwb
