#include <doctest/doctest.h>

#include <cstring>

#include "tenun/core/io/pytorch.h"
#include "tenun/tests/io_util.h"

using namespace tenun;
using namespace tenun::test;
using Kind = PickleValue::Kind;

namespace {

/// For pickles without PyTorch in them.
struct NoHooks : PickleHooks {
  void persistent(const PickleValue&, PickleValue&) override {}
  PickleValue* reduce(std::string_view, const PickleValue&, PickleValue&) override {
    return nullptr;
  }
};
std::string pickle_error(const std::string& ops) {
  return error_of([&] {
    NoHooks hooks;
    PicklePool pool;
    (void)unpickle("\x80\x02" + ops, "p", hooks, pool);
  });
}

const Tensor& named(const std::vector<NamedTensor>& all, const std::string& name) {
  for (const NamedTensor& t : all)
    if (t.name == name) return t.tensor;
  throw IoError("no tensor " + name);
}

}  // namespace

TEST_SUITE("core_io_pytorch") {
  TEST_CASE("tensors of every dtype and stride, protocols 2 to 5") {
    for (int protocol = 2; protocol <= 5; ++protocol) {
      CAPTURE(protocol);
      const PytorchFile file(fixture("tensors_p" + std::to_string(protocol) + ".pt"));
      const auto tensors = collect_tensors(file.root());
      REQUIRE(tensors.size() == 16);
      CHECK(tensors[0].name == "f32");  // in order
      for (DType d :
           {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i8, DType::i32, DType::i64}) {
        CAPTURE(name(d));
        const Tensor& x = named(tensors, name(d));
        CHECK(x.dtype() == d);
        CHECK(x.shape() == Shape{2, 3});
        const std::vector<double> expected = is_floating(d)
                                                 ? std::vector<double>{-4, -2.5, -1, 0.5, 2, 3.5}
                                                 : std::vector<double>{-4, -2, -1, 0, 2, 3};
        CHECK(x.values<double>() == expected);
      }
      CHECK(named(tensors, "u8").values<uint8_t>()[0] == 252);
      CHECK(named(tensors, "bool").values<int64_t>() == std::vector<int64_t>{1, 0, 0, 1, 0, 0});
      CHECK(named(tensors, "transposed").shape() == Shape{4, 3});
      CHECK(named(tensors, "transposed").values<float>() ==
            std::vector<float>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11});
      CHECK(named(tensors, "view").values<float>() == std::vector<float>{2, 3, 4, 5, 6, 7});
      CHECK(named(tensors, "every_second").values<float>() ==
            std::vector<float>{1, 3, 5, 7, 9, 11});
      CHECK(named(tensors, "expanded").values<float>() == std::vector<float>(6, 7.0f));
      CHECK(named(tensors, "scalar").item() == 2.5);
      CHECK(named(tensors, "empty").shape() == Shape{0, 4});
      CHECK(named(tensors, "parameter").values<float>() == std::vector<float>{1, 1});
      for (const char* other : {"complex", "u16", "rank7"}) {
        const PickleValue* v = file.root().find(other);
        REQUIRE(v != nullptr);
        CHECK(v->is(Kind::opaque));
        CHECK_THROWS_AS((void)v->tensor(), IoError);
      }
    }
  }

  TEST_CASE("a Lightning checkpoint") {
    const PytorchFile file(fixture("lightning.ckpt"));
    const PickleValue& root = file.root();
    CHECK(root.find("global_step")->integer == 123);
    CHECK(root.find("pytorch-lightning_version")->text == "2.4.0");
    const TensorFile expected = load_safetensors(fixture("expected_checkpoint.safetensors"));
    const auto weights = collect_tensors(*root.find("state_dict"));
    REQUIRE(weights.size() == 2);
    CHECK(weights[0].name == "weight");
    CHECK(weights[0].tensor.values<float>() == expected.at("weight").values<float>());
    CHECK(weights[1].name == "bias");
    CHECK(weights[1].tensor.values<float>() == expected.at("bias").values<float>());
    const PickleValue* optimizer = root.find("optimizer_states")->items.at(0);
    const PickleValue* state = optimizer->find("state")->find(0);
    CHECK(state->find("step")->tensor().item() == 1);
    CHECK(state->find("exp_avg")->tensor().values<float>() ==
          expected.at("exp_avg").values<float>());
    CHECK(optimizer->find("param_groups")->items.at(0)->find("lr")->real == 1e-3);
    CHECK(named(collect_tensors(root), "optimizer_states.0.state.0.exp_avg").shape() ==
          Shape{2, 3});
    // Objects are opaque, their attributes are there.
    const PickleValue* args = root.find("hyper_parameters");
    CHECK(args->is(Kind::opaque));
    CHECK(args->text == "argparse.Namespace");
    CHECK(args->find("lr")->real == 1e-3);
    CHECK(args->find("layers")->items.size() == 2);
    CHECK(root.find("counter")->text == "collections.Counter");
    // Shared values are shared.
    const PickleValue* shared = root.find("shared");
    CHECK(shared->items.at(0) == shared->items.at(1));
  }

  TEST_CASE("plain values") {
    const PytorchFile file(fixture("lightning.ckpt"));
    const PickleValue& v = *file.root().find("values");
    CHECK(v.find("none")->is(Kind::none));
    CHECK(v.find("yes")->is(Kind::boolean));
    CHECK(v.find("yes")->integer == 1);
    CHECK(v.find("no")->integer == 0);
    CHECK(v.find("int")->integer == -5);
    CHECK(v.find("large")->integer == int64_t{1} << 40);
    CHECK(v.find("huge")->is(Kind::opaque));
    CHECK(v.find("float")->real == 0.125);
    CHECK(v.find("text")->text == "b\xc3\xa1tik");
    CHECK(v.find("tuple")->items.size() == 5);
    CHECK(v.find("tuple")->items[1]->items[1]->integer == 3);
    CHECK(v.find("list")->items[1]->items[0]->integer == 2);
    CHECK(v.find("size")->items[1]->integer == 5);
    CHECK(v.find("device")->text == "torch.device");
    CHECK(v.find("dtype")->text == "torch.float32");
    CHECK(v.find("absent") == nullptr);
    CHECK(v.find(3) == nullptr);
  }

  TEST_CASE("files that are not such checkpoints") {
    CHECK(contains(error_of([] { PytorchFile f(fixture("legacy.pth")); }),
                   "legacy format of PyTorch before 1.6; save it again"));
    CHECK(contains(error_of([] { PytorchFile f(fixture("f4.npy")); }), "not a zip archive"));
    CHECK(contains(error_of([] { PytorchFile f(fixture("stored.npz")); }), "no data.pkl"));
    CHECK(contains(error_of([] { PytorchFile f("/none.pt"); }), "/none.pt: cannot open"));
  }

  TEST_CASE("damage is an error, never a crash") {
    const std::string whole = slurp(fixture("tensors_p2.pt"));
    const auto load = [](const std::string& text) {
      const PytorchFile f(bytes(text), "m.pt");
      return collect_tensors(f.root()).size();
    };
    CHECK(load(whole) == 16);
    for (size_t n = 0; n < whole.size(); n += 97)
      CHECK_THROWS_AS((void)load(whole.substr(0, n)), IoError);

    // The pickle asks for more than the storage holds: change sizes, strides and offsets in place.
    const size_t start = whole.find("every_second");
    REQUIRE(start != std::string::npos);
    const std::string call = "K\x06\x85";  // size (6,)
    const size_t at = whole.find(call, start);
    REQUIRE(at != std::string::npos);
    std::string longer = whole;
    longer[at + 1] = 7;
    CHECK(contains(error_of([&] { (void)load(longer); }),
                   "m.pt: a tensor [7] with strides [2] at 1 does not fit its storage of 12"));

    int refused = 0;
    const size_t pickle = whole.find("\x80\x02"), end = whole.find("PK", pickle);
    for (size_t i = pickle; i < end; ++i)
      for (const char c : {'\0', '\x7f', '\xff', 'R', 'e', '(', '.'}) {
        std::string bad = whole;
        bad[i] = c;
        try {
          (void)load(bad);
        } catch (const IoError&) {
          ++refused;
        }
      }
    CHECK(refused > 1000);
  }

  TEST_CASE("broken pickles") {
    CHECK(pickle_error("N.") == "no error");
    CHECK(contains(pickle_error("N"), "p: broken pickle at byte 3: truncated"));
    CHECK(contains(pickle_error("."), "the stack is empty"));
    CHECK(contains(pickle_error("(."), "the stack is empty"));
    CHECK(contains(pickle_error("t."), "no mark"));
    CHECK(contains(pickle_error("N(NNu."), "not a dict"));
    CHECK(contains(pickle_error("}(Nu."), "a key without a value"));
    CHECK(contains(pickle_error("NNa."), "not a list"));
    CHECK(contains(pickle_error("h\x05."), "never set"));
    CHECK(contains(pickle_error("X\xff\xff\xff\x7f"
                                "abc."),
                   "truncated"));
    CHECK(contains(pickle_error("\x8c\x01\xff."), "not UTF-8"));
    CHECK(contains(pickle_error("NNR."), "a call of something"));
    CHECK(contains(pickle_error("cos\nsystem\nNR."), "a call of something"));
    CHECK(contains(pickle_error("i"), "opcode 0x69 is not supported"));
    CHECK(contains(pickle_error("NN\x93."), "not a string"));
    NoHooks hooks;
    PicklePool pool;
    CHECK(
        contains(error_of([&] { (void)unpickle("\x80\x01N.", "p", hooks, pool); }), "protocol 1"));
    CHECK(contains(error_of([&] { (void)unpickle("I1\n.", "p", hooks, pool); }),
                   "protocol 2 or later"));
  }

  TEST_CASE("nothing is called") {
    NoHooks hooks;
    PicklePool pool;
    const PickleValue& v = unpickle(
        "\x80\x02"
        "cos\nsystem\n\x8c\x08"
        "rm -rf /\x85R.",
        "p", hooks, pool);
    CHECK(v.is(Kind::opaque));
    CHECK(v.text == "os.system");
  }

  TEST_CASE("values that contain themselves, and shared ones by the billion") {
    NoHooks hooks;
    PicklePool pool;
    const PickleValue& loop = unpickle(
        "\x80\x02]q\x01h\x01"
        "a.",
        "p", hooks, pool);
    CHECK(loop.items.at(0) == &loop);
    CHECK(contains(error_of([&] { (void)collect_tensors(loop); }), "contains itself"));
    // Nine levels of a list of ten references to the level below.
    std::string ops = "\x80\x02]";
    for (int level = 1; level < 10; ++level) {
      ops += std::string("q") + static_cast<char>(level) + "0](";
      for (int i = 0; i < 10; ++i) ops += std::string("h") + static_cast<char>(level);
      ops += "e";
    }
    const PickleValue& bomb = unpickle(ops + ".", "p", hooks, pool);
    CHECK(contains(error_of([&] { (void)collect_tensors(bomb); }), "nested too deeply"));
  }

  TEST_CASE("copies are limited") {
    // One tuple of 4096 items, made the arguments of many objects.
    std::string ops =
        "cc\nc\nq\x01"
        "0(";
    for (int i = 0; i < 4096; ++i) ops += 'N';
    ops +=
        "tq\x02"
        "0(";
    for (int i = 0; i < 3000; ++i) ops += "h\x01h\x02R";
    CHECK(contains(pickle_error(ops + "t."), "used too often"));
  }
}
