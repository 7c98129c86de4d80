// Runs the rungs of the attention ladder, checks each against the formula and times it.
//   attention_ladder [N] [SHARE]     N tokens (a multiple of 64), share of key blocks kept exact
// Times are the least processor times of several runs: other programs hardly disturb them.
// Exit code 1 if a rung is further from its formula than its arithmetic explains.
#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <new>
#include <random>

#include "tenun/examples/attention_ladder/ladder.h"

namespace {

size_t g_live = 0, g_peak = 0;  // bytes from operator new; the program has one thread

}  // namespace

void* operator new(size_t bytes) {
  void* const p = std::malloc(bytes);
  if (p == nullptr) throw std::bad_alloc();
  g_live += malloc_usable_size(p);
  g_peak = std::max(g_peak, g_live);
  return p;
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept try {
  return operator new(bytes);
} catch (const std::bad_alloc&) {
  return nullptr;
}
void operator delete(void* p) noexcept {
  if (p != nullptr) g_live -= malloc_usable_size(p);
  std::free(p);
}
void operator delete(void* p, size_t) noexcept { operator delete(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { operator delete(p); }

namespace {

using namespace ladder;

// Tokens along a line whose queries and keys know where they are, as the tokens of an image do:
// near tokens have alike channels, so every query has keys that matter to it. Some noise on top.
Inputs make_inputs(int n, int d) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  Inputs in{n, d, {}, {}, {}};
  for (Floats* x : {&in.q, &in.k, &in.v}) x->resize(static_cast<size_t>(n * d));
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < d; ++c) {
      const auto at = static_cast<size_t>(i * d + c);
      const float turns =
          static_cast<float>(i) / static_cast<float>(n) * static_cast<float>(c / 2 + 1);
      const float place =
          (c % 2 == 0 ? std::cos(6.2831853F * turns) : std::sin(6.2831853F * turns));
      in.q[at] = 1.2F * place + 0.3F * normal(random);
      in.k[at] = 1.2F * place + 0.3F * normal(random) + 0.5F;
      in.v[at] = place + 0.3F * normal(random);
    }
  return in;
}

// sum |a - b| / sum |b|
double distance(const Floats& a, const Floats& b) {
  double off = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i)
    off += std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])),
        size += std::abs(static_cast<double>(b[i]));
  return off / size;
}

struct Rung {
  const char* name;
  std::function<Floats()> run;
  const Floats* formula;
  double allowed;  // distance to it
};

}  // namespace

int main(int argc, char** argv) {
  const int n = argc > 1 ? std::atoi(argv[1]) : 2048, d = 64;
  const double share = argc > 2 ? std::atof(argv[2]) : 0.1;
  if (n < kBlockQ || n % kBlockQ != 0 || n > 65536 || !(share >= 0 && share <= 1)) {
    std::fprintf(stderr,
                 "usage: attention_ladder [N, a multiple of %d up to 65536] [SHARE in 0..1]\n",
                 kBlockQ);
    return 2;
  }
  const float alpha = 0.9F;
  const Inputs in = make_inputs(n, d);
  const Selection selected = select_blocks(in, share);
  const Floats dense = naive(in), sparse = naive_sparse_linear(in, selected, 1),
               mixed = naive_sparse_linear(in, selected, alpha);
  const Rung rungs[] = {
      {"1 naive", [&] { return naive(in); }, &dense, 0},
      {"2 tiled", [&] { return tiled(in); }, &dense, 1e-5},
      {"3 online softmax", [&] { return online(in); }, &dense, 1e-5},
      {"4 flash", [&] { return flash(in); }, &dense, 1e-5},
      {"5 block-sparse", [&] { return block_sparse(in, selected); }, &sparse, 1e-5},
      {"6 + linear branch", [&] { return sparse_linear(in, selected, alpha); }, &mixed, 1e-4},
      {"7 + INT8 scores", [&] { return sparse_linear_int8(in, selected, alpha); }, &mixed, 3e-2},
  };
  std::printf("N = %d, D = %d, one head, one thread; %zu of %d key blocks exact, alpha = %.2f\n", n,
              d, selected[0].size(), n / kBlockK, static_cast<double>(alpha));
  std::printf("%-18s %10s %9s %9s %12s %12s %12s\n", "rung", "ms", "gain", "total", "extra KiB",
              "to formula", "to dense");
  double first = 0, before = 0;
  bool good = true;
  for (const Rung& r : rungs) {
    const size_t live = g_live;
    g_peak = g_live;
    const Floats o = r.run();
    const size_t extra = g_peak - live - o.size() * sizeof(float);
    double ms = 1e300, spent = 0;
    for (int i = 0; i < 3 || (spent < 300 && i < 50); ++i) {
      const std::clock_t start = std::clock();
      (void)r.run();
      const double one = 1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
      ms = std::min(ms, one), spent += one;
    }
    if (first == 0) first = before = ms;
    const double off = distance(o, *r.formula);
    const bool ok = off <= r.allowed;
    good = good && ok;
    std::printf("%-18s %10.2f %8.2fx %8.1fx %12zu %12.1e %12.1e%s\n", r.name, ms, before / ms,
                first / ms, extra / 1024, off, distance(o, dense), ok ? "" : "  TOO FAR");
    before = ms;
  }
  return good ? 0 : 1;
}
