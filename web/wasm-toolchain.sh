#!/usr/bin/env bash
# Has the compiler's WebAssembly target ready, without root, and leaves the toolchain of native builds as it is.
#
#   web/wasm-toolchain.sh                 makes sure, and says which way it went
#   web/wasm-toolchain.sh COMMAND [ARG…]  makes sure, then runs the command with the right compiler
#   web/wasm-toolchain.sh --native        only says by its exit status whether the compiler has the target itself
#
# Three ways, the first that works: the target is there already; rustup adds it; Debian's rustc-web packages are
# unpacked into $STARLING_WASM_DIR (default ~/.cache/starling-wasm, about half a GB) and std is built once, in a minute.
set -euo pipefail

target=wasm32-unknown-unknown
home=${STARLING_WASM_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/starling-wasm}
patience=${STARLING_RUSTUP_TIMEOUT:-120}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { printf 'wasm target: %s\n' "$*" >&2; }

# A compiler counts when it links a program with std and whole-program optimisation: a std built without bitcode
# is fine for debug builds and only fails in a release.
works() {
    printf 'fn main() { let a: Vec<String> = std::env::args().collect(); assert!(a.is_empty()); }\n' >"$work/p.rs"
    "$1" --edition 2021 --target "$target" -C lto=fat -o "$work/p.wasm" "$work/p.rs" >"$work/log" 2>&1
}

by_rustup() {
    command -v rustup >/dev/null || return 1
    say "asking rustup for it"
    timeout "$patience" rustup target add "$target" >"$work/log" 2>&1 && works rustc && return
    say "rustup could not: $(tail -n1 "$work/log")"
    return 1
}

# First value of a package's dependencies that begins with a text.
needs() { apt-cache depends "$1" 2>/dev/null | sed -n "s/^ *Depends: \($2[^ ]*\)$/\1/p" | head -n1; }

by_debian() {
    local std llvm new lib name
    for name in apt-get apt-cache dpkg-deb cargo; do
        command -v "$name" >/dev/null || { say "Debian's way needs $name"; return 1; }
    done
    std=$(needs libstd-rust-web-dev libstd-rust-web-)
    # A fresh machine has no lists of packages yet.
    if [ -z "$std" ] && [ "$(id -u)" = 0 ]; then
        say "asking apt for its lists"
        apt-get -qq update >"$work/log" 2>&1 || say "apt could not: $(tail -n1 "$work/log")"
        std=$(needs libstd-rust-web-dev libstd-rust-web-)
    fi
    [ -n "$std" ] || { say "apt knows no rustc-web (as root: apt-get update may help)"; return 1; }
    llvm=$(needs "$std" libllvm)
    rm -rf "$home".new.*
    new=$home.new.$$
    mkdir -p "$new/std/src" "$work/debs"
    # The packages themselves, and whatever libraries below them this system lacks.
    {
        printf '%s\n' rustc-web rust-web-src libstd-rust-web-dev "$std" "$llvm" "lld-${llvm#libllvm}"
        apt-get -s --no-install-recommends install rustc-web "lld-${llvm#libllvm}" 2>/dev/null | sed -n 's/^Inst \([^ ]*\).*/\1/p'
    } | sort -u >"$work/packages"
    say "downloading $(wc -l <"$work/packages") Debian packages"
    (cd "$work/debs" && xargs apt-get -q download <"$work/packages") >"$work/log" 2>&1 || { tail -n5 "$work/log" >&2; return 1; }
    for name in "$work"/debs/*.deb; do dpkg-deb -x "$name" "$new"; done
    lib=$new/usr/lib/rustlib
    mkdir -p "$lib/x86_64-unknown-linux-gnu/bin"
    ln -sf "../../../llvm-${llvm#libllvm}/bin/lld" "$lib/x86_64-unknown-linux-gnu/bin/rust-lld"
    cat >"$new/rustc" <<SH
#!/bin/sh
here=\${0%/*}
LD_LIBRARY_PATH=\$here/usr/lib/x86_64-linux-gnu:\$here/usr/lib/llvm-${llvm#libllvm}/lib exec "\$here/usr/bin/rustc" "\$@"
SH
    chmod +x "$new/rustc"
    printf '[package]\nname = "std-once"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$new/std/Cargo.toml"
    : >"$new/std/src/lib.rs"
    say "building std for it, about a minute"
    (cd "$new/std" && env -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_TARGET \
        RUSTC="$new/rustc" RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes CARGO_TARGET_DIR="$new/std/target" \
        cargo build --offline --release --target "$target" -Zbuild-std=std,panic_abort \
        --config 'source.crates-io.replace-with="shipped"' \
        --config "source.shipped.directory=\"$lib/src/rust/library/vendor\"") >"$work/log" 2>&1 || { tail -n20 "$work/log" >&2; return 1; }
    mkdir -p "$lib/$target/lib"
    find "$new/std/target/$target/release/deps" -name '*.rlib' ! -name 'libstd_once*' -exec cp {} "$lib/$target/lib/" \;
    rm -rf "$new/std" "$new/usr/src" "$new/usr/share"
    works "$new/rustc" || { tail -n5 "$work/log" >&2; return 1; }
    rm -rf "$home"
    mv "$new" "$home"
}

# The proof takes a second; it holds as long as the compiler and its target directory are the same.
proof=$home.proof
libdir=$(rustc --print target-libdir --target "$target" 2>/dev/null || true)
found="$libdir $(stat -c '%i %Y' "$libdir" 2>/dev/null || echo none)"
proven() { [ "$(cat "$proof" 2>/dev/null || true)" = "$found" ]; }
native() {
    proven && return
    works rustc || return
    mkdir -p "${proof%/*}"
    printf '%s\n' "$found" >"$proof"
}

if [ "${1:-}" = --native ]; then native; exit; fi
if native; then way="the compiler has it"
elif [ -x "$home/rustc" ] && { [ -e "$home/.proven" ] || works "$home/rustc"; }; then : >"$home/.proven"; way="Debian's, in $home"; export RUSTC=$home/rustc
elif by_rustup; then way="by rustup"
elif by_debian; then way="Debian's, in $home"; export RUSTC=$home/rustc
else say "no way found; the messages above say why"; exit 1
fi
if [ $# -eq 0 ]; then say "$way"; exit; fi
rm -rf "$work"
exec "$@"
