// From rows to documents: what counts, what is cut, what is refused; groups and their order.
#include "lib/tune/documents.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <set>

#include "lib/base/error.h"
#include "lib/chat/chat_template.h"
#include "lib/tune/batches.h"

namespace qwb {
namespace {

const Tokenizer& demo_tokenizer() {
  static const Tokenizer tokenizer = Tokenizer::load(Path(QWB_SOURCE_DIR) / "recipes/demo/llama");
  return tokenizer;
}

RenderTurns template_of(const std::string& text) {
  const ChatTemplate chat = ChatTemplate::from_text(text, Json(), "test");
  return [chat](const Conversation& conversation, bool prompt) {
    ChatTemplate::Options options = chat_options(conversation);
    options.add_generation_prompt = prompt;
    return chat.render(conversation.messages, options);
  };
}

constexpr const char* kPlain =
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";

class Documents : public testing::Test {
 protected:
  Documents()
      : file_(Path(testing::TempDir()) / ("qwb_documents_" + std::to_string(getpid()) + ".jsonl")) {
  }
  ~Documents() override { std::filesystem::remove(file_); }
  DocumentSet read(const std::string& lines, DocumentRequest request = {},
                   const std::string& text = kPlain) {
    std::ofstream(file_) << lines;
    request.file = file_;
    if (request.end_tokens.empty()) request.end_tokens = {2};
    return read_documents(request, demo_tokenizer(), template_of(text), {});
  }
  static ErrorKind kind_of(const std::function<void()>& body) {
    try {
      body();
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::quality_gate;
  }
  Path file_;
};

constexpr const char* kTwoTurns =
    R"({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},
     {"role": "user", "content": "three"}, {"role": "assistant", "content": "four"}]})";

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text + "\n";
}

TEST_F(Documents, AnswersCountAndNothingElse) {
  const DocumentSet set = read(one_line(kTwoTurns));
  ASSERT_EQ(set.documents.size(), 1u);
  EXPECT_EQ(set.answers, 2);
  EXPECT_EQ(set.ended, 0);  // this template writes no end token
  EXPECT_TRUE(set.has_turns);
  const TrainingDocument& document = set.documents[0];
  // " two" is one token with the space before it, which stands at the end of the prompt.
  std::string learned;
  for (size_t i = 0; i < document.tokens.size(); ++i) {
    if (document.weights[i] > 0)
      learned += demo_tokenizer().decode(std::span(document.tokens).subspan(i, 1), false);
  }
  EXPECT_EQ(learned.find("one"), std::string::npos) << learned;
  EXPECT_EQ(learned.find("user"), std::string::npos) << learned;
  EXPECT_EQ(learned.find("three"), std::string::npos) << learned;
  EXPECT_NE(learned.find("two"), std::string::npos) << learned;
  EXPECT_NE(learned.find("four"), std::string::npos) << learned;
  EXPECT_NE(marked_text(document, demo_tokenizer()).find("[[user: one"), std::string::npos);
}

TEST_F(Documents, PromptsCountWhatTheyAreSaidTo) {
  DocumentRequest request;
  request.prompt_weight = 0.25;
  const DocumentSet part = read(one_line(kTwoTurns), request);
  const std::set<float> weights(part.documents[0].weights.begin(), part.documents[0].weights.end());
  EXPECT_EQ(weights, (std::set<float>{0, 0.25f, 1}));
  request.prompt_weight = 1;
  const DocumentSet all = read(one_line(kTwoTurns), request);
  EXPECT_EQ(all.documents[0].supervised(), std::ssize(all.documents[0].tokens) - 1);
  EXPECT_NE(all.hash, part.hash);
}

TEST_F(Documents, TextsCountAndEnd) {
  const DocumentSet set = read("{\"text\": \"a small text\"}\n\n{\"text\": \"b\"}\n");
  ASSERT_EQ(set.documents.size(), 2u);
  const TrainingDocument& document = set.documents[0];
  EXPECT_EQ(document.tokens.back(), 2);
  EXPECT_EQ(document.weights.front(), 0);
  EXPECT_EQ(document.supervised(), std::ssize(document.tokens) - 1);
  EXPECT_EQ(set.documents[1].row, 3);
}

TEST_F(Documents, LongOnesAreCut) {
  DocumentRequest request;
  request.length = 6;
  const std::string later = one_line(kTwoTurns);
  const std::string rows = "{\"text\": \"a text of more than six tokens, surely\"}\n";
  EXPECT_EQ(read(rows, request).cut, 1);
  EXPECT_EQ(std::ssize(read(rows, request).documents[0].tokens), 6);
  // Nothing of the answer is left.
  request.length = 2;
  const DocumentSet set = read(rows + later, request);
  EXPECT_EQ(set.left_out, 1);
  EXPECT_EQ(kind_of([&] { read(later, request); }), ErrorKind::usage);
}

TEST_F(Documents, WhatCannotBeToldIsRefused) {
  // This one leaves out what earlier answers said.
  const std::string forgets =
      "{% for m in messages %}{% if loop.last or m['role'] == 'user' %}{{ m['content'] }}{% endif "
      "%}{% endfor %}";
  EXPECT_EQ(kind_of([&] { read(one_line(kTwoTurns), {}, forgets); }), ErrorKind::unsupported);
  EXPECT_EQ(kind_of([&] { read("{\"id\": 3}\n"); }), ErrorKind::failed);
  EXPECT_EQ(kind_of([&] { read(R"({"text": "a", "prompt": "b", "completion": "c"})"); }),
            ErrorKind::unsupported);
  EXPECT_EQ(kind_of([&] { read("\n"); }), ErrorKind::usage);
}

std::vector<TrainingDocument> of_lengths(const std::vector<size_t>& lengths) {
  std::vector<TrainingDocument> documents;
  for (const size_t length : lengths) {
    TrainingDocument document;
    document.tokens.assign(length, static_cast<int32_t>(length));
    document.weights.assign(length, 1);
    documents.push_back(std::move(document));
  }
  return documents;
}

TEST(Batches, GroupsHoldWholeDocuments) {
  const auto documents = of_lengths({3, 9, 4, 6, 20, 1});
  const std::vector<size_t> chosen = {0, 1, 2, 3, 4, 5};
  using Groups = std::vector<std::vector<size_t>>;
  EXPECT_EQ(packed(documents, chosen, 10, true), (Groups{{4}, {1, 5}, {3, 2}, {0}}));
  EXPECT_EQ(packed(documents, {2, 0}, 10, false), (Groups{{2}, {0}}));
}

TEST(Batches, NoDocumentPredictsTheNextOnesFirstToken) {
  const auto documents = of_lengths({3, 2});
  const TrainingRows rows = rows_of(documents, {0, 1}, 0.5f, 7, 0);
  std::vector<int64_t> places;
  for (const TrainingRows::Target& target : rows.targets) {
    places.push_back(target.row);
    EXPECT_EQ(target.factor, 0.5f);
  }
  EXPECT_EQ(places, (std::vector<int64_t>{0, 1, 3}));
  EXPECT_EQ(rows.documents, (std::vector<int64_t>{3, 2}));
  // Keys are those of the document, wherever it stands.
  const TrainingRows alone = rows_of(documents, {1}, 0.5f, 7, 0);
  EXPECT_EQ(alone.keys[1], rows.keys[4]);
  EXPECT_NE(rows.keys[0], rows.keys[3]);
}

TEST(Batches, EveryEpochTakesAllInAnotherOrder) {
  DocumentOrder order(10, 1), other(10, 2);
  const std::vector<size_t> first = order.take(0, 10), second = order.take(10, 10);
  EXPECT_EQ(std::set<size_t>(first.begin(), first.end()).size(), 10u);
  EXPECT_NE(first, second);
  EXPECT_NE(first, other.take(0, 10));
  std::vector<size_t> across = order.take(8, 4);
  EXPECT_EQ(across, (std::vector<size_t>{first[8], first[9], second[0], second[1]}));
}

TEST(Batches, WhatIsHeldOutIsAlwaysTheSame) {
  DocumentSet all;
  all.documents = of_lengths({1, 2, 3, 4, 5, 6, 7, 8});
  const HeldOut a = hold_out(all, 3), b = hold_out(all, 3);
  EXPECT_EQ(a.held.documents.size(), 3u);
  EXPECT_EQ(a.train.documents.size(), 5u);
  EXPECT_EQ(a.held.hash, b.held.hash);
  EXPECT_NE(a.held.hash, a.train.hash);
}

}  // namespace
}  // namespace qwb
