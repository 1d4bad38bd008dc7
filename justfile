# Starling's chores. `./dev` installs what is missing and comes here.

set shell := ["bash", "-euo", "pipefail", "-c"]

target := env("CARGO_TARGET_DIR", "target")

# For each fuzz target in `test`: its minute once (some 40 targets, three at a time, take 13 minutes), seconds after a
# change, nothing for the same code: core/fuzz/run.sh says how. `just --set fuzz_seconds 60 test` gives it anew.
fuzz_seconds := "minute"

programs := "--workspace --bin starling --bin xtask --example planted"

[private]
default:
    @just --list --unsorted

# build everything and run Starling; prints the URL to open
[positional-arguments]
run *args: page
    @[ "${1:-}" != -- ] || shift; exec {{ target }}/debug/starling "$@"

# everything that must be green, in this order; says how long each stage took
test:
    #!/usr/bin/env bash
    set -euo pipefail
    exec </dev/null
    # What passed with the very same files need not pass again.
    export STARLING_TESTS_NEW=${STARLING_TESTS_NEW-1}
    times=()
    stage() {
        echo "==> $*"
        local start=$SECONDS
        "{{ just_executable() }}" "$@" || { echo "==> $1 failed after $((SECONDS - start)) s"; exit 1; }
        times+=("$1 $((SECONDS - start)) s")
        echo "==> ${times[-1]}"
    }
    # Takes one core for minutes, which the stages until it is needed leave idle now and then.
    beside() {
        echo "==> $* (beside what follows)"
        nice -n 19 "{{ just_executable() }}" "$@" >{{ target }}/beside.log 2>&1 &
        beside=$!
    }
    finish() {
        local start=$SECONDS status=0
        wait "$beside" || status=$?
        cat {{ target }}/beside.log
        [ $status = 0 ] || { echo "==> $1 failed"; exit 1; }
        times+=("$1 $((SECONDS - start)) s more")
    }
    trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
    stage fmt
    stage lint
    stage page
    stage run-again
    beside release-page {{ target }}/release-page
    stage trunk-agrees
    stage unit
    stage deny
    stage fuzz {{ fuzz_seconds }}
    stage e2e
    finish release-page
    stage page-inside {{ target }}/release-page
    printf -v all '%s, ' "${times[@]}"
    echo "==> all stages passed: ${all%, }; $SECONDS s in total"

# the tests that take minutes each, and the measurements that are tests
test-long:
    cargo test --workspace --exclude starling-e2e -- --ignored --nocapture

# the bridge and the page, for development
page: programs
    @{{ target }}/debug/xtask page

# The binary, the tool that builds the page, and one that tests need. Cargo gives libraries the features that all chosen
# packages want together, and those of tests where anything for tests is among it: chosen as for all tests, core and
# bridge are compiled once for everything, and without that three times.
[private]
programs: wasm
    @cargo build --quiet {{ programs }}

# says how long `run` takes to a served page when nothing changed: to be less than 5 s, judged by who reads it
run-again: page
    #!/usr/bin/env bash
    set -euo pipefail
    dir=$(mktemp -d)
    start=$(date +%s%N)
    coproc RUN { exec "{{ just_executable() }}" run --listen 127.0.0.1:0 --bootstrap none --data-dir "$dir" 2>"$dir/log"; }
    run=$RUN_PID
    trap 'kill $run 2>/dev/null || true; wait $run 2>/dev/null || true; rm -rf "$dir"' EXIT
    url=
    while read -r line <&"${RUN[0]}"; do
        [[ ! $line =~ ready:\ (http[^#]*) ]] || { url=${BASH_REMATCH[1]}; break; }
    done
    [ -n "$url" ] || { cat "$dir/log"; echo "run: no page"; exit 1; }
    curl -sSf -o /dev/null "$url"
    echo "run: a served page after $((($(date +%s%N) - start) / 1000000)) ms"

# shows that Trunk builds the same page from the same description
trunk-agrees: programs
    @web/trunk.sh
    @{{ target }}/debug/xtask agree

# the page as it is released: small, compressed; at most 900 kB
release-page dir='dist': programs
    #!/usr/bin/env bash
    set -euo pipefail
    {{ target }}/debug/xtask page --release {{ dir }}
    # What a browser downloads: the brotli form where there is one.
    sum=0
    while IFS= read -r file; do
        [ ! -e "$file.br" ] || file=$file.br
        sum=$((sum + $(stat -c %s "$file")))
    done < <(find {{ dir }} -type f ! -name '.*' ! -name '*.br' ! -name '*.gz')
    echo "page: $sum bytes to download, of 900000"
    [ "$sum" -le 900000 ] || { echo "page: too heavy"; exit 1; }

# shows that a binary with that page inside needs no file beside it, and gives out what was laid into it
[private]
page-inside dir:
    #!/usr/bin/env bash
    set -euo pipefail
    # As in a release but for what the compiler makes of it: that takes ten minutes. Built apart from the binary that
    # tests use, with the same libraries, so that neither is built anew because of the other.
    STARLING_DIST=$(realpath {{ dir }}) cargo build --quiet {{ programs }} --features starling/embed
    binary=$(realpath {{ target }})/debug/starling page=$(realpath {{ dir }})
    away=$(mktemp -d)
    trap 'kill $run 2>/dev/null || true; wait $run 2>/dev/null || true; rm -rf "$away"' EXIT
    cp "$binary" "$away/starling"
    mkdir "$away/empty"
    cd "$away/empty"
    coproc RUN { exec ../starling serve --listen 127.0.0.1:0 --bootstrap none --data-dir ../data 2>../log; }
    run=$RUN_PID
    url=
    while read -r line <&"${RUN[0]}"; do
        [[ ! $line =~ (http://[^/]*/) ]] || { url=${BASH_REMATCH[1]}; break; }
    done
    [ -n "$url" ] || { cat ../log; echo "page-inside: no page"; exit 1; }
    curl -sSf "$url" | cmp - "$page/index.html"
    for file in "$page"/*.wasm; do
        name=${file##*/}
        for form in br gzip; do
            curl -sSf -D ../head -o ../body -H "Accept-Encoding: $form" "$url$name"
            grep -qix "content-encoding: $form"$'\r' ../head || { cat ../head; echo "page-inside: not in $form"; exit 1; }
        done
        gunzip -c ../body | cmp - "$file"
        curl -sSf -H "Accept-Encoding: br" "$url$name" | cmp - "$file.br"
        curl -sSf "$url$name" | cmp - "$file"
    done
    echo "page-inside: one binary gives out $(find "$page" -name '*.wasm' | wc -l) program, precompressed"

# the binary with the page inside
release: release-page
    cargo build --release -p starling
    @ls -l {{ target }}/release/starling

# what Starling takes for its work, beside the reference on this machine: a table, and target/bench.json
bench *sections: release-page
    @[ "$(id -u)" != 0 ] || e2e/jami/setup || echo "no Jami daemon: what is measured beside it is left out"
    cargo build --release -p starling -p starling-figures
    @cargo build --quiet -p starling-e2e --bin bench
    @STARLING_E2E_LOG=warn STARLING_JAMI_FLAGS=0 STARLING_BIN="$(realpath {{ target }})/release/starling" {{ target }}/debug/bench {{ sections }}

# the WASM target, by whatever way works on this machine
[private]
wasm:
    @web/wasm-toolchain.sh

# formatting
fmt:
    cargo fmt --check
    rustfmt --check --edition 2024 core/fuzz/src/main.rs core/fuzz/src/targets/*.rs

# clippy, natively and for the page
lint: wasm
    cargo clippy --quiet --workspace --all-targets -- -D warnings
    @web/wasm-toolchain.sh --native || echo "lint: clippy has no WebAssembly target here, the page is only compiled"
    ! web/wasm-toolchain.sh --native || cargo clippy --quiet -p starling-web --target wasm32-unknown-unknown -- -D warnings

# unit and integration tests of core, bridge and page
unit:
    @e2e/run.sh --unit

# repeats one run of the simulated group: `just simulate --seed 7 --members 12`; tells what happens
simulate *args:
    #!/usr/bin/env bash
    set -euo pipefail
    set -- {{ args }}
    while [ $# -gt 0 ]; do
        case $1 in
            --seed) export SIM_SEED=$2 ;;
            --members) export SIM_MEMBERS=$2 ;;
            --quiet) export SIM_QUIET=1; shift; continue ;;
            *) echo "simulate: --seed N, --members M, --quiet"; exit 2 ;;
        esac
        shift 2
    done
    cargo test -q -p starling-core --lib simulation::tests::simulate -- --exact --ignored --nocapture

# many runs of the simulated group, small ones and a few with a hundred members; then crowds of thousands
simulate-nightly seeds='20000' crowds='20': && simulate-scale
    SIM_SEEDS={{ seeds }} SIM_CROWDS={{ crowds }} cargo test --release -p starling-core --lib simulation::tests::nightly -- --exact --ignored --nocapture

# how messages, links and time grow with the size of a group, and with that of the DHT
simulate-scale sizes='10 30 100 300 1000 10000' nodes='100 1000 4000':
    SIM_SIZES="{{ sizes }}" SIM_NODES="{{ nodes }}" cargo test --release -p starling-core --lib -- --exact --ignored --nocapture --test-threads 1 simulation::tests::scale dht::node::crowd::in_thousands_too

# how many merges it takes when many write at once, and how long, as it was and as it is
simulate-merges sizes='10 100 300 1000':
    SIM_SIZES="{{ sizes }}" cargo test --release -p starling-core --lib -- --exact --ignored --nocapture simulation::tests::merges

# dependencies: licences, sources, what must not come back
deny:
    @e2e/deny.sh

# every decoder against random input, SECONDS each (or `minute`); or only the TARGETS named
fuzz seconds='10' *targets:
    @core/fuzz/run.sh {{ seconds }} {{ targets }}

# outside tests: namespaces, real Jami daemons, browsers
e2e *filter: page
    @[ "$(id -u)" != 0 ] || e2e/jami/setup || echo "no Jami daemon: its tests are skipped"
    @e2e/axe/setup || echo "no axe-core: the audit of the page goes by its own checks alone"
    @e2e/run.sh {{ filter }}

# screenshots of every view into target/screenshots
screenshots: (e2e "screenshots")

# where build time goes
timings:
    cargo build --workspace --timings

# serve the page with live reload (installs Trunk), the bridge runs beside it
watch: trunk-agrees
    PATH="$(realpath {{ target }})/both-ways/tools:$PATH" trunk serve
