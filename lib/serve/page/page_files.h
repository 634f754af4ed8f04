// The files of the page, which the build puts into the program (embed.cmake).
#pragma once

#include <string_view>
#include <vector>

namespace qwb::serve {

struct PageFile {
  std::string_view name;  // "index.html"
  std::string_view type;  // "text/html; charset=utf-8"
  std::string_view etag;  // of its content, with the quotes
  std::string_view content;
};

// In the order of their names.
const std::vector<PageFile>& page_files();

}  // namespace qwb::serve
