// Resolves which variable a name refers to. Jinja decides that before it renders, and so
// differently from a look-up at run time: a name that a part of the template sets anywhere is that
// part's own from its beginning, even for the loops inside it. This follows jinja2/idtracking.py
// and the frames of jinja2/compiler.py.
#pragma once

#include "lib/chat/jinja/ast.h"

namespace qwb::jinja {

// Fills the places, loads and slots of the tree. Refuses what Jinja's compiler refuses: unknown
// filters and tests (but inside `if`), break and continue outside of a loop, names that were never
// seen. `line` is set at the place.
void resolve_names(Template& made, int& line);

}  // namespace qwb::jinja
