#include "lib/base/stop.h"

#include "lib/base/error.h"

namespace qwb {

void StopToken::check() const {
  if (requested()) throw Error(ErrorKind::interrupted, "interrupted");
}

}  // namespace qwb
