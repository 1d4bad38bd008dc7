#!/usr/bin/env bash
# Installs Trunk, if it is not there: a build of some minutes, once. Without TLS and the check for updates, since it is
# never to download anything: wasm-bindgen comes from xtask. Unoptimised, since it copies files and calls cargo.
set -euo pipefail
tools=${STARLING_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/starling/tools}
export PATH=$tools/bin:$PATH
# 0.22 wants a newer compiler than this workspace.
version=0.21.14
[ "$(trunk --version 2>/dev/null || true)" != "trunk $version" ] || exit 0
echo "building Trunk $version (a few minutes, once)" >&2
CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$tools/target cargo install --debug --quiet --locked --no-default-features \
    --root "$tools" "trunk@$version"
strip "$tools/bin/trunk" 2>/dev/null || true
rm -rf "$tools/target"
