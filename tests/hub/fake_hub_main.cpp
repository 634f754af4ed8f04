// The fake Hub as a program, for huggingface_hub itself and for measurements:
//   fake_hub ROOT [--rate BYTES_PER_SECOND] [--token TOKEN]
// ROOT holds models/ORG/NAME/... and datasets/ORG/NAME/... . Prints its endpoint, serves until
// stdin ends, then prints {"bytes": contents sent, "requests": [...]}. With --token, content is
// given to that token only.
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "tests/hub/fake_hub_helper.h"

namespace fs = std::filesystem;

namespace {

void add_repo(qwb::testing::FakeHub& hub, const std::string& kind, const std::string& id,
              const fs::path& folder, const std::string& token) {
  qwb::testing::FakeRepo& repo = hub.add(id, kind);
  repo.allowed_token = token;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const auto file = std::make_shared<qwb::MappedFile>(qwb::MappedFile::open(entry.path()));
    const std::string name = entry.path().filename().string();
    const bool lfs = name.ends_with(".safetensors") || name.ends_with(".bin");
    repo.put_view(entry.path().lexically_relative(folder).string(), file->bytes(), file, lfs);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string root, token;
  qwb::testing::FakeHub::Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--rate" && i + 1 < argc) {
      settings.bytes_per_second = std::stod(argv[++i]);
    } else if (word == "--token" && i + 1 < argc) {
      token = argv[++i];
    } else {
      root = word;
    }
  }
  qwb::testing::FakeHub hub(settings);
  for (const std::string kind : {"models", "datasets"}) {
    if (!fs::exists(fs::path(root) / kind)) continue;
    for (const auto& org : fs::directory_iterator(fs::path(root) / kind)) {
      for (const auto& repo : fs::directory_iterator(org.path()))
        add_repo(hub, kind, org.path().filename().string() + "/" + repo.path().filename().string(),
                 repo.path(), token);
    }
  }
  std::cout << hub.endpoint() << std::endl;
  while (std::getchar() != EOF) continue;
  qwb::Json requests = qwb::Json::array();
  for (const auto& seen : hub.seen())
    requests.push_back(seen.host + " " + seen.method + " " + seen.target);
  std::cout << qwb::Json({{"bytes", hub.bytes_sent()}, {"requests", requests}}).dump() << std::endl;
}
