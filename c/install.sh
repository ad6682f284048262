#!/usr/bin/env bash
# Builds libnetc and installs it: c/install.sh PREFIX [--without-compiler]
#
# PREFIX/include/netc.h, PREFIX/lib/libnetc.{so,a}, and what pkg-config and CMake's find_package(netc) read. All of it may be
# moved together. Without the compiler the library opens and runs compiled models only, and takes 0.7 MB.
# DESTDIR is heeded, CARGO_TARGET_DIR too; PROFILE=dev builds in a minute what runs the same, with a slow compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

[[ $# -ge 1 && $1 != -* ]] || { sed -n '2,6p' "${BASH_SOURCE[0]}" >&2; exit 2; }
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
profile=${PROFILE:-release}
cargo build --locked --profile "$profile" -p netc-c --target-dir "$target" "${features[@]}"
made=$target/${profile/#dev/debug}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
place=${DESTDIR:-}$prefix
# The interface's number is the library's in its name, under which programs look for it when they start.
interface=$(sed -n 's/^#define NETC_ABI_VERSION //p' include/netc.h)
mkdir -p "$place/include" "$place/lib/pkgconfig" "$place/lib/cmake/netc"
install -m 644 include/netc.h "$place/include/"
install -m 755 "$made/libnetc.so" "$place/lib/libnetc.so.$interface"
ln -sf "libnetc.so.$interface" "$place/lib/libnetc.so"
install -m 644 "$made/libnetc.a" "$place/lib/"
cat > "$place/lib/pkgconfig/netc.pc" <<PC
prefix=\${pcfiledir}/../..
includedir=\${prefix}/include
libdir=\${prefix}/lib

Name: netc
Description: Convolutional networks as machine code
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -lnetc
Libs.private: -lpthread -ldl -lm
PC
sed "s/@VERSION@/$version/; s/@INTERFACE@/$interface/" cmake/netc-config.cmake.in > "$place/lib/cmake/netc/netc-config.cmake"
sed "s/@VERSION@/$version/" cmake/netc-config-version.cmake.in > "$place/lib/cmake/netc/netc-config-version.cmake"
echo "libnetc $version in $place: $(stat -c %s "$place/lib/libnetc.so.$interface") bytes"
