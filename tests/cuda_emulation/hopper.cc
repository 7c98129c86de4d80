#include "tenun/cuda/hopper.h"

#include <array>
#include <map>
#include <optional>

#include "tenun/core/check.h"

namespace tenun::emulation {
namespace {

constexpr int kDepth = 16;

struct Barrier {
  int arrivals = 0, missing = 0;
  int64_t bytes = 0;  ///< expected and not landed
  unsigned phase = 0;
  bool known = false;  ///< to the unit that loads boxes
};

// Early boxes meet early products, and in a shuffled order late ones: those see what is
// overwritten.
bool products_at_once() {
  const Settings& s = settings();
  return s.eager_copies && s.order != Settings::Order::shuffled;
}

/// One started product of a warp: 16 of the 64 rows.
struct Started {
  std::array<GroupProduct, 32> lanes;
  int warp;                              ///< of its warpgroup: rows 16 warp ...
  std::optional<std::vector<float>> ab;  ///< A and B, where they were read at once
};
/// Sums that belong to products under way.
struct Sums {
  std::vector<float> values;  ///< 16 x n
  int products = 0;
};
struct Warp {
  std::vector<Started> open;
  std::vector<std::vector<Started>> groups;
  std::map<float*, Sums> sums;  ///< by lane 0's registers
  bool fenced = false;
  std::vector<uint64_t> started;  ///< what all warps of a warpgroup must have in common
  std::vector<int> registers;
};

struct HopperUnits final : Units {
  std::map<uint64_t*, Barrier> barriers;
  std::vector<Warp> warps;

  HopperUnits() : warps((block->fibers.size() + 31) / 32) {}
  [[nodiscard]] const char* fault() const override {
    int64_t registers = 0;
    for (size_t w = 0; w < warps.size(); ++w) {
      const Warp &one = warps[w], &first = warps[w / 4 * 4];
      if (!one.open.empty() || !one.groups.empty())
        return "a block ended with products that nobody waited for";
      const bool whole = w / 4 * 4 + 4 <= warps.size();
      if (one.started != first.started || (!one.started.empty() && !whole))
        return "wgmma: not the same products in the four warps of a warpgroup";
      if (one.registers != first.registers)
        return "setmaxnreg: not the same in the four warps of a warpgroup";
      if (!one.registers.empty()) registers += int64_t{32} * one.registers.back();
    }
    return registers > 65536 ? "setmaxnreg: more registers than there are" : nullptr;
  }
};
HopperUnits& units() {
  if (block->units == nullptr) block->units = std::make_unique<HopperUnits>();
  return static_cast<HopperUnits&>(*block->units);
}
int warp_index() { return block->current / 32; }

// The word of a barrier in shared memory: nothing else may be written there.
uint64_t guard(const uint64_t* b) { return 0x6d62617272696572u ^ reinterpret_cast<uintptr_t>(b); }
Barrier& barrier_at(uint64_t* b) {
  auto& all = units().barriers;
  const auto it = all.find(b);
  if (it == all.end()) fault("an mbarrier that nobody made");
  if (*b != guard(b)) fault("an mbarrier that was overwritten");
  return it->second;
}
void end_phase_if_due(Barrier& b) {
  if (b.missing != 0 || b.bytes != 0) return;
  ++b.phase, b.missing = b.arrivals;
}
void arrive(Barrier& b) {
  if (b.missing == 0) fault("an mbarrier: more arrivals than its phase has");
  --b.missing;
  end_phase_if_due(b);
}

struct Landing {
  std::byte* to;
  BoxMap map;
  std::array<int, 4> at;
  uint64_t* barrier;
};
void land(const Landing& l) {
  const int columns = l.map.box[0], rows = l.map.box[1];
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) {
      const std::array<int64_t, 4> at{l.at[0] + c, l.at[1] + r, l.at[2], l.at[3]};
      bool inside = true;
      const std::byte* from = l.map.p;
      for (size_t i = 0; i < 4; ++i) {
        inside = inside && at[i] >= 0 && at[i] < l.map.sizes[i];
        from += at[i] * l.map.strides[i];
      }
      // A row of the box is 128 bytes; chunks of 16 change places by bits 7 to 9 of the address.
      const unsigned plain = shared_address(l.to) + static_cast<unsigned>(r * columns + c) * 2;
      std::byte* const to = shared_base() + (plain ^ (plain >> 7 & 7u) << 4);
      if (inside)
        std::memcpy(to, from, 2);
      else
        std::memset(to, 0, 2);
    }
  Barrier& b = barrier_at(l.barrier);
  b.bytes -= int64_t{2} * rows * columns;
  end_phase_if_due(b);
}

float number(Operand type, uint16_t bits) {
  return type == Operand::f16 ? static_cast<float>(std::bit_cast<f16>(bits))
                              : static_cast<float>(std::bit_cast<bf16>(bits));
}

/// A matrix in shared memory as PTX defines it ("matrix descriptor", "canonical layouts") for the
/// swizzle of 128 bytes: atoms of 8 lines of 128 bytes, 8 units of 16 bytes each, whose place is
/// changed by bits 7 to 9 of their address.
class Matrix {
 public:
  Matrix(uint64_t descriptor, Operand type) : type_(type) {
    const auto bytes = [&](int bit) {
      return static_cast<unsigned>(descriptor >> bit & 0x3fff) << 4;
    };
    start_ = bytes(0), leading_ = bytes(16), stride_ = bytes(32);
    if (descriptor >> 62 != 1) fault("wgmma: a swizzle that the emulation lacks");
    if ((descriptor >> 49 & 7) != 0) fault("wgmma: a base offset, which the emulation lacks");
    if ((descriptor & ~(uint64_t{3} << 62 | 0x3fff3fff3fffu)) != 0)
      fault("wgmma: bits of a descriptor that must be 0");
  }
  /// Element k of row r of A or column r of B, where neighbours in k are neighbours in memory: a
  /// line for each r, the next 8 of them `stride` further on.
  [[nodiscard]] float along_depth(int r, int k) const {
    return read(r % 8 * 128 + r / 8 * static_cast<int>(stride_) + k * 2);
  }
  /// The same where neighbours in r are: a line for each k, the next 8 of them `stride` further on,
  /// and the next 64 r `leading`.
  [[nodiscard]] float across(int r, int k) const {
    return read(k % 8 * 128 + k / 8 * static_cast<int>(stride_) + r % 64 * 2 +
                r / 64 * static_cast<int>(leading_));
  }

 private:
  [[nodiscard]] float read(int offset) const {
    const unsigned plain = start_ + static_cast<unsigned>(offset);
    const std::byte* const p = shared_base() + (plain ^ (plain >> 7 & 7u) << 4);
    if (!is_shared(p, 2)) fault("wgmma: a matrix that is not in shared memory");
    uint16_t bits = 0;
    std::memcpy(&bits, p, 2);
    return number(type_, bits);
  }
  unsigned start_, leading_, stride_;
  Operand type_;
};

/// A, 16 x 16, and then B, n columns of 16.
std::vector<float> operands(const Started& s) {
  const GroupProduct& p = s.lanes[0];
  std::vector<float> all(static_cast<size_t>(kDepth * (16 + p.n)));
  if (p.a == nullptr) {
    const Matrix a(p.a_matrix, p.type);
    for (int i = 0; i < 16; ++i)
      for (int k = 0; k < kDepth; ++k)
        all[static_cast<size_t>(i * kDepth + k)] = a.along_depth(16 * s.warp + i, k);
  } else {
    for (int l = 0; l < 32; ++l)
      for (int r = 0; r < 4; ++r)
        for (int h = 0; h < 2; ++h) {
          const int row = l / 4 + r % 2 * 8, k = l % 4 * 2 + r / 2 * 8 + h;
          all[static_cast<size_t>(row * kDepth + k)] = number(
              p.type, static_cast<uint16_t>(s.lanes[static_cast<size_t>(l)].a[r] >> (16 * h)));
        }
  }
  const Matrix b(p.b_matrix, p.type);
  for (int j = 0; j < p.n; ++j)
    for (int k = 0; k < kDepth; ++k)
      all[static_cast<size_t>((16 + j) * kDepth + k)] =
          p.wide ? b.across(j, k) : b.along_depth(j, k);
  return all;
}

/// Where the sum of row i and column j of a warp's 16 x n is: register e of a lane.
struct Register {
  size_t lane;
  int e;
};
Register register_of(int i, int j) {
  return {static_cast<size_t>(i % 8 * 4 + j % 8 / 2), j / 8 * 4 + i / 8 * 2 + j % 2};
}

void finish(Warp& w, const Started& s) {
  const GroupProduct& p = s.lanes[0];
  Sums& sums = w.sums.at(p.d);
  const std::vector<float> ab = s.ab ? *s.ab : operands(s);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < p.n; ++j) {
      float sum = 0;
      for (int k = 0; k < kDepth; ++k)
        sum += ab[static_cast<size_t>(i * kDepth + k)] *
               ab[static_cast<size_t>((16 + j) * kDepth + k)];
      float& d = sums.values[static_cast<size_t>(i * p.n + j)];
      d = p.add ? d + sum : sum;
    }
  if (--sums.products > 0) return;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < p.n; ++j) {
      const Register r = register_of(i, j);
      s.lanes[r.lane].d[r.e] = sums.values[static_cast<size_t>(i * p.n + j)];
    }
  w.sums.erase(p.d);
}

struct Start {
  int warp;
  GroupProduct product;
};
void start(void* const lanes[32], uint32_t) {
  Started s;
  const int index = static_cast<const Start*>(lanes[0])->warp;
  s.warp = index % 4;
  for (size_t l = 0; l < 32; ++l) s.lanes[l] = static_cast<const Start*>(lanes[l])->product;
  const GroupProduct& p = s.lanes[0];
  for (const GroupProduct& q : s.lanes)
    if (q.a_matrix != p.a_matrix || q.b_matrix != p.b_matrix || q.add != p.add)
      fault("wgmma: other operands in some lanes");
  Warp& w = units().warps[static_cast<size_t>(index)];
  if (!w.fenced) fault("wgmma: no fence since the last wait");
  w.started.insert(w.started.end(), {static_cast<uint64_t>(p.n), p.a_matrix, p.b_matrix,
                                     static_cast<uint64_t>(p.add), static_cast<uint64_t>(p.wide)});
  Sums& sums = w.sums[p.d];
  if (sums.products++ == 0) {
    sums.values.resize(static_cast<size_t>(16 * p.n));
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < p.n; ++j) {
        const Register r = register_of(i, j);
        sums.values[static_cast<size_t>(i * p.n + j)] = s.lanes[r.lane].d[r.e];
      }
    for (const GroupProduct& q : s.lanes)
      std::fill(q.d, q.d + p.n / 2, std::bit_cast<float>(0xffffffffu));
  }
  if (products_at_once()) s.ab = operands(s);
  w.open.push_back(std::move(s));
}

// The lanes of a warp do `what` once; `argument` must be the same in all.
template <class F>
void by_warp(int argument, F what) {
  struct Payload {
    int warp, argument;
  } mine{warp_index(), argument};
  static_assert(std::is_empty_v<F>);  // the collective is a plain function
  warp_barrier(
      ~0u,
      [](void* const lanes[32], uint32_t) {
        const auto* const first = static_cast<const Payload*>(lanes[0]);
        for (int l = 1; l < 32; ++l)
          if (static_cast<const Payload*>(lanes[l])->argument != first->argument)
            fault("an operation of a warp with other numbers in some lanes");
        F{}(units().warps[static_cast<size_t>(first->warp)], first->argument);
      },
      &mine);
  (void)what;
}

}  // namespace

unsigned shared_address(const void* p) {
  return static_cast<unsigned>(static_cast<const std::byte*>(p) - shared_base());
}

void barrier_init(uint64_t* b, int arrivals) {
  if (reinterpret_cast<uintptr_t>(b) % 8 != 0 || !is_shared(b, 8))
    fault("an mbarrier that is not in shared memory, or not aligned");
  *b = guard(b);
  units().barriers[b] = {.arrivals = arrivals, .missing = arrivals};
}
void barriers_ready() {
  for (auto& [at, b] : units().barriers) b.known = true;
}
void barrier_arrive(uint64_t* b) {
  arrive(barrier_at(b));
  if (settings().order == Settings::Order::forward) return;
  int asked = 0;  // whoever waits for it may go on first
  wait_until([](void* p) { return ++*static_cast<int*>(p) > 1; }, &asked);
}
void barrier_expect(uint64_t* b, int bytes) {
  Barrier& at = barrier_at(b);
  at.bytes += bytes;
  arrive(at);
}
void barrier_wait(uint64_t* b, int parity) {
  struct Wait {
    uint64_t* b;
    unsigned parity;
  } wait{b, static_cast<unsigned>(parity)};
  wait_until(
      [](void* p) {
        const auto& w = *static_cast<const Wait*>(p);
        return (barrier_at(w.b).phase & 1) != w.parity;
      },
      &wait);
}

void load_box(void* to, const BoxMap& map, uint64_t* b, const int (&at)[4]) {
  const auto bytes = static_cast<size_t>(2 * map.box[0] * map.box[1]);
  if (shared_address(to) % 128 != 0 || !is_shared(to, bytes))
    fault("a box whose place is not in shared memory, or not aligned to 128 bytes");
  if (!barrier_at(b).known) fault("a box for an mbarrier that TMA does not know");
  const Landing l{static_cast<std::byte*>(to), map, {at[0], at[1], at[2], at[3]}, b};
  if (settings().eager_copies)
    land(l);
  else
    block->late.emplace_back([l] { land(l); });
}

void wgmma(GroupProduct product) {
  Start mine{warp_index(), product};
  warp_barrier(~0u, start, &mine);
}
void wgmma_fence() {
  by_warp(0, [](Warp& w, int) { w.fenced = true; });
}
void wgmma_commit() {
  by_warp(0, [](Warp& w, int) {
    w.groups.push_back(std::move(w.open));
    w.open.clear();
  });
}
void wgmma_wait(int groups_left) {
  by_warp(groups_left, [](Warp& w, int left) {
    w.fenced = false;
    while (w.groups.size() > static_cast<size_t>(left)) {
      for (const Started& s : w.groups.front()) finish(w, s);
      w.groups.erase(w.groups.begin());
    }
  });
}
void set_registers(int count) {
  if (count < 24 || count > 256 || count % 8 != 0) fault("setmaxnreg: not 24 to 256 by 8");
  by_warp(count, [](Warp& w, int n) { w.registers.push_back(n); });
}

}  // namespace tenun::emulation

namespace tenun::emulated {

bool hopper_asked_for() { return emulation::settings().hopper; }
bool use_hopper() { return hopper_asked_for(); }

TensorMap tensor_map(const TensorSource& x) {
  check<DeviceError>(tensor_map_takes(x), "tensor_map", "strides that TMA cannot read");
  const emulation::BoxMap m{static_cast<const std::byte*>(x.p),
                            {x.columns, x.rows, x.heads, x.batches},
                            {2, 2 * x.row, 2 * x.head, 2 * x.batch},
                            {kBoxColumns, kBoxRows}};
  TensorMap made{};
  std::memcpy(made.words, &m, sizeof m);
  return made;
}

}  // namespace tenun::emulated
