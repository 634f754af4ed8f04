// A tool's manual from its page tools/NAME.md, which people write, and its declaration. The page's
// section "Options" is made from the declaration in both directions: the page holds it for readers
// of the sources, and the manual is set from the declaration itself.
//
// A page is Markdown in little: "#" to "###" headings, paragraphs, "- " lists, blocks indented by
// four spaces, `code`, **bold**, [text](target).
#pragma once

#include <string>

#include "tools/manual/declaration.h"

namespace qwb {

// The page with its section "Options" as the declaration has it now. Throws `failed` for a page
// without that section.
std::string page_with_options(const std::string& page, const Declaration& declaration);

struct ManualHead {
  std::string version;  // "0.1.0"
  std::string date;     // "2026-11-28"; may be empty
};
// The page as a manual of section 1, for man (roff with the man macros).
std::string manual_roff(const std::string& page, const Declaration& declaration,
                        const ManualHead& head);

}  // namespace qwb
