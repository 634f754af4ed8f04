#include "tests/serve/demo_model_helper.h"

namespace qwb::serve {

const Tokenizer& demo_tokenizer() {
  static const Tokenizer tokenizer = Tokenizer::load(Path(QWB_SOURCE_DIR) / "recipes/demo/gpt2");
  return tokenizer;
}

ServedModel demo_model(const std::string& name, const Path& folder) {
  const Context context{.threads = Threads(2)};
  const Path place = folder.empty() ? Path(QWB_SOURCE_DIR) / "recipes/demo/gpt2" : folder;
  ServedModel model = served_model(name, load_model(place, {}, context), {});
  model.defaults.temperature = 0;
  model.chat = ChatTemplate::from_text(
      "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% if tools %}T{% endif %} "
      "{% endfor %}{% if add_generation_prompt %}[answer]{% endif %}",
      Json(), "test");
  model.created = 0;
  return model;
}

EngineLimits demo_limits() {
  return {.kv_bytes = int64_t{256} << 20, .slots = 4, .queue = 4, .piece = 16};
}

}  // namespace qwb::serve
