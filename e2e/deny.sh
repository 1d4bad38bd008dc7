#!/usr/bin/env bash
# Looks at the dependencies: licences, sources, what must not come back. Without
# the advisory database, which lives on a server that not every machine reaches.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${STARLING_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/starling/tools}
export PATH=$tools/bin:$PATH
version=0.20.2
if [ "$(cargo deny --version 2>/dev/null || true)" != "cargo-deny $version" ]; then
    echo "building cargo-deny $version (a few minutes, once)" >&2
    CARGO_TARGET_DIR=$tools/target cargo install --quiet --locked --root "$tools" "cargo-deny@$version"
    rm -rf "$tools/target"
fi
cargo deny --log-level error check licenses bans sources
