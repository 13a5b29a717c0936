"""The exported job of FOLDER, sharded by torch's fully_shard over the processes of torchrun, on gloo. Prints the losses.

accelerate's FSDP asks for an accelerator, so the parts of train.py that make model and data are used, and the loop is here.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

folder = Path(sys.argv[1]).resolve()
sys.path.insert(0, str(folder))
sys.argv = ["train.py"]
import train  # noqa: E402

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.set_num_threads(1)
job, asked = train.JOB, train.arguments()
model = train.with_pairs(train.model_of(job, job["model"], True), job, asked)
for block in model.get_base_model().model.layers:
    fully_shard(block)
fully_shard(model)
a = job["arguments"]
rows = [json.loads(line) for line in (folder / job["data"]).read_text().splitlines()]
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, a["learning_rate"], (a["adam_beta1"], a["adam_beta2"]), a["adam_epsilon"], a["weight_decay"])
each, losses = a["per_device_train_batch_size"], []
import math  # noqa: E402

for step in range(a["max_steps"]):
    mine = rows[(step * world + rank) * each :][:each]
    longest = max(len(row["input_ids"]) for row in mine)
    pad = lambda key, value: torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in mine])  # noqa: E731
    labels = pad("labels", -100)
    count = (labels[:, 1:] != -100).sum().float()
    dist.all_reduce(count)
    logits = model(input_ids=pad("input_ids", 0), attention_mask=pad("attention_mask", 0)).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="sum")
    # fully_shard averages gradients over the processes.
    (loss * world / count).backward()
    warmup, steps = a["warmup_steps"], a["max_steps"]
    scale = (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = a["learning_rate"] * scale
    torch.nn.utils.clip_grad_norm_(trained, a["max_grad_norm"])
    optimizer.step()
    optimizer.zero_grad()
    total = loss.detach()
    dist.all_reduce(total)
    losses.append((total / count).item())
sharded = sum(p.to_local().numel() for p in model.parameters()), sum(p.numel() for p in model.parameters())
if rank == 0:
    print("this process holds", sharded[0], "of", sharded[1], "parameters", file=sys.stderr)
    print(json.dumps(losses), flush=True)
dist.destroy_process_group()
