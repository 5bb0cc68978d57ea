#!/usr/bin/env bash
# Runs every fuzz target for SECONDS, and ends with a table. Exit status 1 if one of them found something.
#
#   fuzz/run.sh SECONDS [TARGET...]
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:?usage: fuzz/run.sh SECONDS [TARGET...]}
shift

# The sanitizers' flags are only for nightly; the stable compiler takes them so.
export RUSTC_BOOTSTRAP=1
# A fuzzer reports by itself what it finds; `RUST_BACKTRACE=1` shows more.
export RUST_BACKTRACE=${RUST_BACKTRACE:-0}

cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked
if [ $# -gt 0 ]; then targets=("$@"); else mapfile -t targets < <(cargo fuzz list); fi
# All at once, and before the clock runs.
cargo fuzz build

mkdir -p work
found=0
rows=()
for target in "${targets[@]}"; do
    # New inputs go to work/, which is kept from run to run and not committed; corpus/ is what they begin with.
    mkdir -p "work/$target" "artifacts/$target"
    log="work/$target.log"
    printf '== %s, %s s\n' "$target" "$seconds"
    result=ok
    if ! cargo fuzz run "$target" "work/$target" "corpus/$target" -- -max_total_time="$seconds" -max_len=4096 \
        -len_control=20 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; then
        found=1
        result=FOUND
        grep -aE "panicked at|assertion|left:|right:|ERROR: |SUMMARY: " -A1 "$log" | cut -c1-400 || true
        input=$(grep -aoE "artifacts/$target/[a-z]+-[0-9a-f]+" "$log" | head -1 || true)
        printf 'again: (cd fuzz && RUSTC_BOOTSTRAP=1 RUST_BACKTRACE=1 cargo fuzz run %s %s)\n' "$target" "$input"
    fi
    # A last line as: #8192 DONE cov: 459 ft: 1474 corp: 310/5541b lim: 98 …
    last=$(grep -aE '^#[0-9]+.* cov: ' "$log" | tail -1 || true)
    field() { sed -nE "s|.* $1: ([0-9]+).*|\1|p" <<<"$last"; }
    executions=$(sed -nE 's|^stat::number_of_executed_units: *([0-9]+)|\1|p' "$log" | tail -1)
    rows+=("$(printf '%-16s %12s %8s %8s %8s  %s' \
        "$target" "${executions:--}" "$(field cov)" "$(field ft)" "$(field corp)" "$result")")
done

printf '\n%-16s %12s %8s %8s %8s  %s\n' target executions cov ft corpus result
printf '%s\n' "${rows[@]}"
exit "$found"
