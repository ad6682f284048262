#!/usr/bin/env bash
# Builds libnetc and installs it: c/install.sh PREFIX [--without-compiler]
#
# PREFIX/include/netc.h, PREFIX/lib/libnetc.{so,a}, PREFIX/lib/pkgconfig/netc.pc. Without the compiler the library opens
# and runs compiled models only, and takes little more than a megabyte. DESTDIR is heeded, CARGO_TARGET_DIR too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

[[ $# -ge 1 && $1 != -* ]] || { sed -n '2,5p' "${BASH_SOURCE[0]}" >&2; exit 2; }
prefix=$1 features=()
case "${2:-}" in
    "") ;;
    --without-compiler) features=(--no-default-features) ;;
    *) echo "unknown argument $2" >&2; exit 2 ;;
esac

target=${CARGO_TARGET_DIR:-$PWD/../target}
# Line tables are for whoever works on netc.
export CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=symbols
[[ ${#features[@]} -eq 0 ]] || export CARGO_PROFILE_RELEASE_OPT_LEVEL=s CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
[[ ${#features[@]} -eq 0 ]] || target=$target/without-compiler
cargo build --locked --release -p netc-c --target-dir "$target" "${features[@]}"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
place=${DESTDIR:-}$prefix
mkdir -p "$place/include" "$place/lib/pkgconfig"
install -m 644 include/netc.h "$place/include/"
install -m 755 "$target/release/libnetc.so" "$place/lib/libnetc.so.0"
ln -sf libnetc.so.0 "$place/lib/libnetc.so"
install -m 644 "$target/release/libnetc.a" "$place/lib/"
cat > "$place/lib/pkgconfig/netc.pc" <<PC
prefix=$prefix
includedir=\${prefix}/include
libdir=\${prefix}/lib

Name: netc
Description: Convolutional networks as machine code
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -lnetc
Libs.private: -lpthread -ldl -lm
PC
echo "libnetc $version in $place: $(stat -c %s "$place/lib/libnetc.so.0") bytes"
