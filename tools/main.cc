// The program `tenun`: reads the command line, calls the subcommand, maps errors to exit codes.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/core/version.h"
#include "tenun/init.h"
#include "tenun/tools/commands.h"
#include "tenun/tools/flags.h"
#include "tenun/tools/table.h"

namespace {

using namespace tenun;
using namespace tenun::tools;

// The checks of numbers. Messages name what was written and what is expected, never the limits of
// a type.
template <class T>
CLI::Validator number(T least, T most, const std::string& expected) {
  return {[=](std::string& text) {
            T value{};
            const char* const end = text.data() + text.size();
            const auto [stop, error] = std::from_chars(text.data(), end, value);
            const bool good =
                error == std::errc{} && stop == end && value >= least && value <= most;
            return good ? std::string() : fmt::format("takes {}, got '{}'", expected, text);
          },
          ""};
}
CLI::Validator whole(int64_t least, int64_t most = std::numeric_limits<int64_t>::max()) {
  return number<int64_t>(least, most,
                         most < std::numeric_limits<int64_t>::max()
                             ? fmt::format("a whole number from {} to {}", least, most)
                             : fmt::format("a whole number, at least {}", least));
}
CLI::Validator real(double least, double most, const std::string& expected) {
  return number<double>(least, most, expected);
}
CLI::Validator share() { return real(0, 1, "a share from 0 to 1"); }

// Every subcommand takes the common flags after its name.
void add_common(CLI::App* app, Common& c) {
  app->add_option("--device", c.device, "cpu, cuda, cuda:N, emulated or auto");
  app->add_option("--threads", c.threads, "threads on the CPU (0: all)")->check(whole(0, 4096));
  app->add_option("--seed", c.seed, "seed of everything random")->check(whole(0));
  app->add_flag("-v,--verbose{1},-q{-1},--quiet{-1}", c.verbosity, "more or less output");
}

struct Program {
  CLI::App app{"Tenun: a deep learning mini-framework. tenun COMMAND --help tells more."};
  Common common;
  CheckOptions check;
  GradcheckCommandOptions gradcheck;
  OpOptions op;
  OpsOptions ops;
  BenchOptions bench;
  TrainCommandOptions train;
  SampleCommandOptions sample;
  InitOptions init;
  InspectOptions inspect;
  TraceOptions trace;
  DataCommandOptions data;
  VizOptions viz;

  Program() {
    app.set_version_flag("--version", std::string("tenun ") + version());
    app.require_subcommand(1);
    auto* c =
        app.add_subcommand("check", "verify golden files (reference tensors from any framework)");
    c->add_option("paths", check.paths, "files or folders")->required();
    c->add_option("--dtype", check.dtype, "f64, f32 or bf16");
    c->add_flag("--all", check.all, "print passing files, too");
    auto* g =
        app.add_subcommand("gradcheck", "compare every op's gradient with finite differences");
    g->add_option("ops", gradcheck.ops, "names (default: all)");
    auto* o = app.add_subcommand("op", "run one op on tensors from a file");
    o->add_option("name", op.name, "the op; `tenun ops` lists them")->required();
    o->add_option("--in", op.input, "safetensors file with in.<input>, cot.<output>")->required();
    o->add_option("--attrs", op.attrs, "attributes as a JSON object");
    o->add_option("-o,--output", op.output, "safetensors file to write")->required();
    o->add_option("--dtype", op.dtype, "f64, f32, bf16 or f16");
    o->add_flag("--grad", op.grad, "gradients, too");
    auto* l = app.add_subcommand("ops", "list the ops with inputs and attributes");
    l->add_option("names", ops.names, "show these with their attributes");
    l->add_flag("--markdown", ops.markdown, "as rows of a Markdown table");
    auto* b = app.add_subcommand("bench", "time ops, products and models");
    b->add_option("what", bench.what,
                  "attention, gemm, ops, model (forward) or train (a whole step)")
        ->required();
    b->add_option("--preset", bench.preset,
                  "network of model and train: B/16, L/16, H/16, B/32, ...");
    b->add_option("--batch", bench.batch, "images; several: 1,8,32")
        ->delimiter(',')
        ->check(whole(1));
    b->add_option("--dtype", bench.dtype,
                  "f32, bf16, f16 or f64; gemm: also int8; attention: a list, also int8");
    b->add_option("--json", bench.json, "write one JSON object a line to this file");
    b->add_option("--svg", bench.svg, "attention: draw time against length into this file");
    b->add_option("--seconds", bench.seconds, "time for each measurement")
        ->check(real(0, 86400, "seconds from 0 to 86400"));
    b->add_option("--methods", bench.methods,
                  "attention methods, or all; the first is what others are compared with")
        ->delimiter(',');
    b->add_option("--sparsity", bench.sparsity, "shares of blocks without exact attention")
        ->delimiter(',')
        ->check(share());
    b->add_option("--topk", bench.topk,
                  "attention: key blocks of a row with exact attention, at every length")
        ->delimiter(',')
        ->check(whole(1));
    b->add_option("--seq", bench.seq, "attention: tokens; several: 1024,4096")
        ->delimiter(',')
        ->check(whole(1));
    b->add_option("--dim", bench.dim, "attention: channels of a head (64)")
        ->delimiter(',')
        ->check(whole(1));
    b->add_option("--heads", bench.heads, "attention: heads")->check(whole(1));
    b->add_option("--direction", bench.directions, "attention: fwd, fwd+bwd (default: both)")
        ->delimiter(',');
    b->add_option("--block-q", bench.block_q, "tokens of a query block")
        ->check(whole(1, int64_t{1} << 30));
    b->add_option("--block-k", bench.block_k, "tokens of a key block")
        ->check(whole(1, int64_t{1} << 30));
    b->add_option("--pv", bench.pv, "attention: low-bit type of p v for --dtype int8");
    b->add_option("--tensors", bench.tensors, "attention: q, k, v from this safetensors file");
    b->add_option("--capture", bench.capture, "attention: q, k, v of this checkpoint's network");
    b->add_option("--save", bench.save, "with --capture: write them to this file");
    b->add_option("--layer", bench.layer, "of --tensors and --capture (default: the middle one)")
        ->check(whole(0));
    b->add_option("--image", bench.image, "model, train: pixels of a side (default: the preset's)")
        ->check(whole(1));
    b->add_option("--sample-steps", bench.sample_steps,
                  "model: also time drawing a picture with so many steps of Heun's method")
        ->check(whole(0));
    auto* t = app.add_subcommand(
        "train", "train a network from YAML configurations; --KEY.PATH=VALUE overrides");
    t->add_option("-c,--config", train.configs, "configuration; later files win")->required();
    t->add_option("--resume", train.resume,
                  "continue: auto (the run's last checkpoint), or a checkpoint folder");
    t->add_option("--init-from", train.init_from, "start from the weights of this checkpoint");
    t->add_flag("--dry-run", train.dry_run, "build everything, report, run nothing");
    t->add_flag("--print-config", train.print_config, "print the resolved configuration");
    t->allow_extras();
    auto* s = app.add_subcommand("sample", "draw pictures from a checkpoint");
    s->add_option("--ckpt", sample.ckpt, "checkpoint folder, .safetensors or .ckpt")->required();
    s->add_option("-c,--config", sample.config,
                  "its configuration (default: config.yaml of its run)");
    s->add_option("-o,--output", sample.output, "folder for the pictures")->required();
    s->add_option("--classes", sample.classes, "labels, repeated in turn (default: all)")
        ->delimiter(',');
    s->add_option("--num", sample.num, "how many pictures")->check(whole(1));
    s->add_option("--steps", sample.steps, "integration steps")->check(whole(1));
    s->add_option("--cfg", sample.cfg, "guidance scale")
        ->check(real(0, 1e6, "a scale from 0 to 1e6"));
    s->add_option("--sampler", sample.sampler, "heun, euler or adams");
    s->add_flag("--ema,!--no-ema", sample.ema, "averaged weights (default) or raw ones");
    s->add_flag("--grid", sample.grid, "also all of them in one picture, grid.png");
    s->add_flag("--grid-only", sample.grid_only, "grid.png alone");
    s->add_flag("--trajectory", sample.trajectory, "also a GIF of the way of each sample");
    s->add_flag("--check-classes", sample.check_classes,
                "share of samples nearest to the centroid of their class in the training data");
    auto* n = app.add_subcommand("init", "a commented starter configuration");
    n->add_option("folder", init.folder, "where to write config.yaml")->required();
    auto* i = app.add_subcommand(
        "inspect", "parameters, shapes, compute, memory of a checkpoint or configuration");
    i->add_option("path", inspect.path, "checkpoint folder, .safetensors, .ckpt, .pth or .yaml")
        ->required();
    i->add_flag("--tensors", inspect.tensors, "list every tensor");
    i->allow_extras();
    auto* r =
        app.add_subcommand("trace", "the tape of one training step: op, shapes, bytes kept, time");
    r->add_option("config", trace.config, "configuration")->required();
    r->add_option("--batch", trace.batch, "images")->check(whole(1));
    r->allow_extras();
    auto* d = app.add_subcommand(
        "data", "batik: the built-in pictures as files; crop: ADM crops; stats: of a folder");
    d->add_option("what", data.what, "batik, crop or stats")->required();
    d->add_option("-o,--output", data.output, "folder to write");
    d->add_option("--in", data.input, "folder to read");
    d->add_option("--num", data.num, "pictures of each class")->check(whole(1));
    d->add_option("--size", data.size, "pixels")->check(whole(1, 32768));
    d->add_option("--classes", data.classes, "names of batik classes (default: all twenty)")
        ->delimiter(',');
    d->add_flag("--sheet", data.sheet, "one contact sheet instead of files");
    auto* v = app.add_subcommand("viz",
                                 "routing: pictures of the blocks that attention selects; "
                                 "attention: heat maps of what query tokens attend to");
    v->add_option("what", viz.what, "routing or attention")->required();
    v->add_option("--ckpt", viz.ckpt, "checkpoint: what its network attends to while it draws");
    v->add_option("-c,--config", viz.config, "its configuration (default: config.yaml of its run)");
    v->add_option("--in", viz.input, "safetensors file with q and k (B, H, N, D)");
    v->add_option("-o,--output", viz.output, "folder for the pictures")->required();
    v->add_option("--classes", viz.classes, "label of the picture that is drawn")->delimiter(',');
    v->add_option("--steps", viz.steps, "of the sampler; the middle evaluation is shown")
        ->check(whole(2, 1000));
    v->add_option("--layer", viz.layer, "this block only")->check(whole(0));
    v->add_option("--query", viz.query,
                  "routing: the query block whose choice is drawn (the middle one); attention: "
                  "tokens, those of an image counted row by row (four)")
        ->delimiter(',')
        ->check(whole(0));
    v->add_option("--method", viz.method, "another attention method on the same q and k");
    v->add_option("--sparsity", viz.sparsity, "another share of blocks without exact attention")
        ->check(share());
    v->add_option("--block-q", viz.block_q, "tokens of a query block")
        ->check(whole(1, int64_t{1} << 30));
    v->add_option("--block-k", viz.block_k, "tokens of a key block")
        ->check(whole(1, int64_t{1} << 30));
    v->add_option("--grid", viz.grid, "image tokens in a row")->check(whole(1));
    v->add_option("--tile", viz.tile, "1: tokens in raster order; 8: in tiles of 8 x 8")
        ->check(CLI::IsMember({1, 8}));
    v->add_option("--save", viz.save, "also write q, k, v and the learned values to this file");
    app.add_subcommand("devices", "CPU features, GPUs, and which ops run where");
    for (CLI::App* sub : app.get_subcommands({})) add_common(sub, common);
  }

  int run() {
    set_num_threads(common.threads);
    const CLI::App& sub = *app.get_subcommands().at(0);
    for (const CLI::Option* opt : sub.get_options())
      if (opt->count() > 0) common.given.insert(opt->get_lnames().begin(), opt->get_lnames().end());
    (void)device_flag(common);
    const std::string name = sub.get_name();
    if (name == "check") return check_command(common, check);
    if (name == "gradcheck") return gradcheck_command(common, gradcheck);
    if (name == "op") return op_command(common, op);
    const std::vector<std::string> extra = sub.remaining();
    train.overrides = inspect.overrides = trace.overrides = extra;
    if (name == "train") return train_command(common, train);
    if (name == "sample") return sample_command(common, sample);
    if (name == "init") return init_command(init);
    if (name == "inspect") return inspect_command(inspect);
    if (name == "trace") return trace_command(common, trace);
    if (name == "data") return data_command(common, data);
    if (name == "viz") return viz_command(common, viz);
    if (name == "bench") return bench_command(common, bench);
    if (name == "ops") return ops_command(ops);
    return devices_command();
  }

  // A misspelt flag or subcommand is named together with the nearest one.
  [[nodiscard]] std::string suggestion(int argc, char** argv) {
    std::vector<std::string> known;
    CLI::App* scope = &app;
    for (CLI::App* sub : app.get_subcommands({})) known.push_back(sub->get_name());
    if (argc > 1 && std::find(known.begin(), known.end(), argv[1]) != known.end()) {
      scope = app.get_subcommand(argv[1]);
      known.clear();
    } else if (argc > 1 && argv[1][0] != '-') {
      return fmt::format("unknown command '{}'{}", argv[1], did_you_mean(argv[1], known));
    }
    for (const CLI::Option* opt : scope->get_options())
      for (const std::string& l : opt->get_lnames()) known.push_back("--" + l);
    for (int i = 1; i < argc; ++i) {
      const std::string arg = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
      if (arg.starts_with("--") && std::find(known.begin(), known.end(), arg) == known.end())
        return fmt::format("unknown flag '{}'{}", arg, did_you_mean(arg, known));
    }
    return "";
  }
};

}  // namespace

int main(int argc, char** argv) {
  Program program;
  try {
    try {
      program.app.parse(argc, argv);
      for (int i = 0; i < argc; ++i)
        program.train.command += (i == 0 ? "" : " ") + std::string(argv[i]);
    } catch (const CLI::ParseError& e) {
      if (e.get_exit_code() == 0) return program.app.exit(e);  // --help, --version
      const std::string hint = program.suggestion(argc, argv);
      fmt::print(stderr, "tenun: {}\nRun `tenun {}--help` for the usage.\n",
                 hint.empty() ? e.what() : hint,
                 program.app.get_subcommands().empty()
                     ? ""
                     : program.app.get_subcommands()[0]->get_name() + " ");
      return 2;
    }
    init();
    return program.run();
  } catch (const UsageError& e) {
    fmt::print(stderr, "tenun: {}\n", e.what());
    return 2;
  } catch (const ConfigError& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "tenun: {}\n", e.what());
    return 1;
  }
}
