// The table of broken configurations: tests/golden/broken_configs.txt, whose head explains it.
#include <doctest/doctest.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "tenun/train/config/config.h"

namespace {

namespace fs = std::filesystem;
using namespace tenun;

constexpr const char* kValid = R"(
model:
  denoiser:
    class_path: src.models.transformer.JiT.JiT
    init_args: {input_size: 32, patch_size: 4, hidden_size: 32, depth: 4, num_heads: 2,
                num_classes: 3, in_context_start: 1}
  optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 1e-3}}
  ema_tracker: callbacks.simple_ema.SimpleEMA
  diffusion_sampler: {class_path: sampling.HeunSamplerJiT, init_args: {num_steps: 4}}
  diffusion_trainer: {class_path: training_pixel.PixelFlowMatchingTrainer}
data:
  train_dataset: {class_path: imagenet.PixImageNet, init_args: {root: images, resolution: 32}}
)";

struct Expected {
  int line = 0, column = 0;
  std::string key, message, hint;
};
struct Case {
  std::string title, text;
  std::vector<std::string> flags;
  bool alone = false, run = false;
  std::vector<Expected> expected;
};

std::string trimmed(const std::string& s) {
  const auto first = s.find_first_not_of(' ');
  return first == std::string::npos ? "" : s.substr(first, s.find_last_not_of(' ') - first + 1);
}

Expected read_expected(const std::string& line) {
  Expected e;
  const auto bar = line.find('|');
  const auto second = line.find('|', bar + 1);
  e.key = trimmed(line.substr(0, bar));
  e.message = trimmed(line.substr(bar + 1, second - bar - 1));
  e.hint = second == std::string::npos ? "" : trimmed(line.substr(second + 1));
  return e;
}

/// Takes the section signs out of the text; their places become the expected positions.
void place(Case& c, const std::vector<bool>& is_flag) {
  const std::string sign = "\xC2\xA7";
  std::vector<std::pair<int, int>> places;
  std::string clean;
  int line = 1, column = 1;
  for (std::size_t i = 0; i < c.text.size(); ++i) {
    if (c.text.compare(i, sign.size(), sign) == 0) {
      places.emplace_back(line, column);
      i += sign.size() - 1;
      continue;
    }
    clean += c.text[i];
    ++column;
    if (c.text[i] == '\n') ++line, column = 1;
  }
  c.text = clean;
  std::size_t next = 0;
  for (std::size_t i = 0; i < c.expected.size(); ++i) {
    if (is_flag[i]) continue;
    // A place may serve two problems: the last sign is used again.
    REQUIRE_MESSAGE(!places.empty(), c.title);
    const auto& p = places[std::min(next++, places.size() - 1)];
    c.expected[i].line = p.first;
    c.expected[i].column = p.second;
  }
}

std::vector<Case> read_cases() {
  std::ifstream in(std::string(TENUN_SOURCE_DIR) + "/tests/golden/broken_configs.txt");
  REQUIRE(in);
  std::vector<Case> cases;
  std::vector<std::vector<bool>> flags;
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind("### ", 0) == 0) {
      cases.emplace_back();
      flags.emplace_back();
      cases.back().title = line.substr(4);
    } else if (cases.empty()) {
      continue;
    } else if (line.rfind("$ ", 0) == 0) {
      cases.back().flags.push_back(line.substr(2));
    } else if (line == "! alone") {
      cases.back().alone = true;
    } else if (line == "! run") {
      cases.back().run = true;
    } else if (line.rfind("=>", 0) == 0) {
      const bool flag = line.rfind("=>>", 0) == 0;
      cases.back().expected.push_back(read_expected(line.substr(flag ? 3 : 2)));
      flags.back().push_back(flag);
    } else {
      cases.back().text += line + "\n";
    }
  }
  for (std::size_t i = 0; i < cases.size(); ++i) place(cases[i], flags[i]);
  return cases;
}

struct Folder {
  fs::path path;
  Folder() : path(fs::temp_directory_path() / fmt::format("tenun-config-{}", ::getpid())) {
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
    return (path / name).string();
  }
};

std::vector<ConfigProblem> problems_of(const Folder& folder, const Case& c) {
  const bool blank = c.text.empty() && !c.alone;
  const std::string text = folder.write("case.yaml", blank ? "{}" : c.text);
  std::vector<std::string> files{text};
  if (!c.alone) files.insert(files.begin(), folder.write("valid.yaml", kValid));
  try {
    const RunConfig config = load_config(files, parse_overrides(c.flags));
    if (c.run) require_available(config);
  } catch (const ConfigProblemsError& e) {
    return e.problems;
  }
  return {};
}

}  // namespace

TEST_SUITE("train_config_errors") {
  TEST_CASE("the configuration under the table is valid") {
    const Folder folder;
    Case c;
    c.run = true;
    CHECK(problems_of(folder, c).empty());
  }

  TEST_CASE("every broken configuration is reported with line, column, key and hint") {
    const Folder folder;
    const auto cases = read_cases();
    std::set<std::string> kinds;
    for (const auto& c : cases) {
      kinds.insert(c.title.substr(0, c.title.find(':')));
      CAPTURE(c.title);
      const auto problems = problems_of(folder, c);
      std::string all;
      for (const auto& p : problems) all += p.text() + "\n";
      CAPTURE(all);
      CHECK(problems.size() == c.expected.size());
      for (std::size_t i = 0; i < std::min(problems.size(), c.expected.size()); ++i) {
        const auto& p = problems[i];
        const auto& e = c.expected[i];
        CHECK(p.line == e.line);
        CHECK(p.column == e.column);
        CHECK(p.key == e.key);
        CHECK_MESSAGE(p.message.find(e.message) != std::string::npos, e.message);
        CHECK_MESSAGE(p.hint.find(e.hint) != std::string::npos, e.hint);
        CHECK(!e.message.empty());
        const bool flag = e.line == 0;
        CHECK((p.file.rfind("--", 0) == 0) == flag);
        if (!flag) CHECK(fs::path(p.file).filename() == "case.yaml");
      }
    }
    CHECK(cases.size() >= 110);
    CHECK(kinds.size() >= 28);
    MESSAGE(cases.size() << " broken configurations of " << kinds.size() << " kinds");
  }

  TEST_CASE("what() has one line per problem: file:line:column: message; hint") {
    try {
      static_cast<void>(
          parse_config("model: {denoiser: JiT.JiT}\ntrainer: {max_step: 3, log_every_n_steps: x}\n",
                       "run.yaml"));
      FAIL("nothing was thrown");
    } catch (const ConfigError& e) {
      CHECK(std::string(e.what()) ==
            "run.yaml:2:11: unknown key 'max_step' in 'trainer'; did you mean 'max_steps'?\n"
            "run.yaml:2:43: expected an integer, got 'x'");
    }
  }

  TEST_CASE("characters: invalid UTF-8 and control characters") {
    for (const auto& [text, line, column] :
         std::vector<std::tuple<std::string, int, int>>{{"tags: {exp: \xff}", 1, 13},
                                                        {"a: 1\nb: \xc3(", 2, 4},
                                                        {"\xc0\xaf: 1", 1, 1},
                                                        {"a: \xed\xa0\x80", 1, 4},
                                                        {std::string("a: x\x04y"), 1, 5},
                                                        {std::string("a: \0b", 5), 1, 4}}) {
      ConfigProblems problems;
      static_cast<void>(parse_yaml(text, "t.yaml", problems));
      REQUIRE(problems.size() == 1);
      try {
        problems.throw_if_any();
      } catch (const ConfigProblemsError& e) {
        CHECK(e.problems[0].line == line);
        CHECK(e.problems[0].column == column);
      }
    }
    ConfigProblems problems;
    CHECK(parse_yaml("tags: {exp: m\xc3\xa9ga}", "t.yaml", problems).is_map());
    CHECK(problems.empty());
  }

  TEST_CASE("hostile documents are refused: depth, alias bombs, cycles of bases") {
    ConfigProblems problems;
    static_cast<void>(parse_yaml(std::string(100000, '['), "deep.yaml", problems));
    CHECK(problems.size() == 1);
    std::string bomb = "x-0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
    for (int i = 1; i < 12; ++i) {
      bomb += fmt::format("x-{}: &a{} [", i, i);
      for (int k = 0; k < 10; ++k) bomb += fmt::format("{}*a{}", k != 0 ? ", " : "", i - 1);
      bomb += "]\n";
    }
    ConfigProblems more;
    static_cast<void>(parse_yaml(bomb, "bomb.yaml", more));
    CHECK(more.size() == 1);

    const Folder folder;
    folder.write("a.yaml", "base: b.yaml\n");
    const std::string b = folder.write("b.yaml", "base: [a.yaml]\n");
    ConfigProblems cycle;
    static_cast<void>(load_yaml(b, cycle));
    CHECK(cycle.size() == 1);
    for (int i = 0; i < 30; ++i)
      folder.write(fmt::format("c{}.yaml", i), fmt::format("base: c{}.yaml\n", i + 1));
    ConfigProblems chain;
    static_cast<void>(load_yaml((folder.path / "c0.yaml").string(), chain));
    CHECK(chain.size() == 1);
  }

  TEST_CASE("damaged files never do more than throw tenun::Error") {
    std::vector<std::string> texts{kValid};
    for (const char* name : {"quickstart", "pixelgen/jit_b_sla2", "pixelgen/jit_b"}) {
      std::ifstream in(fmt::format("{}/configs/{}.yaml", TENUN_SOURCE_DIR, name));
      texts.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
      REQUIRE(texts.back().size() > 500);
    }
    std::uint64_t state = 1;
    const auto draw = [&state](std::size_t n) {  // splitmix64
      std::uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
      return static_cast<std::size_t>((z ^ (z >> 31)) % n);
    };
    const std::string bytes = "{}[]:,&*!|>'\"-?#%@\n\t \x01\xff<0";
    int refused = 0;
    int runs = 0;
    for (; runs < 600; ++runs) {
      std::string text = texts[draw(texts.size())];
      for (std::size_t k = 1 + draw(4); k > 0; --k) {
        const std::size_t at = draw(text.size());
        switch (draw(4)) {
          case 0: text[at] = bytes[draw(bytes.size())]; break;
          case 1: text.erase(at, 1 + draw(20)); break;
          case 2: text.insert(at, 1, bytes[draw(bytes.size())]); break;
          default: text.insert(at, text.substr(draw(text.size()), draw(60)));
        }
      }
      try {
        const std::string resolved = resolved_yaml(parse_config(text, "damaged.yaml"));
        CHECK(resolved_yaml(parse_config(resolved, "again.yaml")) == resolved);
      } catch (const Error&) {
        ++refused;
      }
    }
    CHECK(refused > runs / 2);
    CHECK(refused < runs);  // some damage only hits comments and names
  }
}
