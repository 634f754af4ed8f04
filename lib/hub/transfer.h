// Downloads one range of a file from the Hub into a Partial: follows redirects, and checks the
// answer against what the Hub announced before it takes a byte.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/hub/http.h"
#include "lib/hub/names.h"
#include "lib/hub/partial.h"
#include "lib/hub/route.h"

namespace qwb::hub {

// A file being downloaded, as its transfers share it.
struct TransferSource {
  const HubSettings* settings = nullptr;
  const RepoName* repo = nullptr;
  std::string name;  // for messages
  Url url;           // on the Hub
  std::string etag;
  Partial* partial = nullptr;
  Url direct;  // where the bytes are (a signed URL, say), known after the first answer; may expire
  bool whole =
      false;       // the server ignores ranges: only the whole file can be had, from its beginning
  int active = 0;  // transfers under way
  std::function<void(int64_t)> arrived;  // told of new bytes
};

class Transfer : public HttpHandler {
 public:
  struct Result {
    bool complete = false;         // everything asked for is there
    std::optional<Error> failure;  // otherwise: why, if trying again may help
    std::optional<double> wait;    // seconds that the server asked for
    int64_t fresh = 0;             // new bytes
  };

  // Fetches [begin, end) of the source; the whole file if source.whole. Starts at once.
  Transfer(Http& http, TransferSource& source, int64_t piece, int64_t begin, int64_t end);
  ~Transfer() override;
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // Set once it has ended. Errors that another try cannot cure are thrown out of Http::step()
  // instead: no access, no such file, a full disk, ChangedOnServer.
  const std::optional<Result>& result() const { return result_; }
  int64_t piece() const { return piece_; }
  // Hands what has come over to the Partial.
  void flush();

  bool on_head(const HttpHead& head) override;
  bool on_data(Bytes data) override;
  void on_end(const HttpEnd& end) override;

 private:
  enum class Body { content, words };  // the file's bytes, or a message of the server
  void send();
  void check_announcement(const HttpHead& head) const;
  bool begin_whole(const HttpHead& head);
  bool begin_range(const HttpHead& head);
  bool refuse(const std::string& what);
  void end_with_status();
  void end_content(const HttpEnd& end);
  void end(Result result);

  Http& http_;
  TransferSource& source_;
  const int64_t piece_;
  int64_t position_;  // of the next byte of the answer
  int64_t end_;
  Route route_;
  bool from_direct_;
  bool ranged_ = false;
  HttpHead head_;
  Body body_ = Body::words;
  std::string words_;
  std::string refusal_;  // why the answer was not taken
  std::vector<std::byte> buffer_;
  int64_t fresh_ = 0;
  std::optional<Result> result_;
};

}  // namespace qwb::hub
