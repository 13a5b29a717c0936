"""Runs exported jobs for real, on the processor, and compares their losses with ours.

    python tests/cluster/run.py RANKSCOPE [python ddp fsdp zero3 llama-factory axolotl unsloth skypilot slurm sweep kubernetes resolve tensorboard]

RANKSCOPE is the program. Needed in this Python: torch, transformers 5.24, trl 1.16, peft 0.21, accelerate 1.15, datasets, tensorboard, deepspeed.
Others are run by Pythons of their own where LLAMA_FACTORY, AXOLOTL, SKYPILOT, KUBERNETES name one; UNSLOTH names a folder with its unpacked
package, UV the program uv, SLURM_CONF what slurm.sh has printed. What has no program here is said, and not counted as passed. WORK keeps the folders.

What runs is printed with its versions, its command and what it said; docs/clusters.md holds that of one such run.
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = ROOT / "assets" / "demo" / "tales-2m"
DATA = ROOT / "assets" / "demo" / "data"
PROGRAM = Path(sys.argv[1]).resolve()


def settings(**other):
    """As flags of the command line."""
    common = {"method": "lora", "rank": 8, "lr": "1e-3", "warmup": 3, "batch": 8, "steps": 12, "seq": 96, "dtype": "f32", "save-every": 6, "film-every": 0}
    return [str(word) for name, value in {**common, **other}.items() for word in (f"--{name}", value)]


SETTINGS = settings()
# LLaMA-Factory's and axolotl's warm-up begins at 0: compared without one.
AT_ONCE = settings(warmup=0)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
ENVIRONMENT["PATH"] = f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}"
NOT_RUN = []


def run(command, where=None, **more):
    done = subprocess.run([str(word) for word in command], cwd=where, capture_output=True, text=True, env={**ENVIRONMENT, **more})
    if done.returncode:
        raise SystemExit(f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def last(text):
    return text.strip().splitlines()[-1]


def say(engine, command, printed):
    print(f"{engine}\n    $ {command}\n    {printed}", flush=True)


def not_run(what):
    NOT_RUN.append(what)
    print(f"NOT RUN: {what}", flush=True)


def versions(*packages, python=None):
    if python:
        code = f"from importlib.metadata import version\nfor p in {packages!r}: print(p, version(p))"
        return ", ".join(run([python, "-c", code]).split("\n")[: len(packages)])
    return ", ".join(f"{package} {version(package)}" for package in packages)


def interpreter(name):
    path = os.environ.get(name)
    if not path:
        not_run(f"{name.lower()}: {name} names no Python")
    return path


def environment_of(python):
    """start.sh takes a virtual environment."""
    return str(Path(python).parent.parent)


def export(out, *more, flags=SETTINGS):
    data = ["--data", DATA / "extract.train.jsonl"]
    words = [PROGRAM, "--json", "export-job", BASE, *data, *flags, "--out", out, *more]
    return json.loads(run(words))


def ours(work, flags=SETTINGS):
    """Losses of the same run here."""
    out = work / ("ours" if flags is SETTINGS else "ours-at-once")
    if not (out / "adapter_model.safetensors").exists():
        data = DATA / "extract.train.jsonl"
        run([PROGRAM, "--json", "--threads", "1", "--device", "cpu", "train", BASE, "--data", data, *flags, "--out", out])
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def same(name, theirs, mine):
    assert len(theirs) == len(mine), (name, len(theirs), len(mine))
    for at in range(3):
        assert abs(theirs[at] - mine[at]) < 1e-3, (name, at, theirs[at], mine[at])
    assert abs(theirs[-1] / mine[-1] - 1) < 0.02, (name, theirs[-1], mine[-1])
    short = lambda losses: " ".join(f"{loss:.5f}" for loss in losses[:3]) + f" … {losses[-1]:.5f}"  # noqa: E731
    return f"losses {short(theirs)}; here {short(mine)}"


def losses_of(runs):
    newest = max(runs.glob("**/trainer_state.json"), key=lambda path: json.loads(path.read_text())["global_step"])
    history = json.loads(newest.read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def compare(engine, command, folder, work, maker, flags=SETTINGS):
    told = same(engine, losses_of(folder / "runs" / "run"), ours(work, flags))
    # It comes home.
    runs = json.loads(run([PROGRAM, "--json", "runs", folder / "runs"]))["runs"]
    assert len(runs) == 1 and runs[0]["made_by"] == maker and runs[0]["checkpoints"] == [6, 12], runs
    say(engine, command, f"{told}; `runs`: {runs[0]['made_by']}, {runs[0]['state']}, checkpoints {runs[0]['checkpoints']}")


def trl():
    return "TRL (" + versions("trl", "transformers", "peft", "accelerate", "torch") + ")"


def python(work):
    folder = work / "trl"
    export(folder, "--for", "trl", "--initial-adapter")
    run(["bash", "run.sh"], folder)
    compare(trl(), "bash run.sh  # python train.py", folder, work, "TRL")


def ddp(work):
    folder = work / "trl-ddp"
    export(folder, "--for", "trl", "--launcher", "accelerate", "--gpus", "2", "--initial-adapter")
    run(["bash", "run.sh"], folder, CPU="2")
    compare(trl(), "CPU=2 bash run.sh  # accelerate launch, DDP of two processes on gloo", folder, work, "TRL")


def sharded(work, way, name, engine):
    """Two processes by torchrun: accelerate shards on accelerators alone (AcceleratorState, MULTI_CPU is no FSDP and no DEEPSPEED there)."""
    folder = work / name
    strategy = "zero3" if way == "zero3" else "fsdp"
    export(folder, "--for", "trl", "--launcher", "torchrun", "--gpus", "2", "--strategy", strategy, "--initial-adapter")
    script = Path(__file__).with_name("sharded.py")
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script, folder, way]
    told = json.loads(last(run(words, folder, DS_ACCELERATOR="cpu")))
    assert told["held"] < 0.6 * told["all"], told
    held = f"a process holds {told['held']} of {told['all']} parameters"
    command = f"torchrun --nproc_per_node 2 tests/cluster/sharded.py FOLDER {way}"
    say(engine, command, same(way, told["losses"], ours(work)) + "; " + held)


def fsdp(work):
    sharded(work, "fsdp", "trl-fsdp", trl() + ", torch's fully_shard on gloo")


def zero3(work):
    sharded(work, "zero3", "trl-zero3", "DeepSpeed ZeRO-3 (" + versions("deepspeed", "transformers", "peft", "torch") + "), its processor accelerator, gloo")
    # The same file by accelerate's own class, and accelerate.yaml by its launcher's.
    folder = work / "accelerate-zero3"
    export(folder, "--for", "trl", "--launcher", "accelerate", "--gpus", "8", "--strategy", "zero3")
    check = (
        "from accelerate.commands.config.config_args import load_config_from_file; from accelerate.utils import DeepSpeedPlugin; "
        "c = load_config_from_file('accelerate.yaml'); p = DeepSpeedPlugin(hf_ds_config=c.deepspeed_config['deepspeed_config_file']); "
        "print(c.distributed_type, c.num_processes, 'processes, stage', p.zero_stage, 'batch', p.deepspeed_config['train_batch_size'])"
    )
    say("accelerate (" + versions("accelerate", "deepspeed") + ")", "load_config_from_file, DeepSpeedPlugin", last(run([sys.executable, "-c", check], folder, DS_ACCELERATOR="cpu")))
    folder = work / "accelerate-fsdp"
    export(folder, "--for", "trl", "--launcher", "accelerate", "--gpus", "8", "--strategy", "fsdp")
    check = (
        "import os; from accelerate.commands.config.config_args import load_config_from_file; from accelerate.utils import FullyShardedDataParallelPlugin; "
        "c = load_config_from_file('accelerate.yaml'); f = c.fsdp_config; "
        "p = FullyShardedDataParallelPlugin(fsdp_version=f['fsdp_version'], auto_wrap_policy=f['fsdp_auto_wrap_policy'].lower(), "
        "transformer_cls_names_to_wrap=[f['fsdp_transformer_layer_cls_to_wrap']], reshard_after_forward=f['fsdp_reshard_after_forward'], "
        "state_dict_type=f['fsdp_state_dict_type']); print(c.distributed_type, c.num_processes, 'processes, FSDP', p.fsdp_version, p.transformer_cls_names_to_wrap, p.state_dict_type.name)"
    )
    say("accelerate (" + versions("accelerate") + ")", "load_config_from_file, FullyShardedDataParallelPlugin", last(run([sys.executable, "-c", check], folder)))


def llama_factory(work):
    if not (there := interpreter("LLAMA_FACTORY")):
        return
    engine = "LLaMA-Factory (" + versions("llamafactory", "transformers", "peft", "torch", python=there) + ")"
    folder = work / "llama-factory"
    export(folder, "--for", "llama-factory", "--initial-adapter", flags=AT_ONCE)
    run([there, "prepare.py"], folder)
    check = "import sys, yaml; from llamafactory.hparams import get_train_args; a = get_train_args(yaml.safe_load(open('config.yaml'))); print(a[0].model_name_or_path.split('/')[-1], a[2].learning_rate, a[3].lora_rank)"
    say(engine, "get_train_args(config.yaml)", last(run([there, "-c", check], folder, USE_CPU="1")))
    run(["bash", "run.sh"], folder, VENV=environment_of(there), USE_CPU="1")
    compare(engine, "bash run.sh  # llamafactory.launcher config.yaml", folder, work, "LLaMA-Factory", AT_ONCE)
    # A sweep, one run after the other.
    folder = work / "llama-factory-sweep"
    export(folder, "--for", "llama-factory", "--ranks", "2,8", "--lrs", "1e-3", flags=settings(warmup=0, steps=6, **{"save-every": 3}))
    run(["bash", "run.sh"], folder, VENV=environment_of(there), USE_CPU="1")
    runs = json.loads(run([PROGRAM, "--json", "runs", folder]))["runs"]
    found = {Path(one["path"]).name: (one["r"], one["made_by"], one["state"], one["checkpoints"]) for one in runs}
    assert found == {f"r-{r}-lr-1e-3-seed-0": (r, "LLaMA-Factory", "finished", [3, 6]) for r in (2, 8)}, found
    told = ", ".join(f"{Path(one['path']).name} {one['last_loss']:.4f}" for one in sorted(runs, key=lambda one: one["path"]))
    say(engine, "bash run.sh  # each line of sweep.txt; rankscope runs FOLDER", told)


def axolotl(work):
    if not (there := interpreter("AXOLOTL")):
        return
    engine = "axolotl (" + versions("axolotl", "transformers", python=there) + ")"
    sharded = ["--launcher", "torchrun", "--gpus", "8", "--strategy"]
    folders = {"axolotl": [], "axolotl-fsdp": [*sharded, "fsdp"], "axolotl-zero3": [*sharded, "zero3"]}
    for name, more in folders.items():
        export(work / name, "--for", "axolotl", "--ranks", "4,8", *more)
    # With the overrides of the first run of the sweep: axolotl.cli.train puts them in the place of the file's values.
    check = """
import os, sys, yaml
from axolotl.utils.config import validate_config
from axolotl.utils.dict import DictDefault
for folder in sys.argv[1:]:
    os.chdir(folder)
    line = dict(word.lstrip("-").split("=") for word in open("sweep.txt").read().splitlines()[0].split())
    known = yaml.safe_load(open("config.yaml"))
    assert set(line) <= set(known), (line, known)
    known.update((key, yaml.safe_load(value)) for key, value in line.items())
    machine = dict(capabilities={"bf16": True, "n_gpu": 8, "compute_capability": "sm_90"}, env_capabilities={"torch_version": "2.9.0"})
    c = validate_config(DictDefault(known), **machine)
    lost = [key for key, value in known.items() if key not in c and value is not None]
    assert not lost, lost
    spread = (c.fsdp_config or {}).get("transformer_layer_cls_to_wrap") or c.deepspeed or "one GPU"
    print("r", c.lora_r, "alpha", c.lora_alpha, "lr", c.learning_rate, c.max_steps, "steps", c.output_dir, spread, end="; ")
"""
    told = last(run([there, "-c", check, *[work / name for name in folders]], AXOLOTL_DO_NOT_TRACK="1"))
    say(engine, "validate_config(config.yaml with line 1 of sweep.txt), three ways to spread it", told.strip("; "))


def unsloth(work):
    """It imports on no machine without a GPU: what train.py calls is held against its source."""
    if not (package := os.environ.get("UNSLOTH")):
        return not_run("unsloth: UNSLOTH names no folder with its package")
    folder = work / "unsloth"
    export(folder, "--for", "unsloth")
    script = ast.parse((folder / "train.py").read_text())
    calls = {}
    for node in ast.walk(script):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id == "FastLanguageModel":
            calls[node.func.attr] = [word.arg for word in node.keywords]
    assert set(calls) == {"from_pretrained", "get_peft_model"}, calls
    taken = {name: set() for name in calls}
    classes = set()
    for path in Path(package).rglob("unsloth/models/*.py"):
        for kind in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]:
            if kind.name in ("FastLanguageModel", "FastLlamaModel"):
                classes.add(kind.name)
                for method in [node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name in calls]:
                    taken[method.name].update(word.arg for word in method.args.args + method.args.kwonlyargs)
    assert classes == {"FastLanguageModel", "FastLlamaModel"}, classes
    # get_peft_model hands what it does not name itself to LoraConfig(**arguments).
    from peft import LoraConfig
    from trl import SFTConfig

    taken["get_peft_model"].update(LoraConfig.__dataclass_fields__)
    for name, words in calls.items():
        assert set(words) <= taken[name], (name, set(words) - taken[name])
    # The rest is TRL's, which these fields must know.
    job = json.loads((folder / "job.json").read_text())
    unknown = set(job["arguments"]) - set(SFTConfig.__dataclass_fields__)
    assert not unknown, unknown
    found = next(Path(package).glob("unsloth-*.dist-info")).name.removeprefix("unsloth-").removesuffix(".dist-info")
    words = sum(len(words) for words in calls.values())
    say(f"Unsloth (unsloth {found}), read, not run: it imports on no machine without a GPU", "its signatures against those calls of train.py", f"all {words} arguments of {', '.join(calls)} are known")


def skypilot(work):
    if not (there := interpreter("SKYPILOT")):
        return
    folder = work / "skypilot"
    export(folder, "--for", "trl", "--launcher", "skypilot", "--nodes", "2", "--gpus", "8", "--strategy", "fsdp")
    check = "import sky; t = sky.Task.from_yaml('task.yaml'); print(t.num_nodes, 'nodes', t.resources)"
    say("SkyPilot (" + versions("skypilot", python=there) + ")", "Task.from_yaml(task.yaml)", last(run([there, "-c", check], folder)))


def answers():
    there = subprocess.run(["bash", "-c", "command -v sbatch && scontrol ping"], capture_output=True, env=ENVIRONMENT).returncode == 0
    return there or not_run("slurm: no slurmctld answers (tests/cluster/slurm.sh starts one)")


def job(folder, *more, **environment):
    """Waits for a job; what it printed."""
    done = subprocess.run(["bash", "run.sh", "--wait", *more], cwd=folder, capture_output=True, text=True, env={**ENVIRONMENT, **environment})
    told = "\n".join(path.read_text() for path in sorted(folder.glob("slurm-*.out")))
    assert done.returncode == 0, (done.stdout, done.stderr, told[-3000:])
    return told


def slurm(work):
    if not answers():
        return
    engine = f"Slurm ({run(['sbatch', '--version']).strip()})"
    folder = work / "slurm"
    export(folder, "--for", "trl", "--launcher", "slurm", "--nodes", "2", "--gpus", "8", "--strategy", "fsdp", "--ranks", "4,8", "--lrs", "1e-4,1e-3")
    done = subprocess.run(["sbatch", "--test-only", "job.sbatch"], cwd=folder, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    say(engine, "sbatch --test-only job.sbatch  # 2 machines of 8 GPUs, an array of 4", last(done.stdout + done.stderr))
    # A job of two tasks, each a machine: the exported folder as it is, but for GPUs.
    folder = work / "slurm-two"
    export(folder, "--for", "trl", "--launcher", "slurm", "--nodes", "2", "--gpus", "1", "--initial-adapter")
    job(folder, "--gpus-per-node=0")
    compare(f"{engine}, {trl()}", "bash run.sh --gpus-per-node=0  # sbatch: two tasks, torchrun on each, DDP on gloo", folder, work, "TRL")


def sweep(work):
    """An array of two runs, whose results come back."""
    if not answers():
        return
    folder = work / "sweep"
    export(folder, "--for", "trl", "--launcher", "slurm", "--gpus", "1", "--ranks", "2,8", "--lrs", "1e-3", flags=settings(steps=6))
    job(folder, "--gpus-per-node=0")
    runs = json.loads(run([PROGRAM, "--json", "runs", folder]))["runs"]
    found = {Path(one["path"]).name: (one["r"], one["made_by"], one["state"], one["steps"]) for one in runs}
    assert found == {f"r-{r}-lr-1e-3-seed-0": (r, "TRL", "finished", 6) for r in (2, 8)}, found
    told = ", ".join(f"{Path(one['path']).name} {one['last_loss']:.4f}" for one in sorted(runs, key=lambda one: one["path"]))
    say(f"Slurm ({run(['sbatch', '--version']).strip()}), {trl()}", "bash run.sh --gpus-per-node=0  # --array=1-2; rankscope runs FOLDER", told)


def kubernetes(work):
    if not (there := interpreter("KUBERNETES")):
        return
    folder = work / "kubernetes"
    export(folder, "--for", "trl", "--launcher", "kubernetes", "--nodes", "2", "--gpus", "8", "--strategy", "fsdp", "--ranks", "4,8")
    # What a model does not know it drops: both ways, nothing is lost.
    check = (
        "import yaml, kubernetes_validate; from kubeflow_trainer_api import models; "
        "jobs = list(yaml.safe_load_all(open('trainjob.yaml'))); "
        "back = [models.TrainerV1alpha1TrainJob.from_dict(job).to_dict() for job in jobs]; assert back == jobs, (back, jobs); "
        "kubernetes_validate.validate(yaml.safe_load(open('claim.yaml')), '1.31', strict=True); print(len(jobs), 'TrainJobs, a claim')"
    )
    engine = "Kubeflow Trainer (" + versions("kubeflow-trainer-api", "kubernetes-validate", python=there) + ")"
    say(engine, "TrainJob.from_dict and back (trainjob.yaml), validate (claim.yaml, 1.31, strict)", last(run([there, "-c", check], folder)))


def resolve(work):
    """requirements.txt of each engine can be installed: what is pinned fits together."""
    if not (uv := os.environ.get("UV")):
        return not_run("resolve: UV names no program")
    for engine in ["trl", "axolotl", "llama-factory", "unsloth"]:
        folder = work / f"resolve-{engine}"
        export(folder, "--for", engine)
        told = run([uv, "pip", "compile", "--quiet", "--python-version", "3.12", "--python-platform", "linux", "requirements.txt"], folder)
        names = [line for line in told.splitlines() if "==" in line]
        torch = next(line for line in names if line.startswith("torch=="))
        say(f"requirements.txt for {engine}", "uv pip compile --python-version 3.12 requirements.txt", f"{len(names)} packages, {torch}")


def tensorboard(work):
    """Our event files by TensorBoard's own reader."""
    out = work / "events"
    words = [PROGRAM, "--device", "cpu", "--threads", "1", "train", BASE, "--data", DATA / "extract.train.jsonl", *settings(steps=3)]
    run([*words, "--report-to", "tensorboard", "--out", out])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out))
    events.Reload()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found = [event.value for event in events.Scalars("train/loss")]
    assert all(abs(a - line["loss"]) < 1e-5 for a, line in zip(found, lines, strict=True))
    say("TensorBoard (" + versions("tensorboard") + ")", "train --report-to tensorboard; EventAccumulator", f"{', '.join(events.Tags()['scalars'])}; train/loss {' '.join(f'{loss:.5f}' for loss in found)}")


with tempfile.TemporaryDirectory() as work:
    all_of_them = [python, ddp, fsdp, zero3, llama_factory, axolotl, unsloth, skypilot, slurm, sweep, kubernetes, resolve, tensorboard]
    for name in sys.argv[2:] or [one.__name__ for one in all_of_them]:
        begin = time.monotonic()
        {one.__name__: one for one in all_of_them}[name.replace("-", "_")](Path(os.environ.get("WORK") or work))
        print(f"    {time.monotonic() - begin:.0f} s", flush=True)
    print("passed" + (f", but for {len(NOT_RUN)} that had no program here" if NOT_RUN else ""))
