#!/usr/bin/env python3
"""Kills the program while it writes: train, merge, extract, quantize --save, demo build.

    python3 tests/kills.py --program target/release/rankscope --kills 20        # of each: 100 in all

After each kill: whatever stands under its final name is whole (the bytes of a run that nobody disturbed), the next run ends,
gives those bytes, and leaves no temporary file behind. Prints a line for each command; exit status 1 if anything was wrong.
"""
import argparse, hashlib, os, pathlib, random, re, shutil, signal, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--program", required=True)
parser.add_argument("--kills", type=int, default=20, help="of each command")
parser.add_argument("--only", default="", help="commands, by a regular expression")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
PROGRAM = str(pathlib.Path(args.program).resolve())
random.seed(args.seed)
LEFT = re.compile(r"^\.(writing-|tmp)")
# What a clock or a lock says is another each time; a checkpoint's state is looked at through what the run gives in the end.
CLOCK = {"metrics.jsonl", "memory.json", ".lock", "status.json", "inputs.json"}


def files(folder):
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = path
    return found


def hashes(folder):
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files(folder).items()
        if path.name not in CLOCK and not LEFT.match(path.name)
    }


def left(folder):
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if LEFT.match(path.name)]


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def commands(work):
    model, tuned, adapter = (str(ROOT / "fixtures" / name) for name in ("llama", "llama-tuned", "llama-adapter"))
    rows = ('{"input_ids": %s}' % [(row * 31 + at * 7) % 300 + 3 for at in range(24)] for row in range(40))
    data = write(work / "rows.jsonl", rows)
    train = ["train", model, "--data", data, "--method", "lora", "--rank", "2", "--steps", "60", "--batch", "2", "--save-every", "5"]
    yield "train", train, True
    yield "merge", ["merge", "--base", model, "--adapter", adapter], False
    yield "extract", ["extract", "--base", model, "--tuned", tuned, "--rank", "4"], False
    yield "quantize", ["quantize", model, "--format", "nf4", "--save"], False
    yield "demo", ["demo", "build", "--tiny"], False


def call(command, out, resume=False):
    end = [str(out)] if command[-1] == "--save" else ["--out", str(out)]
    return [PROGRAM, *command, *end, "--threads", "1", *(["--resume"] if resume else [])]


def silent(words):
    return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


wrong = 0
work = pathlib.Path(tempfile.mkdtemp(prefix="rankscope-kills-"))
for name, command, resumes in commands(work):
    if not re.search(args.only, name):
        continue
    good = work / f"{name}-good"
    begin = time.monotonic()
    ran = silent(call(command, good))
    took = time.monotonic() - begin
    if ran.returncode != 0:
        sys.exit(f"{name} does not run at all: {ran.stderr}")
    expected = hashes(good)
    counts = dict(killed=0, ended=0, half=0, failed=0, differ=0, left=0)
    while counts["killed"] < args.kills:
        number = counts["killed"] + counts["ended"]
        out = work / f"{name}-{number}"
        begin = time.monotonic()
        process = subprocess.Popen(call(command, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Later ones more often in the second half, where files are written.
        time.sleep(took * random.random() ** 0.7)
        process.send_signal(signal.SIGKILL)
        if process.wait() >= 0:
            # It was quicker than the one that nobody disturbed: no kill.
            counts["ended"] += 1
            took = min(took, max(time.monotonic() - begin, 0.01))
            shutil.rmtree(out, ignore_errors=True)
            continue
        counts["killed"] += 1
        there = hashes(out) if out.exists() else {}
        half = [at for at, digest in there.items() if at in expected and digest != expected[at] and at.endswith("safetensors")]
        again = silent(call(command, out, resumes and (out / "run.toml").exists()))
        if again.returncode != 0:
            counts["failed"] += 1
            print(f"  {name} {number}: the next run says {again.stderr.strip().splitlines()[-1:]}")
        # Of a run the checkpoints before the last one are other bytes than none.
        differ = [at for at, digest in hashes(out).items() if expected.get(at) != digest and (out / at).suffix == ".safetensors"]
        counts["half"] += len(half)
        counts["differ"] += len(differ)
        counts["left"] += len(left(out))
        for what, names in (("half-written", half), ("differ after the next run", differ), ("left over", left(out))):
            if names:
                print(f"  {name} {number}: {what}: {', '.join(names[:4])}")
        shutil.rmtree(out, ignore_errors=True)
    wrong += counts["half"] + counts["failed"] + counts["differ"] + counts["left"]
    print(f"{name:<9} {took:6.1f} s undisturbed;", ", ".join(f"{count} {what}" for what, count in counts.items()), flush=True)
shutil.rmtree(work, ignore_errors=True)
sys.exit(1 if wrong else 0)
