// The head of an answer as it goes over the wire.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qwb::serve {

struct AnswerHeadText {
  int status = 200;
  std::string type;
  std::optional<uint64_t> length;  // none: a stream
  bool chunked = false;            // a stream in pieces that tell their lengths
  bool keep_alive = true;
  std::string request_id;
  std::string cors_origin;  // empty: no other page may read it
  std::string cache = {};   // Cache-Control; empty: nothing is kept
  std::vector<std::pair<std::string, std::string>> more = {};
};

std::string head_text(const AnswerHeadText& head);
// One piece of a chunked answer.
std::string chunk_text(std::string_view data);

}  // namespace qwb::serve
