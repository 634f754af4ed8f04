#include "lib/base/progress.h"

namespace qwb {

Progress& silent_progress() {
  static Progress silent;
  return silent;
}

}  // namespace qwb
