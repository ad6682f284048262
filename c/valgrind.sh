#!/usr/bin/env bash
# Builds the example for compiled models against a small libnetc and asks Valgrind, which knows no AVX-512, for leaks and
# wrong accesses: c/valgrind.sh NETC-PROGRAM
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

netc=$(realpath "$1") made=$(mktemp -d)
trap 'rm -r "$made"' EXIT
c/install.sh "$made/netc" --without-compiler
export PKG_CONFIG_PATH=$made/netc/lib/pkgconfig LD_LIBRARY_PATH=$made/netc/lib
cc -std=c11 -Wall -Wextra -Werror -DNETC_WITHOUT_COMPILER c/examples/classify.c -o "$made/classify" $(pkg-config --cflags --libs netc)
"$netc" compile models/digits/digits.net --target-features avx2 -o "$made/digits.netc" --quiet
"$made/classify" "$made/digits.netc"
valgrind --quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite,indirect,possible "$made/classify" "$made/digits.netc"
echo "no leaks, no wrong accesses"
