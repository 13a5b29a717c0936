#!/usr/bin/env bash
# What a person with a GPU runs: is it right, how fast, how much memory, where does a step go. About four minutes; tables on the screen, JSON
# in a folder.
#
#   tests/gpu/on-a-card.sh [--out DIR] [--device cuda:0] [--vulkan vulkan:0|none] [--small]
#   tests/gpu/on-a-card.sh --pack        on a machine with cargo: makes tests/gpu/card/*.xz, what a machine without cargo needs
#
# The programs come from tests/gpu/card where that is, else cargo builds them. Nothing is fetched. RANKSCOPE_PYTHON names the interpreter
# whose torch and peft are run beside (python3); where NVRTC and cuBLAS are only in its packages, they are found there.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
card=$root/tests/gpu/card
out=card-results device=cuda:0 vulkan=vulkan:0 small=()
python=${RANKSCOPE_PYTHON:-python3}
features=(--no-default-features --features cuda,wgpu)

# The path of what cargo has built of this kind and name.
built() {
    cargo "$1" --release "${features[@]}" "${@:3}" --message-format=json 2>/dev/null |
        grep -o "\"executable\":\"[^\"]*/$2[^\"/]*\"" | tail -1 | cut -d'"' -f4
}

programs() {
    cd "$root" || exit 1
    rankscope=$(built build rankscope --bin rankscope)
    tests=$(built test gpu- --test gpu --no-run)
    bench=$(built bench card- --bench card --no-run)
    for program in "$rankscope" "$tests" "$bench"; do
        [ -x "$program" ] || { echo "cargo built not all of the programs; cargo build --release ${features[*]} says why" >&2; exit 1; }
    done
}

while [ $# -gt 0 ]; do
    case $1 in
        --pack)
            programs
            mkdir -p "$card"
            for pair in "rankscope $rankscope" "tests $tests" "bench $bench"; do
                name=${pair%% *}
                strip -o "$card/$name" "${pair#* }" && xz -9 --force "$card/$name" || exit 1
            done
            ls -l "$card"
            exit ;;
        --out) out=$2; shift ;;
        --device) device=$2; shift ;;
        --vulkan) vulkan=$2; shift ;;
        --small) small=(--small) ;;
        *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
    shift
done

mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
if [ -f "$card/rankscope.xz" ]; then
    unpacked=$(mktemp -d)
    trap 'rm -rf "$unpacked"' EXIT
    for name in rankscope tests bench; do
        xz --decompress --stdout "$card/$name.xz" > "$unpacked/$name" && chmod +x "$unpacked/$name" || exit 1
    done
    rankscope=$unpacked/rankscope tests=$unpacked/tests bench=$unpacked/bench
else
    programs
fi
export RANKSCOPE_ROOT=$root RANKSCOPE_PYTHON=$python

# NVRTC and cuBLAS of a Python environment, where the loader knows of no others.
if ! ldconfig -p 2>/dev/null | grep -q libnvrtc.so; then
    for folder in $("$python" -c 'import glob, site; print(*glob.glob(site.getsitepackages()[0] + "/nvidia/*/lib"))' 2>/dev/null); do
        LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
    done
    export LD_LIBRARY_PATH
fi

began=$SECONDS failed=()
part() { printf '\n== %s (after %d s)\n' "$1" $((SECONDS - began)); }

part "devices"
"$rankscope" inspect --devices | tee "$out/devices.txt"

# Every family, method and number type beside the processor, every kernel by itself, thirty QLoRA steps beside torch + peft + bitsandbytes.
right() {
    part "right, on $1"
    env "$2=only" "$tests" --skip driver:: --skip vulkan:: --skip emulated --nocapture > "$out/tests-$3.log" 2>&1
    local status=$?
    grep -E '^test result|panicked|^test .*FAILED' "$out/tests-$3.log"
    grep -E ' on .* in (f32|bf16): loss' "$out/tests-$3.log" | sort | head -12
    [ $status -eq 0 ] && grep -q "^test result: ok" "$out/tests-$3.log" || failed+=("tests on $1: $out/tests-$3.log")
}

# A run to its end, and the same killed in its middle and resumed: the same losses.
runs() {
    part "a run, killed and resumed, on $1"
    local base=$root/assets/demo/tales-2m data=$root/assets/demo/data/extract.eval.jsonl folder
    folder=$(mktemp -d)
    local words=(train "$base" --data "$data" --steps 40 --batch 2 --seq 64 --rank 8 --save-every 10 --device "$1" --json)
    "$rankscope" "${words[@]}" --out "$folder/whole" > "$out/run-$2.json" 2> "$out/run-$2.log" || failed+=("a run on $1: $out/run-$2.log")
    "$rankscope" "${words[@]}" --out "$folder/killed" > /dev/null 2>&1 &
    local run=$!
    for _ in $(seq 600); do
        [ "$(grep -c '"loss"' "$folder/killed/metrics.jsonl" 2>/dev/null || true)" -ge 15 ] 2>/dev/null && break
        kill -0 $run 2>/dev/null || break
        sleep 0.05
    done
    kill -9 $run 2>/dev/null
    wait $run 2>/dev/null
    "$rankscope" "${words[@]}" --out "$folder/killed" --resume > /dev/null 2>> "$out/run-$2.log" || failed+=("resuming on $1: $out/run-$2.log")
    losses() { grep -o '"loss":[0-9.e-]*' "$folder/$1/metrics.jsonl" 2>/dev/null; }
    if [ "$(losses whole | wc -l)" -ge 40 ] && cmp -s <(losses whole) <(losses killed); then
        echo "40 steps, killed after 15 and resumed: the same losses"
    else
        failed+=("the resumed run on $1 has other losses than the whole one")
    fi
    rm -rf "$folder"
}

if [ "$device" != none ]; then
    right "$device" RANKSCOPE_CUDA cuda
    runs "$device" cuda
    part "speed, memory and a profile of a step, on $device"
    "$bench" --device "$device" "${small[@]}" --json "$out/cuda.json" || failed+=("figures of $device")
fi
if [ "$vulkan" != none ]; then
    right "$vulkan" RANKSCOPE_VULKAN vulkan
    part "speed, memory and a profile of a step, on $vulkan"
    "$bench" --device "$vulkan" "${small[@]}" --json "$out/vulkan.json" || failed+=("figures of $vulkan")
fi

part "done"
printf '{"seconds":%d,"failed":[%s]}\n' $((SECONDS - began)) "$(printf '"%s",' "${failed[@]}" | sed 's/,$//; s/^""$//')" | tee "$out/summary.json"
[ ${#failed[@]} -eq 0 ]
