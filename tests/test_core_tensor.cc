// Tensors: construction, views, copies over all dtypes, versions, text, and what must be refused.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "tenun/core/tensor.h"

using namespace tenun;

namespace {

constexpr DType kAll[] = {DType::f32, DType::f64, DType::bf16, DType::f16,    DType::i8,
                          DType::u8,  DType::i32, DType::i64,  DType::boolean};

Tensor counting(const Shape& shape, DType dtype = DType::f32) {
  return Tensor::arange(shape.numel(), dtype).view(shape);
}
using Values = std::vector<double>;

}  // namespace

TEST_SUITE("core_tensor") {
  TEST_CASE("construction") {
    const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
    CHECK(x.describe() == "f32[2, 3]");
    CHECK(x.rank() == 2);
    CHECK(x.dim(-1) == 3);
    CHECK(x.numel() == 6);
    CHECK(x.nbytes() == 24);
    CHECK(x.strides() == Shape{3, 1});
    CHECK(x.contiguous_layout());
    CHECK(x.span<float>()[4] == 5);
    CHECK(x.device() == cpu());
    CHECK(Tensor::full({2, 2}, 7, DType::i32).values<int32_t>() ==
          std::vector<int32_t>{7, 7, 7, 7});
    CHECK(Tensor::zeros({3}).values<float>() == std::vector<float>{0, 0, 0});
    CHECK(Tensor::arange(3, DType::bf16).values<double>() == Values{0, 1, 2});
    CHECK(zeros_like(x).shape() == x.shape());
    CHECK(empty_like(x).dtype() == DType::f32);
    CHECK_THROWS_WITH_AS((void)Tensor::from<float>({1, 2}, {3}),
                         "tensor: 2 values given for shape [3]", ShapeError);
    CHECK_THROWS_AS((void)Tensor::arange(-1), ValueError);
  }

  TEST_CASE("rank 0 and zero elements") {
    const Tensor s = Tensor::scalar(2.5, DType::f64);
    CHECK(s.rank() == 0);
    CHECK(s.numel() == 1);
    CHECK(s.item() == 2.5);
    CHECK(s.view({1, 1}).item() == 2.5);
    CHECK(s.expand({2, 2}).values<double>() == Values{2.5, 2.5, 2.5, 2.5});
    CHECK(s.contiguous().shares_storage(s));
    Tensor e({2, 0, 3}, DType::f32);
    CHECK(e.numel() == 0);
    CHECK(e.nbytes() == 0);
    e.fill_(1).copy_(Tensor({2, 0, 3}, DType::i64)).add_(zeros_like(e));
    CHECK(e.values<float>().empty());
    CHECK(e.permute({2, 1, 0}).reshape({0, 5}).shape() == Shape{0, 5});
    CHECK(e.slice(0, 1, 2).clone().shape() == Shape{1, 0, 3});
    CHECK(e.slice(2, 1, 3).to(DType::i8).numel() == 0);
    CHECK(e.all_finite());
    CHECK(counting({4, 3}).slice(0, 4, 4).numel() == 0);
    CHECK_THROWS_AS((void)e.select(1, 0), ValueError);
    CHECK_THROWS_AS((void)e.item(), ShapeError);
  }

  TEST_CASE("sizes that overflow are errors, not small tensors") {
    constexpr int64_t kBig = int64_t{1} << 31;
    CHECK_THROWS_AS((void)Tensor({kBig, kBig, kBig}, DType::i8), ShapeError);
    CHECK_THROWS_AS((void)Tensor({kBig, kBig}, DType::f64), ShapeError);
    CHECK_THROWS_AS((void)Tensor({0, kBig, kBig, kBig}, DType::f64), ShapeError);
    CHECK_THROWS_AS((void)Tensor({-1}, DType::f32), ShapeError);
    CHECK_THROWS_AS((void)Tensor({kBig, kBig}, DType::i8), OutOfMemory);  // 4 EiB
    float one = 1;
    CHECK_THROWS_AS((void)Tensor::wrap(&one, {kBig, kBig}, DType::f64), ShapeError);
    CHECK_THROWS_AS((void)counting({4}).view({kBig, kBig, kBig, -1}), ShapeError);
    CHECK_THROWS_AS((void)Tensor::zeros({1}).expand({kBig, kBig, kBig}), ShapeError);
    CHECK(Tensor::zeros({1}).expand({kBig, 2}).numel() == kBig * 2);  // costs nothing
  }

  TEST_CASE("view and reshape") {
    const Tensor x = counting({4, 6});
    CHECK(x.view({2, -1}).shape() == Shape{2, 12});
    CHECK(x.view({2, 12}).shares_storage(x));
    CHECK(x.view({1, 24, 1}).values<double>() == x.values<double>());
    const Tensor t = x.transpose(0, 1);
    CHECK_THROWS_WITH_AS(
        (void)t.view({24}),
        "view: f32[6, 4] with strides [1, 6] cannot be viewed as [24]; use reshape", ShapeError);
    const Tensor r = t.reshape({24});
    CHECK_FALSE(r.shares_storage(x));
    CHECK(r.values<double>()[1] == 6);
    CHECK(t.reshape({6, 2, 2}).shares_storage(x));
    CHECK_THROWS_AS((void)x.view({-1, -1}), ShapeError);
    CHECK_THROWS_AS((void)x.view({5, -1}), ShapeError);
    CHECK_THROWS_AS((void)x.view({-2, 12}), ShapeError);
    CHECK_THROWS_AS((void)x.view({0, -1}), ShapeError);
    CHECK_THROWS_WITH_AS((void)x.view({5}), "view: [5] does not fit the 24 elements of f32[4, 6]",
                         ShapeError);
  }

  TEST_CASE("slices, selections, permutations and expansions share the storage") {
    Tensor x = counting({3, 4});
    CHECK(x.slice(1, 1, 4, 2).values<double>() == Values{1, 3, 5, 7, 9, 11});
    CHECK(x.slice(0, -2, -1).values<double>() == Values{4, 5, 6, 7});
    CHECK(x.select(1, -1).values<double>() == Values{3, 7, 11});
    CHECK(x.select(0, 1).shape() == Shape{4});
    CHECK(x.permute({1, 0}).select(0, 2).values<double>() == Values{2, 6, 10});
    CHECK(x.select(0, 1).unsqueeze(0).expand({2, 4}).values<double>() ==
          Values{4, 5, 6, 7, 4, 5, 6, 7});
    CHECK(x.unsqueeze(-1).shape() == Shape{3, 4, 1});
    CHECK(x.unsqueeze(1).squeeze(1).shape() == x.shape());
    x.slice(1, 0, 4, 3).fill_(-1);
    CHECK(x.values<double>() == Values{-1, 1, 2, -1, -1, 5, 6, -1, -1, 9, 10, -1});
    x.select(1, 1).copy_(Tensor::from<int64_t>({7, 8, 9}, {3}));
    CHECK(x.select(1, 1).values<double>() == Values{7, 8, 9});
    CHECK_THROWS_WITH_AS((void)x.select(0, 3), "select: index 3 is outside axis 0 of f32[3, 4]",
                         ValueError);
    CHECK_THROWS_AS((void)x.squeeze(0), ShapeError);
    CHECK_THROWS_AS((void)counting({1, 1, 1, 1, 1, 1}).unsqueeze(0), ShapeError);
  }

  TEST_CASE("with_layout stays inside the storage") {
    const Tensor x = counting({6});
    Layout back(Shape{6});
    back.offset = 5, back.strides[0] = -1;
    CHECK(x.with_layout(back).values<double>() == Values{5, 4, 3, 2, 1, 0});
    Layout window({4, 3});
    window.strides = {1, 1};
    CHECK(x.with_layout(window).select(0, 3).values<double>() == Values{3, 4, 5});
    window.offset = 1;
    CHECK_THROWS_AS((void)x.with_layout(window), ShapeError);
    back.offset = 4;
    CHECK_THROWS_AS((void)x.with_layout(back), ShapeError);
    back.strides[0] = std::numeric_limits<int64_t>::max();
    CHECK_THROWS_AS((void)x.with_layout(back), ShapeError);
  }

  TEST_CASE("copy_ and to convert between all pairs of dtypes") {
    const Values plain{0, 1, 2, 3, 100, 64};
    for (const DType from : kAll)
      for (const DType to : kAll) {
        CAPTURE(name(from));
        CAPTURE(name(to));
        const Tensor x = Tensor::from(plain, {2, 3}).to(from);
        const bool truth = from == DType::boolean || to == DType::boolean;
        const Values want = truth ? Values{0, 1, 1, 1, 1, 1} : plain;
        CHECK(x.to(to).values<double>() == want);
        Tensor y({2, 3, 2}, to);  // with gaps
        y.fill_(9);
        y.select(2, 1).copy_(x);
        CHECK(y.select(2, 1).values<double>() == want);
        Tensor t({3, 2}, to);
        t.transpose(0, 1).copy_(x);
        CHECK(t.transpose(0, 1).values<double>() == want);
        CHECK(y.select(2, 0).values<double>() == Values(6, to == DType::boolean ? 1 : 9));
      }
    CHECK(Tensor::from<float>({-1.75f, 1.75f}, {2}).to(DType::i32).values<double>() ==
          Values{-1, 1});
    CHECK(Tensor::from<float>({1.00390625f}, {1}).to(DType::bf16).item() == 1.0);  // half to even
    CHECK(Tensor::scalar(-3, DType::i64).to(DType::i8).item() == -3);
    const int64_t large = (int64_t{1} << 60) + 1;
    CHECK(Tensor::from<int64_t>({large}, {1}).clone().values<int64_t>()[0] == large);
  }

  TEST_CASE("copy_ broadcasts, add_ does not") {
    Tensor x = Tensor::zeros({2, 3});
    x.copy_(Tensor::from<float>({1, 2, 3}, {3}));
    CHECK(x.values<double>() == Values{1, 2, 3, 1, 2, 3});
    x.add_(Tensor::from<float>({1, 2, 3, 4, 5, 6}, {3, 2}).transpose(0, 1));
    CHECK(x.values<double>() == Values{2, 5, 8, 3, 6, 9});
    CHECK_THROWS_AS(x.copy_(Tensor::zeros({2})), ShapeError);
    CHECK_THROWS_WITH_AS(x.add_(Tensor::zeros({3})), "add_: f32[2, 3] += f32[3]", ShapeError);
    CHECK_THROWS_AS(x.add_(Tensor::zeros({2, 3}, DType::f64)), DTypeError);
    Tensor flags = Tensor::zeros({2}, DType::boolean);
    CHECK_THROWS_AS(flags.add_(flags.clone()), DTypeError);
  }

  TEST_CASE("contiguous, clone and unique") {
    Tensor x = counting({2, 3});
    CHECK(x.unique());
    const Tensor same = x.contiguous();
    CHECK(same.shares_storage(x));
    CHECK_FALSE(x.unique());
    const Tensor t = x.transpose(0, 1).contiguous();
    CHECK_FALSE(t.shares_storage(x));
    CHECK(t.strides() == Shape{2, 1});
    CHECK(t.values<double>() == Values{0, 3, 1, 4, 2, 5});
    CHECK_FALSE(x.clone().shares_storage(x));
    CHECK(x.to(DType::f32).shares_storage(x));
    CHECK(x.to(cpu()).shares_storage(x));
    // A slice of full rows is contiguous where it stands.
    CHECK(x.slice(0, 1, 2).contiguous().shares_storage(x));
    CHECK(x.slice(0, 1, 2).span<float>()[0] == 3);
    CHECK_THROWS_AS((void)x.transpose(0, 1).span<float>(), ShapeError);
  }

  TEST_CASE("every write raises the version, also through views; reading does not") {
    Tensor x = counting({2, 3});
    Tensor row = x.select(0, 1);
    uint64_t before = x.version();
    const auto written = [&] {
      const bool yes = x.version() > before;
      before = x.version();
      return yes;
    };
    (void)x.data<float>();
    (void)std::as_const(x).raw();
    (void)x.values<float>();
    (void)x.clone();
    (void)x.str();
    CHECK_FALSE(written());
    x.fill_(1);
    CHECK(written());
    row.copy_(Tensor::zeros({3}));
    CHECK(written());
    row.add_(Tensor::zeros({3}));
    CHECK(written());
    (void)row.mutable_data<float>();
    CHECK(written());
    (void)row.raw();
    CHECK(written());
    CHECK(Tensor().version() == 0);
  }

  TEST_CASE("wrapped memory is used in place and given back once") {
    std::vector<float> data(6);
    std::iota(data.begin(), data.end(), 0.0f);
    int calls = 0;
    {
      Tensor x = Tensor::wrap(data.data(), {2, 3}, DType::f32, [&] { ++calls; });
      const Tensor view = x.select(0, 1);
      CHECK(view.values<double>() == Values{3, 4, 5});
      x.fill_(4);
      x = {};
      CHECK(calls == 0);  // the view still holds it
      CHECK(view.values<double>() == Values{4, 4, 4});
    }
    CHECK(calls == 1);
    CHECK(data[5] == 4);
    CHECK(Tensor::wrap(nullptr, {0, 2}, DType::i8).numel() == 0);
    CHECK_THROWS_AS((void)Tensor::wrap(nullptr, {2}, DType::i8), ValueError);
  }

  TEST_CASE("an undefined tensor is refused everywhere, with a message") {
    Tensor none;
    CHECK_FALSE(none.defined());
    CHECK(none.describe() == "undefined tensor");
    CHECK(none.str() == "undefined tensor");
    CHECK_FALSE(none.contiguous().defined());
    CHECK_FALSE(none.clone().defined());
    CHECK_FALSE(none.to(DType::f64).defined());
    CHECK_THROWS_WITH_AS(none.fill_(0), "fill_: the tensor is undefined", ShapeError);
    CHECK_THROWS_AS(none.copy_(Tensor::zeros({1})), ShapeError);
    CHECK_THROWS_AS(Tensor::zeros({1}).copy_(none), ShapeError);
    CHECK_THROWS_AS(Tensor::zeros({1}).add_(none), ShapeError);
    CHECK_THROWS_AS((void)none.data<float>(), ShapeError);
    CHECK_THROWS_AS((void)none.item(), ShapeError);
    CHECK_THROWS_AS((void)none.values<float>(), ShapeError);
    CHECK_THROWS_AS((void)none.dim(0), ValueError);
    CHECK_THROWS_AS((void)none.with_layout(Layout(Shape{1})), ShapeError);
  }

  TEST_CASE("typed access checks the dtype") {
    Tensor x = counting({2});
    CHECK_THROWS_WITH_AS((void)x.data<double>(), "data: asked for f64, but the tensor is f32[2]",
                         DTypeError);
    CHECK_THROWS_AS((void)x.mutable_data<int32_t>(), DTypeError);
    CHECK_THROWS_WITH_AS((void)x.item(), "item: needs exactly one element, got f32[2]", ShapeError);
  }

  TEST_CASE("text") {
    CHECK(Tensor::from<float>({1.5f, -2, 0.1f, 1e-7f}, {2, 2}).str() ==
          "[[1.5, -2],\n [0.1, 1e-07]]  f32[2, 2]");
    CHECK(Tensor::scalar(3, DType::i64).str() == "3  i64[]");
    CHECK(counting({8}, DType::i32).str() == "[0, 1, 2, ..., 5, 6, 7]  i32[8]");
    CHECK(counting({9}, DType::i32).str(1) == "[0, ..., 8]  i32[9]");
    CHECK(counting({7}, DType::u8).str() == "[0, 1, 2, 3, 4, 5, 6]  u8[7]");
    CHECK(counting({2, 2}).transpose(0, 1).str() == "[[0, 2],\n [1, 3]]  f32[2, 2]");
    CHECK(Tensor({0, 2}, DType::f32).str() == "[]  f32[0, 2]");
    CHECK(Tensor::from<int64_t>({9007199254740993}, {1}).str() == "[9007199254740993]  i64[1]");
    const double inf = std::numeric_limits<double>::infinity();
    CHECK(Tensor::from<double>({inf, std::nan("")}, {2}).str() == "[inf, nan]  f64[2]");
  }

  TEST_CASE("all_finite") {
    Tensor x = Tensor::zeros({3, 4});
    CHECK(x.all_finite());
    x.select(0, 1).select(0, 2).fill_(std::numeric_limits<double>::infinity());
    CHECK_FALSE(x.all_finite());
    CHECK(x.slice(0, 2, 3).all_finite());
    CHECK_FALSE(x.to(DType::f16).all_finite());
    CHECK(Tensor::zeros({2}, DType::i64).all_finite());
  }

  TEST_CASE("device names") {
    CHECK(device_from_name("cpu") == cpu());
    CHECK(device_from_name("cuda:2") == Device{DeviceType::cuda, 2});
    CHECK(device_from_name("cuda").str() == "cuda:0");
    CHECK(device_from_name("emulated") == Device{DeviceType::emulated, 0});
    CHECK(device_from_name("emulated").str() == "emulated");
    for (const char* bad : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "CPU"})
      CHECK_THROWS_AS((void)device_from_name(bad), ValueError);
    CHECK(has_device(DeviceType::cpu));
  }
}
