// The program `tenun`: reads the command line, calls the subcommand, maps errors to exit codes.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/core/version.h"
#include "tenun/init.h"
#include "tenun/tools/commands.h"
#include "tenun/tools/table.h"

namespace {

using namespace tenun;
using namespace tenun::tools;

// Every subcommand takes the common flags after its name.
void add_common(CLI::App* app, Common& c) {
  app->add_option("--device", c.device, "cpu, cuda, cuda:N or auto");
  app->add_option("--threads", c.threads, "threads on the CPU (0: all)")
      ->check(CLI::NonNegativeNumber);
  app->add_option("--seed", c.seed, "seed of everything random")->check(CLI::NonNegativeNumber);
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
    b->add_option("what", bench.what, "gemm, ops, model or train")->required();
    b->add_option("--dtype", bench.dtype, "f32, bf16, f16 or f64");
    b->add_option("--json", bench.json, "write one JSON object a line to this file");
    b->add_option("--seconds", bench.seconds, "time for each measurement");
    app.add_subcommand("devices", "CPU features, GPUs, and which ops run where");
    for (CLI::App* sub : app.get_subcommands({})) add_common(sub, common);
  }

  int run() {
    set_num_threads(common.threads);
    const std::string name = app.get_subcommands().at(0)->get_name();
    if (name == "check") return check_command(common, check);
    if (name == "gradcheck") return gradcheck_command(common, gradcheck);
    if (name == "op") return op_command(common, op);
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
