// What a class of the configuration can be used as.
#pragma once
#include <string>

namespace tenun {

enum class ClassKind {
  denoiser,
  trainer,
  sampler,
  scheduler,
  conditioner,
  vae,
  encoder,
  optimizer,
  lr_scheduler,
  callback,
  logger,
  dataset,
  plugin,
  guidance_fn,
  step_fn,
  loss_weight_fn,
  lms_transform_fn,
};

/// "sampler", "learning rate schedule" ...
[[nodiscard]] const char* kind_name(ClassKind kind);
/// "a sampler", "an optimizer" ...
[[nodiscard]] std::string kind_phrase(ClassKind kind);
/// True for kinds that name functions: written as a bare dotted string.
[[nodiscard]] bool is_function_kind(ClassKind kind);

}  // namespace tenun
