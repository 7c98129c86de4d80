// Top-k and sorting. With the index behind the key (ops/order.h) one sort of plain integers is
// stable and needs no comparison function.
#include <algorithm>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/index.h"
#include "tenun/ops/order.h"

namespace tenun {
namespace {

template <class T, class Entry>
void topk_row(T* values, int64_t* indices, const T* x, int64_t n, int64_t k, TopKOptions o,
              std::vector<Entry>& entries) {
  const auto entry = [&](int64_t i) { return order_entry(x[i], i, o.largest); };
  const auto begin = entries.begin(), cut = begin + k;
  if (k > 0 && k <= n / 8) {
    // Few of many: a heap of the best so far, whose worst element most of the row cannot beat.
    for (int64_t i = 0; i < k; ++i) begin[i] = entry(i);
    std::make_heap(begin, cut);
    for (int64_t i = k; i < n; ++i)
      if (const Entry e = entry(i); e < *begin) {
        std::pop_heap(begin, cut);
        *(cut - 1) = e;
        std::push_heap(begin, cut);
      }
  } else {
    for (int64_t i = 0; i < n; ++i) begin[i] = entry(i);
    if (k < n) std::nth_element(begin, cut, entries.end());
  }
  if (o.sorted)
    std::sort(begin, cut);
  else
    std::sort(begin, cut, [](const auto& a, const auto& b) { return index_of(a) < index_of(b); });
  for (int64_t i = 0; i < k; ++i) {
    indices[i] = index_of(entries[static_cast<size_t>(i)]);
    values[i] = x[indices[i]];
  }
}

void topk_cpu(Tensor& values, Tensor& indices, const Tensor& x, TopKOptions options) {
  const int64_t n = x.dim(1), k = values.dim(1);
  visit_all(x.dtype(), "topk", [&]<class T>() {
    using Entry = OrderEntry<T>;
    const T* in = x.data<T>();
    T* out = values.mutable_data<T>();
    int64_t* at = indices.mutable_data<int64_t>();
    parallel_for(0, x.dim(0), std::max<int64_t>(1, 4096 / std::max<int64_t>(n, 1)),
                 [&](int64_t begin, int64_t end) {
                   std::vector<Entry> entries(static_cast<size_t>(n));
                   for (int64_t r = begin; r < end; ++r)
                     topk_row(out + r * k, at + r * k, in + r * n, n, k, options, entries);
                 });
  });
}

struct TopK {
  static constexpr const char* name = "topk";
  int dim;
  int64_t k;
  TopKOptions options;
  Saved chosen{};
  Shape shape{};

  std::array<Tensor, 2> forward(const Ctx& c, const Tensor& x) {
    shape = x.shape();
    const Tensor last = x.transpose(dim, -1).contiguous();
    Shape out = last.shape();
    out[out.size() - 1] = k;
    const int64_t rows = Shape(out.begin(), out.end() - 1).numel();
    Tensor values({rows, k}, x.dtype(), x.device()), indices({rows, k}, DType::i64, x.device());
    kernel::topk(x.device(), values, indices, last.view({rows, last.dim(-1)}), options);
    const auto back = [&](const Tensor& t) { return t.view(out).transpose(dim, -1).contiguous(); };
    std::array<Tensor, 2> y{back(values), back(indices)};
    if (c.recording) chosen = y[1];
    return y;
  }
  Grads<1> backward(const Ctx&, const std::array<Tensor, 2>& dy) {
    return {scatter_sum(shape, chosen.get(), dy[0], dim)};
  }
};

Ranked ranked(const char* op, const Var& x, int64_t k, int dim, TopKOptions options) {
  const int axis = normalize_axis(dim, x.rank(), op);
  check(k >= 0 && k <= x.dim(axis), op, "k = {} is outside [0, {}], the size of axis {} of {}", k,
        x.dim(axis), axis, x.value());
  check(x.dim(axis) <= int64_t{0xffffffff}, op, "axis {} of {} is longer than 2^32 - 1", axis,
        x.value());
  auto [values, indices] = apply(TopK{axis, k, options}, x);
  return {values, indices};
}

}  // namespace

constinit Kernel<void(Tensor& values, Tensor& indices, const Tensor& x, TopKOptions options)>
    kernel::topk{"topk", topk_cpu};

Ranked topk(const Var& x, int64_t k, int dim, TopKOptions options) {
  return ranked("topk", x, k, dim, options);
}
Ranked sort(const Var& x, int dim, Order order) {
  const int axis = normalize_axis(dim, x.rank(), "sort");
  return ranked("sort", x, x.dim(axis), axis,
                {.largest = order == Order::descending, .sorted = true});
}
Tensor argsort(const Var& x, int dim, Order order) {
  return sort(x.detach(), dim, order).indices.value();
}

}  // namespace tenun
