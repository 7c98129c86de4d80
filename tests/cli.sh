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
for c in check gradcheck op ops bench train sample init inspect trace data devices; do
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
expect 2 'nowhere' "$tenun" check "$work/nowhere"
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

# Data and checkpoints.
expect 0 'image' "$tenun" data batik -o "$work/batik" --num 1 --size 16 --classes kawung,parang
[ "$(find "$work/batik" -name '*.png' | wc -l)" -eq 2 ] || { echo 'cli: data batik: not 2 files' >&2; failed=1; }
expect 2 "'kawun'.*kawung" "$tenun" data batik -o "$work/b2" --classes kawun
expect 2 'config.yaml' "$tenun" sample --ckpt "$work/batik" -o "$work/s"
expect 2 'sampler' "$tenun" sample --ckpt x -o y --sampler hune -c "$work/ok.yaml"
expect 2 'nothing' "$tenun" inspect "$work/nothing.safetensors"
expect 0 'rms_norm' "$tenun" devices

[ "$failed" -eq 0 ] && echo "cli: $count calls as expected"
exit "$failed"
