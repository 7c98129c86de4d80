// What attention holds beyond its inputs, its outputs, their gradients and what the tape keeps:
// linear in the number of tokens for every method.
#include <doctest/doctest.h>

#include <string>

#include "tenun/core/random.h"
#include "tenun/ops/attention/attention.h"
#include "tenun/tools/attention_inputs.h"
#include "tenun/tools/bench_attention.h"

using namespace tenun;
using namespace tenun::tools;

namespace {

AttentionMemory memory_at(AttentionMethod method, int64_t n, Passes d, Quant quant = {},
                          int64_t block = 32) {
  const AttentionLayer l = random_layer(1, 2, n, 16, 1);
  AttentionCase c{.spec = {}, .params = {}, .q = l.q, .k = l.k, .v = l.v};
  c.spec.method = method;
  c.spec.block_q = c.spec.block_k = c.spec.compression = block;
  // Four blocks a row at any length.
  set_sparsity(c.spec, 1 - 4.0 * static_cast<double>(block) / static_cast<double>(n), n);
  c.spec.quant = quant;
  c.params = fill_params(c.spec, c.q, {}, 1);
  return attention_memory(c, d);
}

// A mask has a byte for each pair of blocks, with vmoba for each pair of a token and a block: not a
// matrix of tokens, but seen in sums.
int64_t mask_bytes(AttentionMethod method, int64_t n) {
  return 2 * (method == AttentionMethod::vmoba ? n : n / 32) * (n / 32);
}

void check_linear(AttentionMethod method, Passes d, Quant quant = {}) {
  constexpr int64_t kSmall = 1024, kLarge = 4096;
  const std::string what(name(method));
  INFO(what, d == Passes::both ? ", forward and backward" : ", forward");
  const AttentionMemory small = memory_at(method, kSmall, d, quant),
                        large = memory_at(method, kLarge, d, quant);
  // Four times the tokens: four times the memory, the block masks (f32 at most) apart; a matrix of
  // tokens would be 128 MiB.
  const int64_t masks = 8 * mask_bytes(method, kLarge);
  CHECK(large.scratch <= 5 * small.scratch + masks);
  CHECK(large.saved <= 5 * small.saved + masks);
  const int64_t tokens = 2 * kLarge * 16 * 4;  // bytes of q
  CHECK(large.scratch <= 16 * tokens + masks);
  CHECK(large.saved <= 8 * tokens + masks);
}

}  // namespace

TEST_SUITE("ops_attention_memory") {
  TEST_CASE("memory grows with the tokens, not with their square") {
    for (const AttentionMethod m : available_attention_methods()) {
      if (m == AttentionMethod::automatic) continue;  // one of the others
      check_linear(m, Passes::forward);
      check_linear(m, Passes::both);
    }
    check_linear(AttentionMethod::sla2, Passes::both, {LowBit::int8, LowBit::int8});
  }

  TEST_CASE("the measurement sees a matrix of tokens") {
    // Blocks of one token make the block mask one: the test above would notice another.
    const Passes d = Passes::forward;
    const AttentionMemory small = memory_at(AttentionMethod::sla2, 512, d, {}, 1),
                          large = memory_at(AttentionMethod::sla2, 2048, d, {}, 1);
    CHECK(large.scratch > 8 * small.scratch);
  }
}
