#!/usr/bin/env bash
# Runs every fuzz target for SECONDS (default 10), two at a time, or only those named.
#
#   run.sh [SECONDS [TARGET...]]
#
# A finding is written to core/fuzz/artifacts/ and fails the run; to see it again:
#   FUZZ_TARGET=TARGET target/fuzz/*/release/fuzz core/fuzz/artifacts/TARGET-crash-...
#
# libFuzzer's instrumentation is in stable rustc (the flags below are what
# cargo-fuzz passes, without a sanitizer: the code under test forbids unsafe).
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-10}
[ $# -eq 0 ] || shift
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks"
host=$(rustc -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz
# An explicit target keeps the flags away from build scripts.
CARGO_TARGET_DIR=$target_dir cargo build --quiet --release --locked --target "$host"
export program=$target_dir/$host/release/fuzz seconds

mkdir -p corpus artifacts
[ -d seeds ] || ./seeds.pl ../tests/data seeds

run_one() {
    local target=$1 corpus=corpus/$1 log=artifacts/$1.log seeds=()
    mkdir -p "$corpus"
    # The room is the name's first word.
    [ ! -d "seeds/${target%%_*}" ] || seeds=("seeds/${target%%_*}")
    # No -fork: a finding ends the target's run. Input below 64 KiB, as seeds are.
    if FUZZ_TARGET=$target "$program" "$corpus" "${seeds[@]}" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=65536 -artifact_prefix="artifacts/$target-" -print_final_stats=1 >"$log" 2>&1; then
        echo "fuzz $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, nothing found"
    else
        tail -n 25 "$log"
        echo "fuzz $target: FAILED, see $PWD/$log"
        return 1
    fi
}
export -f run_one
if [ $# -eq 0 ]; then
    # Without a name the program lists its targets, and fails.
    mapfile -t targets < <("$program" 2>/dev/null || true)
else
    targets=("$@")
fi
[ ${#targets[@]} -gt 0 ] || { echo "fuzz: no targets"; exit 1; }
printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c 'run_one {}' </dev/stdin
