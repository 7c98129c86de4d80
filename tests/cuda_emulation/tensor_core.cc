#include "tenun/tests/cuda_emulation/tensor_core.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

namespace tenun::emulation {
namespace {

// Eight columns of a tile: a compiler makes little of the same loops over floats.
template <typename T>
struct Columns {
  typedef T type __attribute__((vector_size(8 * sizeof(T))));
};
template <typename T>
using Row = typename Columns<T>::type;

struct Product {
  void* d;
  const unsigned* a;
  unsigned b[2];
};

float e4m3_value(unsigned code) {
  const unsigned exponent = code >> 3 & 15u, mantissa = code & 7u;
  const float size = (code & 0x7fu) == 0x7fu
                         ? NAN
                         : std::ldexp(static_cast<float>(exponent > 0 ? 8 + mantissa : mantissa),
                                      static_cast<int>(exponent > 0 ? exponent : 1) - 10);
  return (code & 0x80u) != 0 ? -size : size;
}

void add(Row<int>& a, const Row<int>& b) { a += b; }
/// Rounded towards zero: back by a bit where what rounding took away has the other sign.
void add(Row<float>& a, const Row<float>& b) {
  const Row<float> s = a + b, part = s - a, lost = (a - (s - part)) + (b - part);
  const Row<int> outwards = ((s > 0) & (lost < 0)) | ((s < 0) & (lost > 0));  // -1 where it holds
  a = std::bit_cast<Row<float>>(std::bit_cast<Row<int>>(s) + outwards);
}

// d += a b, products of a tile added first.
template <typename T, int depth>
void multiply(Row<T> (&d)[16], const T (&a)[16][depth], const Row<T> (&b)[depth]) {
  for (int i = 0; i < 16; ++i) {
    Row<T> c = {};
    for (int k = 0; k < depth; ++k) c += a[i][k] * b[k];
    add(d[i], c);
  }
}

// The sums of a tile: a lane has two neighbours of row g and two of row g + 8.
template <typename Payload, typename T>
void gather_sums(void* const lanes[32], Row<T> (&d)[16]) {
  for (int l = 0; l < 32; ++l)
    for (int e = 0; e < 4; ++e)
      d[(l >> 2) + e / 2 * 8][2 * (l & 3) + e % 2] =
          static_cast<const T*>(static_cast<const Payload*>(lanes[l])->d)[e];
}
template <typename Payload, typename T>
void scatter_sums(void* const lanes[32], const Row<T> (&d)[16]) {
  for (int l = 0; l < 32; ++l)
    for (int e = 0; e < 4; ++e)
      static_cast<T*>(static_cast<const Payload*>(lanes[l])->d)[e] =
          d[(l >> 2) + e / 2 * 8][2 * (l & 3) + e % 2];
}

// Elements of 32 bits: k = 8; of 16 bits: k = 16, two in a register; of 8 bits: k = 32, four.
template <Operand type>
void mma_lanes(void* const lanes[32], uint32_t) {
  constexpr int kPer = type == Operand::tf32                          ? 1
                       : type == Operand::s8 || type == Operand::e4m3 ? 4
                                                                      : 2;
  constexpr int kDepth = 8 * kPer;
  using Sum = std::conditional_t<type == Operand::s8, int, float>;
  using Bits =
      std::conditional_t<kPer == 1, uint32_t, std::conditional_t<kPer == 2, uint16_t, uint8_t>>;
  const auto value = [](Bits bits) -> Sum {
    if constexpr (type == Operand::s8)
      return static_cast<int8_t>(bits);
    else if constexpr (type == Operand::tf32)
      return std::bit_cast<float>(bits & ~0x1fffu);  // the hardware does not look at the rest
    else if constexpr (type == Operand::e4m3)
      return e4m3_value(bits);
    else if constexpr (type == Operand::bf16)
      return std::bit_cast<bf16>(bits);
    else
      return std::bit_cast<f16>(bits);
  };
  Bits a_bits[16][kDepth], b_bits[8][kDepth];  // b by columns
  unsigned any_a = 0, any_b = 0;
  for (int l = 0; l < 32; ++l) {
    const auto& p = *static_cast<const Product*>(lanes[l]);
    const int g = l >> 2, t = (l & 3) * kPer;
    for (int r = 0; r < 4; ++r) {
      std::memcpy(&a_bits[g + (r & 1) * 8][t + (r >> 1) * (kDepth / 2)], &p.a[r], 4);
      any_a |= p.a[r];
    }
    for (int r = 0; r < 2; ++r) {
      std::memcpy(&b_bits[g][t + r * (kDepth / 2)], &p.b[r], 4);
      any_b |= p.b[r];
    }
  }
  if ((any_a | any_b) == 0) return;  // what lies behind the head size
  Sum a[16][kDepth];
  Row<Sum> b[kDepth], d[16];
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < kDepth; ++k) a[i][k] = value(a_bits[i][k]);
  for (int j = 0; j < 8; ++j)
    for (int k = 0; k < kDepth; ++k) b[k][j] = value(b_bits[j][k]);
  gather_sums<Product, Sum>(lanes, d);
  multiply<Sum>(d, a, b);
  scatter_sums<Product, Sum>(lanes, d);
}

struct Pairs {
  float* d;
  const unsigned *a, *a_rest, *b, *b_rest;
};
// As mma_lanes three times, with the operands and sums gathered once.
void mma_pairs_lanes(void* const lanes[32], uint32_t) {
  const auto value = [](unsigned bits) { return std::bit_cast<float>(bits & ~0x1fffu); };
  // Channels behind the head size are zeros: nothing to add, unless a factor is not finite.
  unsigned any_a = 0, any_b = 0;
  bool finite = true;
  for (int l = 0; l < 32; ++l) {
    const auto& p = *static_cast<const Pairs*>(lanes[l]);
    const auto look = [&](unsigned& any, unsigned bits) {
      any |= bits & 0x7fffffffu;
      finite = finite && (bits & 0x7f800000u) != 0x7f800000u;
    };
    for (int r = 0; r < 4; ++r) look(any_a, p.a[r]), look(any_a, p.a_rest[r]);
    for (int r = 0; r < 2; ++r) look(any_b, p.b[r]), look(any_b, p.b_rest[r]);
  }
  if (finite && (any_a == 0 || any_b == 0)) return;
  float a[2][16][8];
  Row<float> b[2][8], d[16];
  for (int l = 0; l < 32; ++l) {
    const auto& p = *static_cast<const Pairs*>(lanes[l]);
    const int g = l >> 2, t = l & 3;
    for (int r = 0; r < 4; ++r) {
      const int row = g + (r & 1) * 8, k = t + (r >> 1) * 4;
      a[0][row][k] = value(p.a[r]), a[1][row][k] = value(p.a_rest[r]);
    }
    for (int r = 0; r < 2; ++r)
      b[0][t + r * 4][g] = value(p.b[r]), b[1][t + r * 4][g] = value(p.b_rest[r]);
  }
  gather_sums<Pairs, float>(lanes, d);
  multiply<float>(d, a[1], b[0]);
  multiply<float>(d, a[0], b[1]);
  multiply<float>(d, a[0], b[0]);
  scatter_sums<Pairs, float>(lanes, d);
}

struct MatrixLoad {
  const void* row;
  unsigned* r;
};
// Lane 8 i + g has the address of row g of matrix i (8 x 8 elements of 16 bits).
template <bool transposed>
void ldmatrix_lanes(void* const lanes[32], uint32_t) {
  const auto row = [&](int i) {
    return static_cast<const char*>(static_cast<const MatrixLoad*>(lanes[i])->row);
  };
  for (int i = 0; i < 32; ++i)
    if (reinterpret_cast<uintptr_t>(row(i)) % 16 != 0)
      fault("ldmatrix: a row that is not aligned to 16 bytes");
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i) {
      unsigned& out = static_cast<const MatrixLoad*>(lanes[l])->r[i];
      const int g = l / 4, t = l & 3;
      if constexpr (transposed) {
        uint16_t low = 0, high = 0;
        std::memcpy(&low, row(i * 8 + 2 * t) + g * 2, 2);
        std::memcpy(&high, row(i * 8 + 2 * t + 1) + g * 2, 2);
        out = low | static_cast<unsigned>(high) << 16;
      } else {
        std::memcpy(&out, row(i * 8 + g) + t * 4, 4);
      }
    }
}

void land(const Copy& c) {
  if (c.valid)
    std::memcpy(c.to, c.from, 16);
  else
    std::memset(c.to, 0, 16);
}

}  // namespace

void mma(Operand type, void* d, const unsigned (&a)[4], unsigned b0, unsigned b1) {
  Product p{d, a, {b0, b1}};
  warp_barrier(~0u,
               type == Operand::bf16   ? mma_lanes<Operand::bf16>
               : type == Operand::f16  ? mma_lanes<Operand::f16>
               : type == Operand::s8   ? mma_lanes<Operand::s8>
               : type == Operand::tf32 ? mma_lanes<Operand::tf32>
                                       : mma_lanes<Operand::e4m3>,
               &p);
}
void mma_tf32_pairs(float* d, const unsigned (&a)[4], const unsigned (&a_rest)[4],
                    const unsigned (&b)[2], const unsigned (&b_rest)[2]) {
  Pairs p{d, a, a_rest, b, b_rest};
  warp_barrier(~0u, mma_pairs_lanes, &p);
}
void ldmatrix(unsigned (&r)[4], const void* row, bool transposed) {
  MatrixLoad m{row, r};
  warp_barrier(~0u, transposed ? ldmatrix_lanes<true> : ldmatrix_lanes<false>, &m);
}

void copy_async(const Copy& copy) {
  if (reinterpret_cast<uintptr_t>(copy.to) % 16 != 0 ||
      reinterpret_cast<uintptr_t>(copy.from) % 16 != 0)
    fault("cp.async: an address that is not aligned to 16 bytes");
  if (settings().eager_copies)
    land(copy);
  else
    self().open_copies.push_back(copy);
}
void commit_copies() {
  Fiber& f = self();
  f.copy_groups.push_back(std::move(f.open_copies));
  f.open_copies.clear();
}
void wait_copies(size_t groups_left) {
  auto& groups = self().copy_groups;
  while (groups.size() > groups_left) {
    for (const Copy& c : groups.front()) land(c);
    groups.erase(groups.begin());
  }
}

}  // namespace tenun::emulation
