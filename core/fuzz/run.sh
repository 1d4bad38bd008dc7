#!/usr/bin/env bash
# Runs every fuzz target for SECONDS (default 10), two at a time. A finding is
# written to core/fuzz/artifacts/TARGET/ and fails the run.
#
# libFuzzer's instrumentation is in stable rustc (the flags below are what
# cargo-fuzz passes, without a sanitizer: the code under test forbids unsafe).
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-10}
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks"
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../../target/fuzz}
# An explicit target keeps the flags away from build scripts.
cargo build --quiet --release --target "$host" --bins
run_one() {
    local t=$1 corpus=corpus/$1
    mkdir -p "$corpus" "artifacts/$t"
    if "$CARGO_TARGET_DIR/$host/release/$t" "$corpus" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="artifacts/$t/" -print_final_stats=1 >"artifacts/$t.log" 2>&1; then
        echo "fuzz $t: $(sed -n 's/^stat::number_of_executed_units: *//p' "artifacts/$t.log") inputs, nothing found"
    else
        tail -n 25 "artifacts/$t.log"
        echo "fuzz $t: FAILED"
        return 255
    fi
}
export -f run_one
export seconds host
ls fuzz_targets/*.rs | sed 's#.*/##; s#\.rs$##' | xargs -P 2 -I{} bash -c 'run_one {}'
