// Gradient checkpointing (Chen et al., 2016): forget the activations of a part of the network and
// compute them again in the backward pass. Costs one more forward pass of that part, saves its
// activations.
//
//   Var h = checkpoint([&](std::span<const Var> in) { return std::vector<Var>{block(in[0], in[1])};
//   }, {x, c})[0];
//
// The autocast state is restored; random numbers repeat because they depend on keys alone.
// Parameters that hide in the closure get their gradients, even if no input wants one.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "tenun/autograd/var.h"

namespace tenun {

using CheckpointFn = std::function<std::vector<Var>(std::span<const Var>)>;
[[nodiscard]] std::vector<Var> checkpoint(CheckpointFn fn, std::vector<Var> inputs);

}  // namespace tenun
