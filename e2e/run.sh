#!/usr/bin/env bash
# Runs tests side by side: mostly they wait, for each other's answers or for a daemon.
#
#     e2e/run.sh [FILTER]        outside tests, each in a process and a network of its own: those whose name contains
#                                FILTER, or whose program's name is FILTER; all without
#     e2e/run.sh --unit          all others, a program each; then those in docs
#
# STARLING_TESTS_AT_ONCE says how many at the same time (outside 3, else 4). What a test prints is in
# target/e2e/ or target/unit/, and here as well where it failed. A test that was skipped says why.
# With STARLING_TESTS_NEW=1 those are passed over, and counted, that passed before with the very same files: the
# program, the binary, the page, what is beside the sources and is no source.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
run=$PWD/e2e/run.sh
target=${CARGO_TARGET_DIR:-target}

# One program, or one test of it, in the directory it is to be run in. Called by the script itself.
if [ "${1:-}" = --one ]; then
    logs=$2 dir=$3 program=$4 test=${5:-}
    name=$(basename "$program")
    name=${name%-*}${test:+  $test}
    log=$logs/${dir##*/}-${name//[ :]/_}.log
    start=$SECONDS status=0 passed=$logs/passed/$(basename "$log" .log)
    mkdir -p "$logs/passed"
    # What Cargo has not built anew is the same file.
    files=$(stat -c '%n %i %s %Y' "$program")$STARLING_TESTS_DATA
    case $dir in */core | */web | */web/xtask) ;; *) files+=$STARLING_TESTS_BINARY ;; esac
    if [ "${STARLING_TESTS_NEW:-}" = 1 ] && [ "$(cat "$passed" 2>/dev/null || true)" = "$files" ]; then
        echo "same    $name"
        exit 0
    fi
    rm -f "$passed"
    (cd "$dir" && "$program" ${test:+--exact "$test" --nocapture}) >"$log" 2>&1 </dev/null || status=$?
    # Others print as well.
    exec 9>"$logs/printing"
    flock 9
    if [ $status = 0 ]; then
        left=$(sed -n 's/^test .* ignored, //p' "$log")
        if [ -n "$test" ] && [ -n "$left" ]; then
            echo "left out  $name: $left"
            exit 0
        fi
        # Who skips something has not passed.
        grep -o 'skipped[a-z_: ]*: .*' "$log" || printf '%s' "$files" >"$passed"
        echo "ok      $((SECONDS - start)) s  $name"
        exit 0
    fi
    cat "$log"
    echo "FAILED  $((SECONDS - start)) s  $name  (status $status; above, and in $log)"
    exit 1
fi
# In place of a test program: only says where Cargo would have run which one.
if [ "${1:-}" = --list ]; then
    program=$2
    [ "${program#/}" != "$program" ] || program=$here/$program
    printf 'program\t%s\t%s\n' "$here" "$program"
    exit 0
fi

kind=e2e at_once=3 filter=${1:-} which=()
[ "$filter" != --unit ] || kind=unit at_once=4
logs=$(realpath -m "$target/$kind")
mkdir -p "$logs"
# Always with the whole workspace chosen, as the justfile says at `programs`.
outside=$(basename -s .rs e2e/tests/*.rs)
if [ $kind = e2e ]; then
    for name in $outside; do which+=(--test "$name"); done
else
    which=(--lib --bins --tests)
fi
cargo test --quiet --workspace "${which[@]}" --no-run
host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
programs=$(env "CARGO_TARGET_${host}_RUNNER=$run --list" cargo test --workspace "${which[@]}" 2>/dev/null |
    sed -n 's/^program\t//p')
tests=()
# The longest first, so that none of them is left at the end.
long='/(groups|outage|screenshots|admins|rows|hostile_[a-z]*|starling_core|fellow_members|account_damage|broken_fetch|revocation|dht_interop|identity_archive|account_groups)-[0-9a-f]*$'
while IFS=$'\t' read -r dir program; do
    name=$(basename "$program")
    is=unit
    [[ $dir != */e2e ]] || ! grep -qx "${name%-*}" <<<"$outside" || is=e2e
    [ $is = $kind ] || continue
    if [ $kind = unit ]; then
        tests+=("$dir" "$program" "")
        continue
    fi
    by_name=$filter
    [ "${name%-*}" != "$filter" ] || by_name=
    while IFS= read -r test; do
        tests+=("$dir" "$program" "$test")
    done < <("$program" --list --format terse $by_name | sed -n 's/: test$//p')
done < <(grep -E "$long" <<<"$programs"; grep -vE "$long" <<<"$programs")
[ ${#tests[@]} -gt 0 ] || { echo "$kind: no test has \"$filter\" in its name"; exit 1; }
start=$SECONDS
STARLING_TESTS_DATA=$(find core bridge web e2e static \( -path core/fuzz -o -name target \) -prune -o \
    -type f ! -name '*.rs' -printf '%p %s %T@\n' | sort | sha256sum)
STARLING_TESTS_BINARY=$({
    stat -L -c '%n %i %s %Y' "$target/debug/starling" "$target/debug/examples/planted" "${STARLING_JAMI_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/starling/jami}"/{version,jamid.node} || true
    [ ! -d dist ] || find dist -type f -printf '%p %s %T@\n' | sort
} 2>/dev/null | sha256sum)
export STARLING_TESTS_DATA STARLING_TESTS_BINARY
printf '%s\n' "${tests[@]}" | xargs -d '\n' -n 3 -P "${STARLING_TESTS_AT_ONCE:-$at_once}" "$run" --one "$logs" | tee "$logs/said" || {
    echo "$kind: some tests failed, after $((SECONDS - start)) s"
    exit 1
}
[ $kind != unit ] || cargo test --quiet --workspace --doc
same=$(grep -c '^same ' "$logs/said" || true)
echo "$kind: all of $((${#tests[@]} / 3)) passed in $((SECONDS - start)) s; $same of them before, with the very same files"
