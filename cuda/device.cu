// The operations on raw memory that core needs of a device (core/device.h): copies that convert and
// gather, fill, add, random numbers, the search for infinities.
#include "tenun/core/draw.h"
#include "tenun/cuda/elements.h"
#include "tenun/cuda/register.h"
#include "tenun/cuda/scratch.h"

namespace tenun::TENUN_BACKEND {
namespace {

/// Equal dtypes, any strides; T has their size.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    copy_elements(T* to, const T* from, const Places<2> at) {
  for_each_item(at.numel, [&](int64_t i) {
    int64_t o[2];
    at.find(i, o);
    to[o[0]] = from[o[1]];
  });
}
/// Any dtypes and strides, by way of C: int64 for whole numbers, else double.
template <class C>
__global__ void __launch_bounds__(kThreads, 1)
    convert_elements(void* to, DType to_type, const void* from, DType from_type,
                     const Places<2> at) {
  for_each_item(at.numel, [&](int64_t i) {
    int64_t o[2];
    at.find(i, o);
    store_as(to, to_type, o[0], load_as<C>(from, from_type, o[1]));
  });
}
/// The conversions of mixed precision: contiguous, 8 elements at a time (16 bytes of the 16-bit
/// type).
template <class To, class From>
__global__ void __launch_bounds__(kThreads, 1) convert_packs(To* to, const From* from, int64_t n) {
  constexpr int kStep = 8, kIn = Pack<From>::kCount, kOut = Pack<To>::kCount;
  for_each_item((n + kStep - 1) / kStep, [&](int64_t i) {
    const int64_t at = i * kStep;
    if (at + kStep > n) {
      for (int64_t k = at; k < n; ++k) to[k] = To(static_cast<float>(from[k]));
      return;
    }
    float v[kStep];
    TENUN_UNROLL
    for (int p = 0; p < kStep / kIn; ++p) {
      const auto in = Pack<From>::load(from + at + p * kIn);
      for (int k = 0; k < kIn; ++k) v[p * kIn + k] = static_cast<float>(in.v[k]);
    }
    TENUN_UNROLL
    for (int p = 0; p < kStep / kOut; ++p) {
      Pack<To> out;
      for (int k = 0; k < kOut; ++k) out.v[k] = To(v[p * kOut + k]);
      out.store(to + at + p * kOut);
    }
  });
}

__global__ void __launch_bounds__(kThreads, 1)
    fill_elements(void* to, DType type, double value, const Places<1> at) {
  for_each_item(at.numel, [&](int64_t i) {
    int64_t o[1];
    at.find(i, o);
    store_as(to, type, o[0], value);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    add_elements(T* to, const T* from, const Places<2> at) {
  for_each_item(at.numel, [&](int64_t i) {
    int64_t o[2];
    at.find(i, o);
    to[o[0]] = T(to[o[0]] + from[o[1]]);
  });
}

__global__ void __launch_bounds__(kThreads, 1)
    find_not_finite(int* found, const void* x, DType type, const Places<1> at) {
  bool bad = false;
  for_each_item(at.numel, [&](int64_t i) {
    int64_t o[1];
    at.find(i, o);
    const double v = load_as<double>(x, type, o[0]);
    bad = bad || v - v != 0;
  });
  if (bad) atomicOr(found, 1);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1) draw_elements(T* to, const Draws draws, int64_t n) {
  for_each_item((n + 3) / 4, [&](int64_t i) {
    float v[4];
    draw_four(draws, static_cast<uint64_t>(i), v);
    for (int k = 0; k < 4 && i * 4 + k < n; ++k) to[i * 4 + k] = T(v[k]);
  });
}

template <class T>
T* elements(Span s) {
  return reinterpret_cast<T*>(s.data);
}

class Operations final : public Timeline {
 public:
  void* allocate(size_t bytes) override { return allocate_raw(bytes); }
  void release(void* p, size_t) noexcept override { release_raw(p); }
  // The emulation watches the bounds of every tensor.
  [[nodiscard]] bool caches() const override { return kDevice == DeviceType::cuda; }

  void copy_bytes(void* to, Device to_device, const void* from, Device from_device,
                  size_t bytes) override {
    const detail::DeviceCall call("copy between devices");
    copy_raw(to, from, bytes,
             to_device.type == DeviceType::cpu     ? Way::to_host
             : from_device.type == DeviceType::cpu ? Way::to_device
                                                   : Way::on_device);
  }

  void copy(Span to, Span from) override {
    const detail::DeviceCall call("copy");
    const auto at = places_of<2>({to.layout, from.layout});
    if (to.dtype == from.dtype) return copy_same(to, from, at);
    if (at.flat && copy_packs(to, from, at)) return;
    const dim3 grid = grid_for(at.numel);
    if (is_floating(from.dtype))
      launch(convert_elements<double>, grid, kThreads, 0, to.data, to.dtype, from.data, from.dtype,
             at);
    else
      launch(convert_elements<int64_t>, grid, kThreads, 0, to.data, to.dtype, from.data, from.dtype,
             at);
  }

  void fill(Span to, double value) override {
    const detail::DeviceCall call("fill");
    const auto at = places_of<1>({to.layout});
    launch(fill_elements, grid_for(at.numel), kThreads, 0, to.data, to.dtype, value, at);
  }

  void add_into(Span to, Span from) override {
    const detail::DeviceCall call("add_into");
    const auto at = places_of<2>({to.layout, from.layout});
    visit<DType::f32, DType::f64, DType::bf16, DType::f16, DType::i32, DType::i64>(
        to.dtype, "add_into", [&]<class T>() {
          launch(add_elements<T>, grid_for(at.numel), kThreads, 0, elements<T>(to),
                 elements<const T>(from), at);
        });
  }

  bool all_finite(Span x) override {
    const detail::DeviceCall call("all_finite");
    const auto at = places_of<1>({x.layout});
    const Scratch<int> found(1);
    write_one(found.get(), 0);
    launch(find_not_finite, grid_for(at.numel), kThreads, 0, found.get(), x.data, x.dtype, at);
    return read_one(found.get()) == 0;
  }

  void draw(Span to, const Draws& draws) override {
    const detail::DeviceCall call("random numbers");
    const int64_t n = to.layout->shape.numel();
    visit_float(to.dtype, "draw", [&]<class T>() {
      launch(draw_elements<T>, grid_for((n + 3) / 4), kThreads, 0,
             elements<T>(to) + to.layout->offset, draws, n);
    });
  }

  void synchronize() override { TENUN_BACKEND::synchronize(); }

 private:
  static void copy_same(Span to, Span from, const Places<2>& at) {
    const auto size = static_cast<size_t>(size_of(to.dtype));
    if (at.flat)
      return copy_raw(to.data + static_cast<size_t>(to.layout->offset) * size,
                      from.data + static_cast<size_t>(from.layout->offset) * size,
                      static_cast<size_t>(at.numel) * size, Way::on_device);
    const auto go = [&]<class T>() {
      launch(copy_elements<T>, grid_for(at.numel), kThreads, 0, elements<T>(to),
             elements<const T>(from), at);
    };
    switch (size) {
      case 1: return go.template operator()<uint8_t>();
      case 2: return go.template operator()<uint16_t>();
      case 4: return go.template operator()<uint32_t>();
      default: return go.template operator()<uint64_t>();
    }
  }
  static bool copy_packs(Span to, Span from, const Places<2>& at) {
    const auto go = [&]<class To, class From>() {
      To* const y = elements<To>(to) + to.layout->offset;
      const From* const x = elements<const From>(from) + from.layout->offset;
      if (!aligned_16(y) || !aligned_16(x)) return false;
      launch(convert_packs<To, From>, grid_for((at.numel + 7) / 8), kThreads, 0, y, x, at.numel);
      return true;
    };
    const DType a = to.dtype, b = from.dtype;
    if (a == DType::bf16 && b == DType::f32) return go.template operator()<bf16, float>();
    if (a == DType::f16 && b == DType::f32) return go.template operator()<f16, float>();
    if (a == DType::f32 && b == DType::bf16) return go.template operator()<float, bf16>();
    if (a == DType::f32 && b == DType::f16) return go.template operator()<float, f16>();
    return false;
  }
};

}  // namespace

void register_device() {
  static auto* const operations = new Operations;  // tensors in statics may outlive it otherwise
  set_device_ops(kDevice, operations);
  set_graph_maker(kDevice, make_graph);
}

}  // namespace tenun::TENUN_BACKEND
