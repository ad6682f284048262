#!/usr/bin/env bash
# What takes longer than tests may: property tests with cases that nobody has seen, and the runtime under stress:
# schedules by a model checker, models opened, run and closed by many threads, copies of the process, and those of
# Valgrind, Miri and ThreadSanitizer that this machine has. Says what it skipped.
#
#     scripts/stress.sh [MINUTES [MODEL.netc...]]    about so long for each part (default 5)
#
# The models are compiled for a batch of 1; without any, two small ones are made.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes="${1:-5}"
[[ "$minutes" =~ ^[1-9][0-9]*$ ]] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
seconds=$((minutes * 60))
skipped=()
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

step() {
    printf '\n=== %s\n    %s\n' "$1" "${*:2}"
    "${@:2}"
}

skip() {
    printf '\n=== %s: skipped, %s\n' "$1" "$2"
    skipped+=("$1: $2")
}

# Every round draws its cases by a number of its own, which .cargo/config.toml fixes for usual runs.
property_tests() {
    local end=$((SECONDS + seconds))
    while [[ $SECONDS -lt $end ]]; do
        local seed=$((RANDOM * 32768 + RANDOM))
        printf -- '--- PROPTEST_RNG_SEED=%d\n' "$seed"
        PROPTEST_RNG_SEED=$seed cargo test --locked --release --lib --quiet -- \
            random_graphs_agree functions_of_all functions_mean any_ passes_keep_values of_any_geometry text_round_trips
    done
}
step "Property tests" property_tests

# Schedules that switch threads against their will up to three times. A scenario that is not through when its time is
# up has passed so far.
step "Model checking" env LOOM_MAX_PREEMPTIONS=3 LOOM_MAX_DURATION="$seconds" \
    cargo test --locked --release --test schedules -- --include-ignored

step "Copies of the process" cargo test --locked --release --test fork

# Valgrind knows no AVX-512.
compile() {
    cargo run --locked --release --quiet -- compile "$1" --quiet --target-features avx2 -o "$2"
}
models=("${@:2}")
if [[ ${#models[@]} -eq 0 && "$(uname -m)" == x86_64 ]] && grep -qw avx2 /proc/cpuinfo; then
    compile models/digits/digits.net "$folder/digits.netc"
    compile models/nin_cifar10.net "$folder/nin.netc"
    models=("$folder/digits.netc" "$folder/nin.netc")
fi
if [[ ${#models[@]} -eq 0 ]]; then
    skip "Open, run, close" "models are made for AVX2 here; name compiled ones"
else
    step "Open, run, close" cargo run --locked --release --example soak -- "$seconds" "${models[@]}"
fi

# Valgrind's checkers follow the C library's locks and no atomics; the runtime is built with such locks, and what std's
# own atomics order is left out (valgrind.supp). What generated code does to memory is seen.
valgrind_checks() {
    RUSTFLAGS="--cfg netc_thread_checker" cargo build --locked --no-default-features --example soak \
        --target-dir target/thread-checker
    local tool
    for tool in helgrind drd; do
        printf -- '--- %s\n' "$tool"
        valgrind --tool="$tool" --suppressions=scripts/valgrind.supp --error-exitcode=1 --quiet \
            target/thread-checker/debug/examples/soak first-runs "$seconds" "${models[0]}"
    done
}
if ! command -v valgrind >/dev/null; then
    skip "Valgrind" "it is not installed"
elif [[ ${#models[@]} -eq 0 ]]; then
    skip "Valgrind" "there is no model"
else
    step "Valgrind" valgrind_checks
fi

# Generated code cannot be interpreted; the pool can.
if cargo +nightly miri --version >/dev/null 2>&1; then
    step "Miri" env MIRIFLAGS=-Zmiri-disable-isolation \
        cargo +nightly miri test --locked --no-default-features --lib runtime::tests
else
    skip "Miri" "cargo +nightly miri is not installed"
fi

# Sees the atomics themselves, in the runtime and in a standard library built for it.
if [[ -d "$(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library" && ${#models[@]} -gt 0 ]]; then
    step "ThreadSanitizer" env RUSTFLAGS=-Zsanitizer=thread \
        cargo +nightly run --locked -Zbuild-std --target "$(rustc -vV | sed -n 's/^host: //p')" --no-default-features \
        --target-dir target/thread-sanitizer --example soak -- "$seconds" "${models[@]}"
else
    skip "ThreadSanitizer" "it needs a nightly toolchain with rust-src, and a model"
fi

printf '\nAll good.\n'
[[ ${#skipped[@]} -eq 0 ]] || printf 'Skipped: %s\n' "${skipped[@]}"
