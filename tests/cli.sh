#!/bin/sh
# Exit codes and messages of the program. Usage: cli.sh TENUN
set -u
tenun=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
count=0
# expect CODE TEXT command...: the exit code, and TEXT (a basic regular expression) in the output.
expect() {
  code=$1
  text=$2
  shift 2
  count=$((count + 1))
  "$@" > "$work/out" 2>&1 < /dev/null
  got=$?
  if [ "$got" -ne "$code" ]; then
    echo "cli: exit code $got, not $code: $*" >&2
    cat "$work/out" >&2
    failed=1
  elif ! grep -q -e "$text" "$work/out"; then
    echo "cli: '$text' is not in the output of: $*" >&2
    cat "$work/out" >&2
    failed=1
  fi
}

expect 0 'tenun [0-9]' "$tenun" --version
expect 0 'COMMAND --help' "$tenun" --help
for c in check gradcheck op ops bench train sample init inspect trace data viz devices; do
  expect 0 'Options' "$tenun" "$c" --help
done
start=$(date +%s%N)
"$tenun" --help > "$work/out"
echo "cli: tenun --help took $((($(date +%s%N) - start) / 1000000)) ms"

# The command line.
expect 2 "unknown command 'trian'.*train" "$tenun" trian
expect 2 'help' "$tenun"
expect 2 "unknown flag '--dtyp'.*--dtype" "$tenun" check x --dtyp f32
expect 2 "unknown flag '--classs'.*--classes" "$tenun" sample --ckpt x -o y --classs 1
expect 2 'config' "$tenun" train
expect 2 'threads' "$tenun" ops --threads -1

# Ops.
expect 0 'rms_norm' "$tenun" ops
expect 2 "sofmax.*softmax" "$tenun" op sofmax --in "$work/none" -o "$work/o.safetensors"
expect 1 'none.safetensors' "$tenun" op softmax --in "$work/none.safetensors" -o "$work/o.safetensors"
expect 2 "^tenun: --attrs: invalid JSON at line 1, column 9" "$tenun" op softmax --in x --attrs '{"axis":]' -o "$work/o.safetensors"
expect 2 "^tenun: --attrs: takes a JSON object" "$tenun" op softmax --in x --attrs '[1]' -o "$work/o.safetensors"
expect 2 "^tenun: --dtype: unknown dtype 'f99'" "$tenun" op softmax --in x --dtype f99 -o "$work/o.safetensors"
expect 2 "^tenun: --device: unknown device 'cpux'" "$tenun" ops --device cpux
expect 2 '^tenun: -o: .* is a folder' "$tenun" op softmax --in x -o "$work"
expect 2 'nowhere' "$tenun" check "$work/nowhere"
# A processor level that there is none of: in every subcommand, once, at the start.
for c in 'devices' 'check x' 'gradcheck softmax' 'op softmax --in x -o y' 'bench ops' 'train -c x' 'sample --ckpt x -o y' \
  'inspect x' 'trace x' 'data batik -o x' 'viz routing --in x -o y'; do
  expect 2 "^TENUN_CPU_ISA: 'sse9' is none of avx2" env TENUN_CPU_ISA=sse9 "$tenun" $c
  [ "$(wc -l < "$work/out")" -eq 1 ] || { echo "cli: TENUN_CPU_ISA=sse9 $c: not one line" >&2; failed=1; }
done
# A file that claims to be a case, and is none.
printf '\020\0\0\0\0\0\0\0{"a":1' > "$work/softmax--broken.safetensors"
expect 1 'softmax--broken' "$tenun" check "$work/softmax--broken.safetensors"

# Configurations.
expect 0 'tenun train' "$tenun" init "$work/new"
expect 2 'is there already' "$tenun" init "$work/new"
expect 0 'seed_everything' "$tenun" train -c "$work/new/config.yaml" --print-config
"$tenun" train -c "$work/new/config.yaml" --print-config > "$work/ok.yaml"
expect 0 'max_steps: 3' "$tenun" train -c "$work/ok.yaml" --print-config --trainer.max_steps=3
cat > "$work/bad.yaml" <<'YAML'
trainer:
  max_stepz: 10
  precision: 31-true
YAML
expect 2 'bad.yaml:2:3: .*max_stepz' "$tenun" train -c "$work/bad.yaml"
expect 2 'max_steps' "$tenun" train -c "$work/bad.yaml"
expect 2 'bad.yaml:3:' "$tenun" train -c "$work/bad.yaml"
printf 'trainer: {max_steps: [1\n' > "$work/syntax.yaml"
expect 2 'syntax.yaml:[0-9]*:[0-9]*:' "$tenun" train -c "$work/syntax.yaml"
expect 2 'max_stps' "$tenun" train -c "$work/ok.yaml" --trainer.max_stps=3 --print-config
expect 2 'none.yaml' "$tenun" train -c "$work/none.yaml"
expect 2 'device' "$tenun" train -c "$work/ok.yaml" --device cuda:7 --dry-run

# Benchmarks: wrong values are told before anything runs; what is written can be read.
expect 2 "'attenton'.*attention" "$tenun" bench attenton
expect 2 "'sla'\|'slaa'.*sla" "$tenun" bench attention --methods dense,slaa
expect 2 "'sideways'" "$tenun" bench attention --direction sideways
expect 2 "'int9'" "$tenun" bench attention --dtype int9
expect 2 'sparsity' "$tenun" bench attention --sparsity 1.5
expect 2 'int7' "$tenun" bench attention --pv int7
expect 2 'seq' "$tenun" bench attention --seq 0
expect 2 'exclude' "$tenun" bench attention --tensors a --capture b
expect 2 '.--save' "$tenun" bench attention --save a
expect 1 'none.safetensors' "$tenun" bench attention --tensors "$work/none.safetensors"
expect 2 'no such' "$tenun" bench attention --capture "$work/none"
expect 2 'B, L or H' "$tenun" bench model --preset X/16
expect 2 'multiple of patch' "$tenun" bench model --preset B/16 --image 100
expect 2 'slaa' "$tenun" bench model --preset B/32 --image 32 --methods slaa
# Flags of another benchmark, or of none of the cases.
expect 2 '^tenun: --seq: is for .bench attention.' "$tenun" bench gemm --seq 8
expect 2 '^tenun: --batch: is for ' "$tenun" bench ops --batch 2
expect 2 '^tenun: --svg: is for ' "$tenun" bench train --svg "$work/x.svg"
expect 2 '^tenun: --sample-steps: ' "$tenun" bench train --sample-steps 3
expect 2 '^tenun: --preset: ' "$tenun" bench attention --preset B/16
expect 2 '^tenun: --pv: goes with --dtype int8' "$tenun" bench attention --pv fp8
expect 2 '^tenun: --sparsity: no method' "$tenun" bench attention --methods dense --sparsity 0.5
expect 2 '^tenun: --block-k: no method' "$tenun" bench model --methods dense --block-k 32
expect 2 '^tenun: --layer: goes with --tensors' "$tenun" bench attention --layer 1
expect 2 '^tenun: --seq: is not for given tensors' "$tenun" bench attention --tensors x --seq 64
expect 2 '^tenun: --dtype: unknown' "$tenun" bench ops --dtype f9
# Sizes that no memory holds, and numbers that are none: one short line, before any work.
expect 2 'needs about .* GiB, and this machine has' "$tenun" bench attention --batch 100000000000
expect 2 'needs about .* GiB, and this machine has' "$tenun" bench model --batch 9223372036854775807
expect 2 'needs about .* GiB, and this machine has' "$tenun" bench train --preset B/16 --image 1600000
expect 2 "^tenun: --batch: takes a whole number, at least 1, got '1e11'" "$tenun" bench attention --batch 1e11
expect 2 "^tenun: --seconds: takes seconds from 0 to 86400, got '-1'" "$tenun" bench gemm --seconds -1
expect 2 "^tenun: --seconds: .*'nan'" "$tenun" bench gemm --seconds nan
expect 2 "^tenun: --sparsity: takes a share from 0 to 1, got 'nan'" "$tenun" bench attention --sparsity nan
expect 2 "^tenun: --block-q: takes a whole number from 1 to 1073741824" "$tenun" bench attention --block-q 9223372036854775807
expect 2 "^tenun: --cfg: takes a scale" "$tenun" sample --ckpt x -o y --cfg nan
expect 2 "^tenun: --threads: takes a whole number from 0 to 4096, got '99999999999'" "$tenun" ops --threads 99999999999
[ "$(wc -c < "$work/out")" -lt 200 ] || { echo 'cli: a range message is long' >&2; failed=1; }
# A method that the given tensors do not suit: nothing is measured, and that is a failure.
cross=$(dirname "$0")/golden/ops/sla2_attention--hard-cross.safetensors
expect 1 'nothing could be measured' "$tenun" bench attention --tensors "$cross" --methods vsa --seconds 0
expect 0 'grows as N^.*\(faster\|not faster\)' "$tenun" bench attention --methods dense,sla2 --seq 64,128,192 \
  --heads 2 --dim 16 --block-q 32 --block-k 16 --sparsity 0.5,0.75 --dtype f32,bf16,int8 --seconds 0 \
  --json "$work/bench.jsonl" --svg "$work/bench.svg"
expect 0 'sla2 k=2 D=16 f32  *fwd  *grows as' "$tenun" bench attention --methods sla2 --seq 64,128 --heads 1 --dim 16 --block-q 16 \
  --block-k 16 --topk 2 --direction fwd --seconds 0
# Per length and direction: dense in two dtypes, sla2 in three dtypes at two sparsities.
rows=$(wc -l < "$work/bench.jsonl")
[ "$rows" -eq 48 ] || { echo "cli: bench attention wrote $rows rows, not 48" >&2; failed=1; }
for key in what method shape dtype direction ms ms_min gflops rss_mib device threads isa seed bytes_peak sparsity \
  block_q block_k cos rel_l1 rel_l1_dense parts ms_kernels bytes_saved bytes_scratch; do
  n=$(grep -c "\"$key\":" "$work/bench.jsonl")
  [ "$n" -eq "$rows" ] || { echo "cli: bench attention: '$key' in $n of $rows rows" >&2; failed=1; }
done
grep -q '"sla2".*"int8".*"speedup":.*\|"speedup_dense_bf16":' "$work/bench.jsonl" || { echo 'cli: bench attention: no speedup' >&2; failed=1; }
grep -q '^{.*}$' "$work/bench.jsonl" && ! grep -v '^{.*}$' "$work/bench.jsonl" || { echo 'cli: bench.jsonl: not one object a line' >&2; failed=1; }
grep -q '</svg>' "$work/bench.svg" && grep -q 'sla2 75 %' "$work/bench.svg" || { echo 'cli: bench.svg lacks a curve' >&2; failed=1; }

# Pictures of what attention selects.
expect 2 'one of --ckpt' "$tenun" viz routing -o "$work/viz"
expect 2 "'routin'.*routing" "$tenun" viz routin --in x -o "$work/viz"
expect 1 'none.safetensors' "$tenun" viz routing --in "$work/none.safetensors" -o "$work/viz"
# Every flag is judged before anything is written.
expect 2 '^tenun: --classes: goes with --ckpt' "$tenun" viz routing --in x -o "$work/viz" --classes 1
expect 2 '^tenun: --steps: goes with --ckpt' "$tenun" viz attention --in x -o "$work/viz" --steps 4
expect 2 '^tenun: --grid: goes with --in' "$tenun" viz routing --ckpt x -o "$work/viz" --grid 8
expect 2 "^tenun: -o: .*out is a file" "$tenun" viz routing --in x -o "$work/out"
expect 2 "^tenun: -o: .*out is a file, and no folder for .*out/deep/er" "$tenun" viz routing --in x -o "$work/out/deep/er"
expect 2 '^tenun: --save: .* is a folder' "$tenun" viz routing --in x -o "$work/viz" --save "$work"
expect 2 "^tenun: --method: .*'slaa'" "$tenun" viz routing --in x -o "$work/viz" --method slaa
expect 2 '^tenun: --query: takes one' "$tenun" viz routing --in x -o "$work/viz" --query 1,2
golden=$(dirname "$0")/golden/ops/sla2_attention--hard-d72.safetensors
expect 2 '^tenun: viz routing: method dense has no choice' "$tenun" viz routing --in "$golden" -o "$work/viz" --method dense
expect 2 '^tenun: --sparsity: method dense has no such' "$tenun" viz routing --in "$golden" -o "$work/viz" --method dense --sparsity 0.5
expect 2 '^tenun: --block-q: method vmoba has no such' "$tenun" viz routing --in "$golden" -o "$work/viz" --method vmoba --block-q 8
expect 2 '^tenun: --query: needs a grid' "$tenun" viz routing --in "$golden" -o "$work/viz" --query 1
expect 2 '^tenun: --grid: .* not those of an image' "$tenun" viz routing --in "$golden" -o "$work/viz" --grid 100
expect 2 '^tenun: --tile: needs --grid' "$tenun" viz routing --in "$golden" -o "$work/viz" --tile 8
expect 2 '^tenun: --query: .* tokens 0 to 13, not 14' "$tenun" viz attention --in "$golden" -o "$work/viz" --query 14
[ ! -e "$work/viz" ] || { echo 'cli: viz made a folder before it judged its flags' >&2; failed=1; }
expect 0 'head  0  most 0\.[0-9]* to token' "$tenun" viz attention --in "$golden" -o "$work/viz3"
[ -s "$work/viz3/block_00_attention.png" ] || { echo 'cli: viz attention drew nothing' >&2; failed=1; }
expect 0 'head  0  sparsity' "$tenun" viz routing --in "$golden" -o "$work/viz" --save "$work/saved.safetensors"
expect 0 'head  0  sparsity' "$tenun" viz routing --in "$work/saved.safetensors" -o "$work/viz2" --sparsity 0.5
expect 2 'no block 7' "$tenun" viz routing --in "$work/saved.safetensors" -o "$work/viz2" --layer 7
[ -s "$work/viz/block_00_map.png" ] || { echo 'cli: viz routing drew nothing' >&2; failed=1; }
expect 0 'block 0 of' "$tenun" bench attention --tensors "$work/saved.safetensors" --seconds 0 --methods sla2 --sparsity 0.5
# The same from a network: two training steps, then what its attention gets while it draws.
cat > "$work/tiny.yaml" <<'YAML'
trainer: {max_steps: 2}
model:
  denoiser:
    class_path: src.models.transformer.JiT.JiT
    init_args: {input_size: 16, patch_size: 2, hidden_size: 16, depth: 2, num_heads: 2,
                num_classes: 3, bottleneck_dim: 8, in_context_len: 4, in_context_start: 1,
                attention: {method: sla2, block_q: 8, block_k: 8, topk_ratio: 0.25}}
  diffusion_trainer:
    class_path: tenun.diffusion.JiTTrainer
data:
  train_dataset:
    class_path: tenun.data.BatikDataset
    init_args: {classes: [ceplok, kawung, parang], num_per_class: 3, resolution: 16}
  train_batch_size: 2
YAML
"$tenun" train -c "$work/tiny.yaml" -q --run_dir="$work/tiny" > "$work/out" 2>&1 || { cat "$work/out" >&2; failed=1; }
expect 0 'block  1  sla2: 9 x 9 blocks of 8 queries x 8 keys' "$tenun" viz routing --ckpt "$work/tiny/checkpoints/last" -o "$work/drawn"
for f in block_00_map block_00_tokens block_01_map block_01_tokens; do
  [ -s "$work/drawn/$f.png" ] || { echo "cli: viz routing: no $f.png" >&2; failed=1; }
done
expect 2 'query blocks 0 to 7' "$tenun" viz routing --ckpt "$work/tiny/checkpoints/last" -o "$work/drawn" --query 8
expect 2 '^tenun: --classes: .*0 to 2, not 77' "$tenun" viz routing --ckpt "$work/tiny/checkpoints/last" -o "$work/drawn" --classes 77
expect 2 '^tenun: --classes: .*0 to 2, not 77' "$tenun" sample --ckpt "$work/tiny/checkpoints/last" -o "$work/s" --classes 77
expect 0 'token 54 (row 6, column 6)' "$tenun" viz attention --ckpt "$work/tiny/checkpoints/last" -o "$work/drawn" --query 9,54 --save "$work/heat.safetensors"
for m in dense sage sla2 sla pixelgen_sla2 vsa vmoba sparge llsa window linear sparse; do
  expect 0 "block  1  $m" "$tenun" viz attention --in "$work/heat.safetensors" -o "$work/drawn" --method $m --layer 1
done
for b in 00 01; do
  [ -s "$work/drawn/block_${b}_attention.png" ] || { echo "cli: viz attention: no picture of block $b" >&2; failed=1; }
done
expect 0 'block 1 of' "$tenun" bench attention --capture "$work/tiny/checkpoints/last" --save "$work/tiny.safetensors" \
  --methods dense,sla2 --seconds 0 --sparsity 0.5
expect 0 'block 0 of' "$tenun" bench attention --tensors "$work/tiny.safetensors" --layer 0 --methods sla2 --seconds 0

# Data and checkpoints.
expect 0 'image' "$tenun" data batik -o "$work/batik" --num 1 --size 16 --classes kawung,parang
[ "$(find "$work/batik" -name '*.png' | wc -l)" -eq 2 ] || { echo 'cli: data batik: not 2 files' >&2; failed=1; }
expect 2 "'batk'.*batik" "$tenun" data batk -o "$work/b2"
expect 2 '^tenun: --num: is for .data batik.' "$tenun" data crop --in "$work/batik" -o "$work/b2" --num 3
expect 2 '^tenun: --in: is for ' "$tenun" data batik --in "$work/batik" -o "$work/b2"
expect 2 '^tenun: -o: .*out is a file' "$tenun" data batik -o "$work/out"
expect 2 "'kawun'.*kawung" "$tenun" data batik -o "$work/b2" --classes kawun
expect 2 'config.yaml' "$tenun" sample --ckpt "$work/batik" -o "$work/s"
expect 2 'sampler' "$tenun" sample --ckpt x -o y --sampler hune -c "$work/ok.yaml"
expect 2 'nothing' "$tenun" inspect "$work/nothing.safetensors"
expect 0 'rms_norm' "$tenun" devices

[ "$failed" -eq 0 ] && echo "cli: $count calls as expected"
exit "$failed"
