#!/usr/bin/env bash
# Runs the outside tests, each in a process of its own and some at the same time: mostly they wait, and each has a
# network of its own.
#
#     e2e/run.sh [FILTER]        those whose name contains FILTER, or the program's name is FILTER; all without
#
# STARLING_E2E_AT_ONCE says how many at the same time (2). What a test prints is in target/e2e/, and here as well
# where it failed. A test that was skipped says why.
set -euo pipefail
cd "$(dirname "$0")/.."
logs=${CARGO_TARGET_DIR:-target}/e2e

# One test, called by the script itself.
if [ "${1:-}" = --one ]; then
    program=$2 test=$3
    name=$(basename "$program")
    name=${name%-*}
    log=$logs/$name-${test//:/_}.log
    start=$SECONDS status=0
    "$program" --exact "$test" --nocapture >"$log" 2>&1 </dev/null || status=$?
    # Others print as well.
    exec 9>"$logs/printing"
    flock 9
    if [ $status = 0 ]; then
        grep -o 'skipped [a-z_:]*: .*' "$log" || true
        echo "ok      $((SECONDS - start)) s  $name  $test"
        exit 0
    fi
    cat "$log"
    echo "FAILED  $((SECONDS - start)) s  $name  $test  (status $status; above, and in $log)"
    exit 1
fi

filter=${1:-}
mkdir -p "$logs"
cargo test --quiet -p starling-e2e --no-run
# Cargo names the programs when there is nothing left to build.
programs=$(cargo test -p starling-e2e --no-run 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
tests=()
# The longest stories first, so that none of them is left at the end.
for program in $(grep -e /groups- -e /screenshots- <<<"$programs") $(grep -v -e /groups- -e /screenshots- <<<"$programs"); do
    by_name=$filter
    name=$(basename "$program")
    [ "${name%-*}" != "$filter" ] || by_name=
    while IFS= read -r test; do
        tests+=("$program" "$test")
    done < <("$program" --list --format terse $by_name | sed -n 's/: test$//p')
done
[ ${#tests[@]} -gt 0 ] || { echo "e2e: no test has \"$filter\" in its name"; exit 1; }
start=$SECONDS
printf '%s\n' "${tests[@]}" | xargs -d '\n' -n 2 -P "${STARLING_E2E_AT_ONCE:-2}" e2e/run.sh --one || {
    echo "e2e: some tests failed, after $((SECONDS - start)) s"
    exit 1
}
echo "e2e: $((${#tests[@]} / 2)) tests passed in $((SECONDS - start)) s"
