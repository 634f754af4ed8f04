#include "lib/tokenizer/model.h"

#include "lib/base/error.h"

namespace qwb::tokenizer {

std::string byte_token(unsigned char byte) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
}

std::unique_ptr<Model> make_model(const TokenizerFile& file, const std::string& where) {
  if (!json_has(file.root, "model"))
    throw Error(ErrorKind::failed, "'model' is missing", where, "is this a tokenizer.json?");
  const Json& model = file.root["model"];
  if (!model.is_object()) throw Error(ErrorKind::failed, "'model' must be an object", where);
  // Files from before 2021 have no type: a list of scored pieces is a Unigram, merges make a BPE.
  const std::string guess = file.scored                ? "Unigram"
                            : model.contains("merges") ? "BPE"
                                                       : "without a type";
  const std::string type = json_string(model, "type", where, guess);
  if (type == "BPE") return make_bpe(file, where);
  if (type == "Unigram") return make_unigram(file, where);
  throw Error(ErrorKind::unsupported,
              "the model type '" + type + "' is not known (BPE and Unigram are)", where);
}

}  // namespace qwb::tokenizer
