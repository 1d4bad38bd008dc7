# Starling's chores. `./dev` installs what is missing and comes here.

set shell := ["bash", "-euo", "pipefail", "-c"]

[private]
default:
    @just --list --unsorted

# build everything and run Starling; prints the URL to open
run *args: page
    cargo build --quiet -p starling
    @exec target/debug/starling {{ args }}

# everything that must be green: lints, unit and outside tests, fuzzing, the release build
test: fmt lint page unit deny fuzz e2e release-page
    @echo "all tests passed"

# the page, for development
page: wasm
    @cargo run --quiet -p xtask -- page

# the page as it is released: small, compressed
release-page: wasm
    @cargo run --quiet -p xtask -- page --release

# the binary with the page inside
release: release-page
    cargo build --release -p starling
    @ls -l target/release/starling

# the WASM target, by whatever way works on this machine
[private]
wasm:
    @web/wasm-toolchain.sh >/dev/null

# formatting
fmt:
    cargo fmt --check

# clippy, natively and for the page
lint: wasm
    cargo clippy --quiet --workspace --all-targets -- -D warnings

# unit and integration tests of core, bridge and page
unit:
    cargo test --quiet --workspace --exclude starling-e2e

# dependencies: licences, sources, duplicates
deny:
    @e2e/deny.sh

# every decoder against random input, SECONDS each
fuzz seconds='10':
    @core/fuzz/run.sh {{ seconds }}

# outside tests: namespaces, real Jami daemons, browsers
e2e *filter: page
    cargo build --quiet -p starling
    @[ "$(id -u)" != 0 ] || e2e/jami/setup || echo "no Jami daemon: its tests are skipped"
    cargo test --quiet -p starling-e2e -- --test-threads=1 --nocapture {{ filter }}

# screenshots of every view into target/screenshots
screenshots: (e2e "screenshots")

# figures: signatures, commits, DHT, messages, page weight
bench: release
    cargo run --release -q -p starling-bench

# where build time goes
timings:
    cargo build --workspace --timings

# serve the page with live reload (needs trunk), the bridge runs beside it
watch:
    trunk serve
