// Host twins of cuda/hopper_ptx.h; cuda/hopper.h says what each one does. They are written from the
// definitions of PTX, not from what the kernels need:
//  - barriers count arrivals and bytes by phases; their words in shared memory are guarded, so that
//    an overwritten or unmade barrier is a fault; a wait that never ends is one, too.
//  - a box lands when no thread can go on without it (or at once: TENUN_EMULATION_COPIES=eager).
//  - products decode their matrix descriptors (addresses, both offsets, the swizzle) against what
//    stands in shared memory at the wait (or at once); until the wait their sums are NaN, whatever
//    is written there is lost, and A is read from its registers as late as the product is made.
//  - the four warps of a warpgroup must start the same products and ask for the same registers.
#pragma once
#include "tenun/tests/cuda_emulation/tensor_core.h"

namespace tenun::emulation {

[[nodiscard]] unsigned shared_address(const void* p);

void barrier_init(uint64_t* b, int arrivals);
void barriers_ready();
void barrier_arrive(uint64_t* b);
void barrier_expect(uint64_t* b, int bytes);
void barrier_wait(uint64_t* b, int parity);

/// What tensor_map() of the emulation writes into its words.
struct BoxMap {
  const std::byte* p;
  int64_t sizes[4], strides[4];  ///< of columns, rows, heads, batches; strides in bytes
  int box[2];                    ///< columns, rows
};
void load_box(void* to, const BoxMap& map, uint64_t* b, const int (&at)[4]);

/// D, 64 x n, (+)= A B, A 64 x 16 and B 16 x n; this thread's part. A from registers, or from
/// shared memory (a null), row-major; B with 16 neighbours in a column, or, `wide`, in a row.
struct GroupProduct {
  Operand type;
  int n;
  float* d;
  const unsigned* a;
  uint64_t a_matrix, b_matrix;
  bool wide, add;
};
void wgmma(GroupProduct product);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int groups_left);
void set_registers(int count);

}  // namespace tenun::emulation

namespace tenun::TENUN_BACKEND {

using emulation::barrier_arrive;
using emulation::barrier_expect;
using emulation::barrier_init;
using emulation::barrier_wait;
using emulation::barriers_ready;
using emulation::shared_address;
using emulation::wgmma_commit;
using emulation::wgmma_fence;

inline void load_box(void* to, const TensorMap& map, uint64_t* b, int column, int row, int head,
                     int batch) {
  emulation::BoxMap m;
  static_assert(sizeof m <= sizeof map.words);
  std::memcpy(&m, map.words, sizeof m);
  emulation::load_box(to, m, b, {column, row, head, batch});
}
template <class T>
constexpr emulation::Operand kOperand =
    std::is_same_v<T, f16> ? emulation::Operand::f16 : emulation::Operand::bf16;
template <class T>
void wgmma_abt(float (&d)[16][4], uint64_t a, uint64_t b, bool add) {
  emulation::wgmma({kOperand<T>, 128, d[0], nullptr, a, b, false, add});
}
template <class T, int N>
void wgmma_ab(float (&d)[N][4], const unsigned (&a)[4], uint64_t b) {
  emulation::wgmma({kOperand<T>, 8 * N, d[0], a, 0, b, true, true});
}
template <int N>
void wgmma_wait() {
  emulation::wgmma_wait(N);
}
template <class T, int N>
void settle(T (&)[N][4]) {}
template <int N>
void more_registers() {
  emulation::set_registers(N);
}
template <int N>
void fewer_registers() {
  emulation::set_registers(N);
}

}  // namespace tenun::TENUN_BACKEND
