"""Runs exported jobs for real, on the processor, and compares their losses with ours.

    python tests/cluster/run.py RANKSCOPE [python ddp fsdp llama-factory axolotl skypilot slurm kubernetes]

RANKSCOPE is the program. Needed in this Python: torch, transformers 5.24, trl 1.16, peft 0.21, accelerate 1.15, datasets, tensorboard. The
others are run by Pythons of their own where LLAMA_FACTORY, AXOLOTL, SKYPILOT, KUBERNETES name one. Whatever has no program here is said, and
not counted as passed.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = ROOT / "assets" / "demo" / "tales-2m"
DATA = ROOT / "assets" / "demo" / "data"
PROGRAM = Path(sys.argv[1]).resolve()
SETTINGS = ["--method", "lora", "--rank", "8", "--lr", "1e-3", "--warmup", "3", "--batch", "8", "--steps", "12", "--seq", "96",
            "--dtype", "f32", "--save-every", "6", "--film-every", "0"]  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
ENVIRONMENT["PATH"] = f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}"


def run(command, where=None, **more):
    done = subprocess.run([str(word) for word in command], cwd=where, capture_output=True, text=True, env={**ENVIRONMENT, **more})
    if done.returncode:
        raise SystemExit(f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def export(out, *more):
    data = ["--data", DATA / "extract.train.jsonl"]
    words = [PROGRAM, "--json", "export-job", BASE, *data, *SETTINGS, "--out", out, *more]
    return json.loads(run(words))


def ours(work):
    """Losses of the same run here."""
    out = work / "ours"
    if not out.exists():
        run([PROGRAM, "--json", "--threads", "1", "--device", "cpu", "train", BASE, "--data", DATA / "extract.train.jsonl", *SETTINGS, "--out", out])
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def compare(name, folder, work):
    newest = max(folder.glob("runs/run/**/trainer_state.json"), key=lambda path: json.loads(path.read_text())["global_step"])
    history = json.loads(newest.read_text())["log_history"]
    theirs, mine = [entry["loss"] for entry in history if "loss" in entry], ours(work)
    print(f"{name}: ours {mine[0]:.5f} {mine[1]:.5f} … {mine[-1]:.5f}, theirs {theirs[0]:.5f} {theirs[1]:.5f} … {theirs[-1]:.5f}")
    assert len(theirs) == len(mine), (len(theirs), len(mine))
    for at in range(3):
        assert abs(theirs[at] - mine[at]) < 1e-3, (name, at, theirs[at], mine[at])
    assert abs(theirs[-1] / mine[-1] - 1) < 0.02, (name, theirs[-1], mine[-1])
    # It comes home.
    runs = json.loads(run([PROGRAM, "--json", "runs", folder / "runs"]))["runs"]
    assert runs[0]["made_by"] in ("TRL", "LLaMA-Factory", "Unsloth") and runs[0]["checkpoints"], runs
    print(f"{name}: at home as {runs[0]['made_by']}, {runs[0]['state']}, checkpoints {runs[0]['checkpoints']}")


def python(work):
    folder = work / "trl"
    export(folder, "--for", "trl", "--initial-adapter")
    run(["bash", "run.sh"], folder)
    compare("trl by python", folder, work)


def ddp(work):
    folder = work / "trl-ddp"
    export(folder, "--for", "trl", "--launcher", "accelerate", "--gpus", "2", "--initial-adapter")
    run(["bash", "run.sh"], folder, CPU="2")
    compare("trl by accelerate launch, two processes on gloo", folder, work)


def fsdp(work):
    """Sharded over two processes by torch's own fully_shard on gloo: accelerate's FSDP takes no processor."""
    folder = work / "trl-fsdp"
    export(folder, "--for", "trl", "--launcher", "torchrun", "--gpus", "2", "--strategy", "fsdp", "--initial-adapter")
    told = run([sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", Path(__file__).with_name("sharded.py"), folder], folder)
    losses = json.loads(told.strip().splitlines()[-1])
    mine = ours(work)
    print(f"fully_shard on two processes: ours {mine[0]:.5f} … {mine[-1]:.5f}, theirs {losses[0]:.5f} … {losses[-1]:.5f}")
    assert all(abs(a - b) < 1e-3 for a, b in zip(losses[:3], mine)) and abs(losses[-1] / mine[-1] - 1) < 0.02


def interpreter(name):
    path = os.environ.get(name)
    if not path:
        print(f"{name.lower()}: NOT RUN, {name} names no Python")
    return path


def llama_factory(work):
    if not (there := interpreter("LLAMA_FACTORY")):
        return
    folder = work / "llama-factory"
    export(folder, "--for", "llama-factory", "--initial-adapter")
    run([there, "prepare.py"], folder)
    check = "import sys, yaml; from llamafactory.hparams import get_train_args; a = get_train_args(yaml.safe_load(open('config.yaml'))); print(a[0].model_name_or_path, a[2].learning_rate, a[3].lora_rank)"
    print("llama-factory's own parser:", run([there, "-c", check], folder, USE_CPU="1").strip().splitlines()[-1])


def axolotl(work):
    if not (there := interpreter("AXOLOTL")):
        return
    folder = work / "axolotl"
    export(folder, "--for", "axolotl")
    check = (
        "import yaml; from axolotl.utils.dict import DictDefault; from axolotl.utils.config import validate_config; "
        "c = validate_config(DictDefault(yaml.safe_load(open('config.yaml'))), capabilities={'bf16': True, 'n_gpu': 1, 'compute_capability': 'sm_90'}, "
        "env_capabilities={'torch_version': '2.9.0'}); print(c.base_model, c.lora_r, c.learning_rate, c.max_steps)"
    )
    print("axolotl's own validation:", run([there, "-c", check], folder).strip().splitlines()[-1])


def skypilot(work):
    if not (there := interpreter("SKYPILOT")):
        return
    folder = work / "skypilot"
    export(folder, "--for", "trl", "--launcher", "skypilot", "--nodes", "2", "--gpus", "8", "--strategy", "fsdp")
    check = "import sky; t = sky.Task.from_yaml('task.yaml'); print(t.num_nodes, t.resources)"
    print("skypilot's own loader:", run([there, "-c", check], folder).strip().splitlines()[-1])


def slurm(work):
    folder = work / "slurm"
    export(folder, "--for", "trl", "--launcher", "slurm", "--nodes", "2", "--gpus", "8", "--strategy", "fsdp", "--ranks", "4,8", "--lrs", "1e-4,1e-3")
    if subprocess.run(["bash", "-c", "command -v sbatch && scontrol ping"], capture_output=True).returncode:
        print("slurm: NOT RUN, no slurmctld answers (tests/cluster/slurm.sh starts one)")
        return
    done = subprocess.run(["sbatch", "--test-only", "--nodes=1", "--gpus-per-node=0", "--cpus-per-task=1", "job.sbatch"], cwd=folder, capture_output=True, text=True)
    print("sbatch --test-only:", (done.stdout + done.stderr).strip())
    assert done.returncode == 0


def kubernetes(work):
    if not (there := interpreter("KUBERNETES")):
        return
    folder = work / "kubernetes"
    export(folder, "--for", "trl", "--launcher", "kubernetes", "--nodes", "2", "--gpus", "8", "--strategy", "fsdp", "--ranks", "4,8")
    check = (
        "import yaml, kubernetes_validate; from kubeflow_trainer_api import models; "
        "jobs = list(yaml.safe_load_all(open('trainjob.yaml'))); "
        "[models.TrainerV1alpha1TrainJob.from_dict(job) for job in jobs]; "
        "kubernetes_validate.validate(yaml.safe_load(open('claim.yaml')), '1.31', strict=True); print(len(jobs), 'TrainJobs, a claim')"
    )
    print("kubeflow's models, kubernetes-validate:", run([there, "-c", check], folder).strip().splitlines()[-1])


def tensorboard(work):
    """Our event files by TensorBoard's own reader."""
    out = work / "events"
    words = [PROGRAM, "--device", "cpu", "--threads", "1", "train", BASE, "--data", DATA / "extract.train.jsonl", *SETTINGS]
    run([*words, "--steps", "3", "--report-to", "tensorboard", "--out", out])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out))
    events.Reload()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found = [event.value for event in events.Scalars("train/loss")]
    print("tensorboard:", events.Tags()["scalars"], found)
    assert all(abs(a - line["loss"]) < 1e-5 for a, line in zip(found, lines, strict=True))


with tempfile.TemporaryDirectory() as work:
    all_of_them = [python, ddp, fsdp, llama_factory, axolotl, skypilot, slurm, kubernetes, tensorboard]
    for name in sys.argv[2:] or [one.__name__ for one in all_of_them]:
        {one.__name__: one for one in all_of_them}[name.replace("-", "_")](Path(os.environ.get("WORK") or work))
