#include "tools/common/model_flags.h"

namespace qwb {

void add_model(CLI::App& app, std::string& model, const std::string& help) {
  auto* flag = app.add_option("--model", model, help)->type_name("MODEL");
  app.add_option("MODEL", model, "the same as --model")->type_name("")->excludes(flag);
}

void add_models(CLI::App& app, std::vector<std::string>& models, const std::string& name,
                const std::string& help) {
  const auto add = [&models](const std::vector<std::string>& more) {
    models.insert(models.end(), more.begin(), more.end());
  };
  app.add_option_function<std::vector<std::string>>(name, add, help)->type_name("");
  app.add_option_function<std::vector<std::string>>("--model", add,
                                                    "the same as " + name + ", may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name("MODEL");
}

}  // namespace qwb
