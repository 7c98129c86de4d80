// What the op table cannot say about shape ops: views share memory, the cost of split's gradient,
// integers, exact values, errors.
#include <doctest/doctest.h>

#include "tenun/autograd/tape.h"
#include "tenun/core/allocator.h"
#include "tenun/ops/shape.h"

using namespace tenun;

namespace {

using Values = std::vector<double>;
Tensor counting(const Shape& shape, DType dtype = DType::f32) {
  return Tensor::arange(shape.numel(), dtype).view(shape);
}
Values values(const Var& v) { return v.value().values<double>(); }
bool is_view(const Var& y, const Var& x) { return y.value().shares_storage(x.value()); }

}  // namespace

TEST_SUITE("ops_shape") {
  TEST_CASE("view-like ops move no data") {
    const Var x = counting({2, 3, 4});
    CHECK(is_view(view(x, {6, 4}), x));
    CHECK(is_view(reshape(x, {-1}), x));
    CHECK(is_view(flatten(x, 1), x));
    CHECK(is_view(permute(x, {2, 0, 1}), x));
    CHECK(is_view(transpose(x, 0, -1), x));
    CHECK(is_view(slice(x, 1, 1, kEnd, 2), x));
    CHECK(is_view(select(x, 2, 3), x));
    CHECK(is_view(unsqueeze(x, 0), x));
    CHECK(is_view(squeeze(unsqueeze(x, 3)), x));
    CHECK(is_view(expand(unsqueeze(x, 0), {5, 2, 3, 4}), x));
    CHECK(is_view(contiguous(x), x));
    CHECK_FALSE(is_view(contiguous(transpose(x, 0, 1)), x));
    CHECK_FALSE(is_view(reshape(transpose(x, 0, 1), {24}), x));
    for (const Var& part : split(x, {1, 3}, 2)) CHECK(is_view(part, x));
    for (const Var& part : chunk(x, 2, 1)) CHECK(is_view(part, x));
    for (const Var& part : unbind(x, 1)) CHECK(is_view(part, x));
  }

  TEST_CASE("the gradient of a split is one tensor, however many pieces there are") {
    Var x = Var::parameter(Tensor::zeros({64, 1024}, DType::f32));
    Tape tape;
    const std::vector<Var> rows = unbind(x, 0);
    REQUIRE(rows.size() == 64);
    std::vector<Tensor> seeds;
    for (size_t i = 0; i < rows.size(); ++i)
      seeds.push_back(i == 5 ? Tensor() : Tensor::full({1024}, static_cast<double>(i)));
    allocator(DeviceType::cpu).reset_peak();
    const size_t live = memory_stats().live;
    tape.backward_all(rows, seeds);
    CHECK(memory_stats().peak - live <= size_t{3} * 64 * 1024 * 4);
    for (int64_t i = 0; i < 64; ++i) {
      const Values g = x.grad().select(0, i).values<double>();
      CHECK(g.front() == (i == 5 ? 0 : static_cast<double>(i)));  // no gradient came: zeros
      CHECK(g.back() == g.front());
    }
  }

  TEST_CASE("several slices of one tensor add up, and concat undoes split") {
    Var x = Var::parameter(counting({6}));
    Tape tape;
    const Var y = concat({slice(x, 0, 0, 4), slice(x, 0, 2), slice(x, 0, 1, 6, 2)}, 0);
    CHECK(values(y) == Values{0, 1, 2, 3, 2, 3, 4, 5, 1, 3, 5});
    tape.backward(y, counting({11}));
    CHECK(x.grad().values<double>() == Values{0, 1 + 8, 2 + 4, 3 + 5 + 9, 6, 7 + 10});
    const Var z = counting({2, 7, 3});
    CHECK(values(concat(split(z, {2, 0, 4, 1}, 1), 1)) == values(z));
    CHECK(values(concat(chunk(z, 3, -1), -1)) == values(z));
    CHECK(values(stack(unbind(z, 1), 1)) == values(z));
  }

  TEST_CASE("integers and flags move like any other") {
    for (const DType d : {DType::i64, DType::i32, DType::u8, DType::boolean, DType::bf16}) {
      const Var x = counting({2, 2}, d);
      const double top = d == DType::boolean ? 1 : 3, two = d == DType::boolean ? 1 : 2;
      CHECK(concat({x, x}, 1).dtype() == d);
      CHECK(values(concat({x, x}, 0)) == Values{0, 1, two, top, 0, 1, two, top});
      CHECK(values(flip(x, {0, 1})) == Values{top, two, 1, 0});
      CHECK(values(roll(x, {1}, {1})) == Values{1, 0, top, two});
      CHECK(values(pad(x, {{1, 0}}, 1)) == Values{1, 0, 1, 1, two, top});
      CHECK(values(repeat(x, {1, 2})) == Values{0, 1, 0, 1, two, top, two, top});
      CHECK(values(repeat_interleave(x, 2, 0)) == Values{0, 1, 0, 1, two, top, two, top});
      CHECK(values(tril(x)) == Values{0, 0, two, top});
      CHECK(values(triu(x)) == Values{0, 1, 0, top});
    }
  }

  TEST_CASE("mixed floating types are joined in the wider one, with gradients in their own") {
    Var a = Var::parameter(counting({2}, DType::bf16)), b = Var::parameter(counting({2}));
    Tape tape;
    const Var y = concat({a, b}, 0);
    CHECK(y.dtype() == DType::f32);
    tape.backward(y, counting({4}));
    CHECK(a.grad().describe() == "bf16[2]");
    CHECK(a.grad().values<double>() == Values{0, 1});
    CHECK(b.grad().values<double>() == Values{2, 3});
    CHECK_THROWS_AS((void)concat({counting({2}), counting({2}, DType::i64)}, 0), DTypeError);
  }

  TEST_CASE("rank 6 and ranks beyond") {
    const Var x = counting({1, 2, 1, 3, 2, 2});
    CHECK(permute(x, {5, 4, 3, 2, 1, 0}).shape() == Shape{2, 2, 3, 1, 2, 1});
    CHECK(repeat(x, {2, 1, 1, 1, 1, 3}).shape() == Shape{2, 2, 1, 3, 2, 6});
    CHECK(squeeze(x).shape() == Shape{2, 3, 2, 2});
    CHECK(concat({x, x, x}, -2).shape() == Shape{1, 2, 1, 3, 6, 2});
    CHECK_THROWS_AS((void)unsqueeze(x, 0), ShapeError);
    CHECK_THROWS_AS((void)stack({x, x}, 0), ShapeError);
  }

  TEST_CASE("errors name the op and the shapes") {
    const Var x = counting({3, 4});
    CHECK_THROWS_WITH_AS(
        (void)concat({x, counting({3, 5})}, 0),
        "concat: f32[3, 5] does not fit f32[3, 4] along axis 0: other sizes must be "
        "equal",
        ShapeError);
    CHECK_THROWS_WITH_AS((void)concat({}, 0), "concat: needs at least one tensor", ValueError);
    CHECK_THROWS_AS((void)stack({x, counting({4, 3})}), ShapeError);
    CHECK_THROWS_AS((void)stack({}), ValueError);
    CHECK_THROWS_AS((void)concat({x, x}, 2), ValueError);
    CHECK_THROWS_WITH_AS((void)split(x, {1, 2}, 1),
                         "split: the pieces leave 1 elements of axis 1 of f32[3, 4]", ValueError);
    CHECK_THROWS_AS((void)split(x, {3, 2}, 1), ValueError);
    CHECK_THROWS_AS((void)split(x, {5, -1}, 1), ValueError);
    CHECK_THROWS_AS((void)chunk(x, 0, 1), ValueError);
    CHECK_THROWS_AS((void)pad(x, {{-1, 0}}), ValueError);
    CHECK_THROWS_AS((void)pad(x, {{0, 0}, {0, 0}, {0, 0}}), ShapeError);
    CHECK_THROWS_AS((void)pad(x, {{std::numeric_limits<int64_t>::max(), 0}}), ShapeError);
    CHECK_THROWS_AS((void)repeat(x, {2}), ShapeError);
    CHECK_THROWS_AS((void)repeat(x, {2, -1}), ValueError);
    CHECK_THROWS_AS((void)repeat(x, {int64_t{1} << 62, 1}), ShapeError);
    CHECK_THROWS_AS((void)repeat_interleave(x, -1, 0), ValueError);
    CHECK_THROWS_WITH_AS((void)flip(x, {1, -1}), "flip: axis 1 twice", ValueError);
    CHECK_THROWS_AS((void)roll(x, {1, 2}, {0}), ValueError);
    CHECK_THROWS_AS((void)tril(counting({3})), ShapeError);
    CHECK_THROWS_WITH_AS((void)slice(x, 1, 2, 6), "slice: range [2, 6) is outside axis 1 of [3, 4]",
                         ValueError);
    CHECK_THROWS_AS((void)slice(x, 1, -7, 2), ValueError);
    CHECK_THROWS_AS((void)slice(x, 1, 0, 2, 0), ValueError);
    CHECK_THROWS_AS((void)slice(x, 2, 0), ValueError);
    CHECK_THROWS_AS((void)select(x, 0, 3), ValueError);
    CHECK_THROWS_AS((void)view(transpose(x, 0, 1), {12}), ShapeError);
    CHECK_THROWS_AS((void)squeeze(x, 0), ShapeError);
    CHECK_THROWS_AS((void)flatten(x, 1, 0), ValueError);
    CHECK_THROWS_AS((void)expand(x, {3, 8}), ShapeError);
  }

  TEST_CASE("zero sizes") {
    const Var e = Tensor({2, 0}, DType::f32);
    CHECK(concat({e, counting({2, 3})}, 1).shape() == Shape{2, 3});
    CHECK(values(pad(e, {{1, 1}}, 4)) == Values{4, 4, 4, 4});
    CHECK(flip(e, {1}).shape() == Shape{2, 0});
    CHECK(roll(e, {3}, {1}).shape() == Shape{2, 0});
    CHECK(repeat(e, {2, 3}).shape() == Shape{4, 0});
    CHECK(chunk(e, 3, 1).size() == 1);
    CHECK(unbind(e, 1).empty());
    CHECK(tril(e).shape() == Shape{2, 0});
    CHECK(flatten(Var(Tensor::scalar(4))).shape() == Shape{1});
  }
}
