#!/usr/bin/env bash
# Runs the fuzz targets, three at a time: all of them, or only those named.
#
#   run.sh [SECONDS [TARGET...]]   so long each, whatever was done before (default 10)
#   run.sh minute                  each for a minute, once: see below
#
# A finding is written to core/fuzz/artifacts/ and fails the run; to see it again:
#   FUZZ_TARGET=TARGET target/fuzz/*/release/fuzz core/fuzz/artifacts/TARGET-crash-...
#
# `minute` is what a test run from nothing wants. In target/fuzz/done it keeps which code each target has
# run with. The first time a target gets its minute; when its code has changed since, all inputs it found then and two
# seconds from there; and with the same code it is passed over, and said to be.
#
# The inputs found are kept in ~/.cache/starling/fuzz (or $STARLING_FUZZ_CORPUS), for all work trees of this machine.
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
export done_dir=$target_dir/done corpora=${STARLING_FUZZ_CORPUS:-${XDG_CACHE_HOME:-$HOME/.cache}/starling/fuzz}

# What the targets consist of; line numbers for debuggers are no part of it.
objcopy --strip-debug "$program" "$program.stripped" 2>/dev/null || cp "$program" "$program.stripped"
code=$(sha256sum <"$program.stripped")
export code=${code%% *}
rm -f "$program.stripped"

mkdir -p "$corpora" "$done_dir" artifacts
[ -d seeds ] || ./seeds.pl ../tests/data seeds

run_one() {
    local target=$1 corpus=$corpora/$1 log=artifacts/$1.log seeds=() stamp=$done_dir/$1 time=$seconds why= before=
    if [ "$time" = minute ]; then
        before=$(cat "$stamp" 2>/dev/null || true)
        case $before in
        "$code") echo "fuzz $target: passed over, it has run with this very code"; return ;;
        "") time=60 ;;
        *) time=2 why=", its code is new since its minute" ;;
        esac
    fi
    mkdir -p "$corpus"
    # The room is the name's first word.
    [ ! -d "seeds/${target%%_*}" ] || seeds=("seeds/${target%%_*}")
    # No -fork: a finding ends the target's run. Input below 64 KiB, as seeds are.
    if FUZZ_TARGET=$target "$program" "$corpus" "${seeds[@]}" -max_total_time="$time" -timeout=10 -rss_limit_mb=2048 \
        -max_len=65536 -artifact_prefix="artifacts/$target-" -print_final_stats=1 >"$log" 2>&1; then
        echo "fuzz $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $time s$why, nothing found"
        # Less than a minute is none, unless there was one before.
        if [ "$time" -ge 60 ] || [ -n "$before" ]; then echo "$code" >"$stamp"; fi
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
printf '%s\n' "${targets[@]}" | xargs -P 3 -I{} bash -c 'run_one {}' </dev/stdin
