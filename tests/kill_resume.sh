#!/bin/sh
# A run that is killed again and again, at random moments, and continued with --resume auto ends
# with bitwise the weights, averages and optimizer state of a run that nothing disturbed.
# Also: SIGINT and SIGTERM finish the step, save, and exit with 130 and 143.
# Usage: kill_resume.sh TENUN [KILLS]
set -u
tenun=$1
kills=${2:-30}
# In memory where that is possible: waiting for a busy disk tests nothing here.
work=$(mktemp -d -p /dev/shm 2> /dev/null || mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "kill_resume: $*" >&2; tail -n 20 "$work/log" >&2; exit 1; }

# Checkpoints often, two batches a step, and an epoch of 10 batches that ends inside the run: the
# kills hit writing, accumulation and the middle of epochs.
cat > "$work/run.yaml" <<'YAML'
seed_everything: 7
trainer:
  max_steps: 200
  accumulate_grad_batches: 2
  log_every_n_steps: 5
  gradient_clip_val: 1.0
  callbacks:
    - class_path: src.callbacks.model_checkpoint.CheckpointHook
      init_args: {every_n_train_steps: 2, save_top_k: 2, save_last: true}
model:
  denoiser:
    class_path: src.models.transformer.JiT.JiT
    init_args: {input_size: 16, patch_size: 2, hidden_size: 16, depth: 2, num_heads: 2,
                num_classes: 3, bottleneck_dim: 8, in_context_len: 4, in_context_start: 1,
                proj_drop: 0.1,
                attention: {method: sla2, block_q: 8, block_k: 8, topk_ratio: 0.25}}
  diffusion_trainer:
    class_path: tenun.diffusion.JiTTrainer
  ema_tracker:
    class_path: src.callbacks.simple_ema.SimpleEMA
    init_args: {decay: 0.99, warmup: true}
  optimizer:
    class_path: torch.optim.AdamW
    init_args: {lr: 1e-3}
  lr_scheduler:
    class_path: src.utils.lr_scheduler.ConstantWithWarmup
    init_args: {num_warmup_steps: 10}
data:
  train_dataset:
    class_path: tenun.data.BatikDataset
    init_args: {classes: [ceplok, kawung, parang], num_per_class: 13, resolution: 16, seed: 1,
                random_flip: true}
  train_batch_size: 4
  train_num_workers: 2
YAML

common="train -c $work/run.yaml --threads 1 -q"
run() { # folder, flags...
  folder=$1
  shift
  "$tenun" $common --run_dir="$folder" "$@"
}

run "$work/whole" > "$work/log" 2>&1 || fail "the undisturbed run failed"

done_kills=0
round=0
while [ "$done_kills" -lt "$kills" ]; do
  round=$((round + 1))
  folder="$work/killed-$round"
  while :; do
    # Not the function: its subshell would be killed in place of the program.
    "$tenun" $common --run_dir="$folder" --resume auto > "$work/log" 2>&1 &
    pid=$!
    # 50 to 400 ms, from the kernel's random numbers.
    ms=$(($(od -An -N2 -tu2 /dev/urandom) % 351 + 50))
    sleep "$(printf '0.%03d' "$ms")"
    if [ "$done_kills" -lt "$kills" ] && kill -9 "$pid" 2> /dev/null; then
      done_kills=$((done_kills + 1))
      wait "$pid" 2> /dev/null
      [ $? -eq 137 ] && continue
      break # it had just finished
    fi
    wait "$pid" || fail "the continued run failed"
    break
  done
  for f in model ema optimizer; do
    cmp "$work/whole/checkpoints/last/$f.safetensors" "$folder/checkpoints/last/$f.safetensors" ||
      fail "round $round: $f differs after kills"
  done
  for f in "$folder"/checkpoints/.tmp-* "$folder"/.tmp-*; do
    [ -e "$f" ] && fail "round $round: $f was left behind"
  done
  rm -rf "$folder"
done
echo "kill_resume: $done_kills kills in $round runs, bitwise equal"

for signal in INT:130 TERM:143; do
  folder="$work/${signal%:*}"
  # A background job of sh ignores SIGINT; env resets it.
  env --default-signal=INT "$tenun" train -c "$work/run.yaml" --threads 1 --run_dir="$folder" \
    --trainer.max_steps=1000000 > "$work/log" 2>&1 &
  pid=$!
  while [ ! -e "$folder/checkpoints/last" ]; do
    kill -0 "$pid" 2> /dev/null || fail "the run ended before its first checkpoint"
    sleep 0.05
  done
  kill -s "${signal%:*}" "$pid"
  wait "$pid"
  code=$?
  [ "$code" -eq "${signal#*:}" ] || fail "SIG${signal%:*}: exit code $code, not ${signal#*:}"
  grep -q -- '--resume auto' "$work/log" || fail "SIG${signal%:*}: no hint how to continue"
  step=$(sed -n 's/.*stopped by a signal after step \([0-9]*\);.*/\1/p' "$work/log")
  [ "$(readlink "$folder/checkpoints/last")" = "step-$step" ] ||
    fail "SIG${signal%:*}: the last checkpoint is not step $step"
  for f in model.safetensors ema.safetensors optimizer.safetensors state.json; do
    [ -s "$folder/checkpoints/last/$f" ] || fail "SIG${signal%:*}: $f is missing"
  done
  run "$folder" --resume auto --trainer.max_steps=$((step + 1)) > "$work/log" 2>&1 ||
    fail "SIG${signal%:*}: cannot be continued"
done
echo "kill_resume: SIGINT and SIGTERM save and exit with 130 and 143"
