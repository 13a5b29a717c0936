"""The exported job of FOLDER, sharded over the processes of torchrun on gloo. Prints the losses and what a process holds.

    torchrun --nproc_per_node 2 sharded.py FOLDER fsdp|zero3

fsdp: torch's fully_shard. zero3: DeepSpeed by the exported ds_zero3.json, on its accelerator for the processor (DS_ACCELERATOR=cpu).
accelerate shards on accelerators alone, so the parts of train.py that make model and data are used, and the loop is here.
"""

import json
import math
import sys
from pathlib import Path

import torch
import torch.distributed as dist

folder, way = Path(sys.argv[1]).resolve(), sys.argv[2]
sys.path.insert(0, str(folder))
sys.argv = ["train.py"]
import train  # noqa: E402

torch.set_num_threads(1)
job, asked = train.JOB, train.arguments()
a = job["arguments"]
rows = [json.loads(line) for line in (folder / job["data"]).read_text().splitlines()]
each = a["per_device_train_batch_size"]


def made():
    return train.with_pairs(train.model_of(job, job["model"], True), job, asked)


def optimizer_of(model):
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, a["learning_rate"], (a["adam_beta1"], a["adam_beta2"]), a["adam_epsilon"], a["weight_decay"])


def fsdp():
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo")
    model = made()
    for block in model.get_base_model().model.layers:
        fully_shard(block)
    fully_shard(model)
    optimizer = optimizer_of(model)
    trained = [p for p in model.parameters() if p.requires_grad]

    def step(loss):
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, a["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()

    return model, optimizer, step, sum(p.to_local().numel() for p in model.parameters()), sum(p.numel() for p in model.parameters())


def zero3():
    import deepspeed
    from transformers import TrainingArguments
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    deepspeed.init_distributed("gloo")
    model = made()
    # transformers fills in what the file leaves to it.
    config = HfTrainerDeepSpeedConfig(str(folder / "ds_zero3.json"))
    arguments = TrainingArguments("unused", use_cpu=True, report_to="none", **{k: v for k, v in a.items() if k != "report_to"})
    config.trainer_config_process(arguments)
    config.trainer_config_finalize(arguments, model, a["max_steps"])
    optimizer = optimizer_of(model)
    config = {**config.config, "zero_force_ds_cpu_optimizer": False, "zero_allow_untested_optimizer": True}
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)

    def step(loss):
        engine.backward(loss)
        engine.step()

    whole = sum(p.ds_numel for p in engine.module.parameters())
    return engine, optimizer, step, sum(p.ds_tensor.numel() for p in engine.module.parameters()), whole


model, optimizer, take, held, whole = {"fsdp": fsdp, "zero3": zero3}[way]()
rank, world = dist.get_rank(), dist.get_world_size()
losses = []
for step in range(a["max_steps"]):
    mine = rows[(step * world + rank) * each :][:each]
    longest = max(len(row["input_ids"]) for row in mine)
    pad = lambda key, value: torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in mine])  # noqa: E731
    labels = pad("labels", -100)
    count = (labels[:, 1:] != -100).sum().float()
    dist.all_reduce(count)
    warmup, steps = a["warmup_steps"], a["max_steps"]
    scale = (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = a["learning_rate"] * scale
    logits = model(input_ids=pad("input_ids", 0), attention_mask=pad("attention_mask", 0)).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="sum")
    # Both average gradients over the processes.
    take(loss * world / count)
    total = loss.detach()
    dist.all_reduce(total)
    losses.append((total / count).item())
if rank == 0:
    print(json.dumps({"losses": losses, "held": held, "all": whole}), flush=True)
dist.destroy_process_group()
