// A conversation on the terminal, line by line.
#pragma once

#include "tools/chat/options.h"
#include "tools/common/tool.h"

namespace qwb {

// Until the user leaves. Throws interrupted when a signal ends the tool.
void talk(const ChatOptions& options, Tool& tool);
// One answer to what the command line and standard input give.
void answer_once(const ChatOptions& options, Tool& tool);

}  // namespace qwb
