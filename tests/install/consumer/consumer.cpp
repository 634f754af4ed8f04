// Another project: what kind of model is in the artifact of argv[1]?
#include <iostream>

#include "formats/registry.h"
#include "lib/model/config.h"
#include "lib/quantize/method.h"

int main(int, char** argv) {
  const qwb::OpenModel artifact = qwb::open_model(argv[1]);
  const qwb::ModelConfig config = qwb::parse_config(artifact.config, argv[1]);
  const std::string method = qwb::json_string(artifact.manifest, "method", argv[1]);
  std::cout << config.architecture << ", " << config.layers << " blocks, method "
            << qwb::find_method(method).name() << "\n";
}
