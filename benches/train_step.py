"""The other side of train_step.rs: torch + peft + bitsandbytes, as a user would write it, f32 on the CPU."""
import json, statistics, sys, time

folder, threads, targets, batch, seq, steps = sys.argv[1:7]
rank = int(sys.argv[7]) if len(sys.argv) > 7 else None  # LoRA over weights that are not quantized, of this rank
import torch
torch.set_num_threads(int(threads))
import transformers
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from peft import LoraConfig, get_peft_model

batch, seq, steps = int(batch), int(seq), int(steps)
quantized = None if rank else BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=quantized, device_map="cpu")
model.config.use_cache = False
names = "all-linear" if targets == "all-linear" else targets.split(",")
model = get_peft_model(model, LoraConfig(r=rank or 8, lora_alpha=2 * (rank or 8), target_modules=names, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"))
model.train()
vocab = model.config.vocab_size
data = torch.tensor([[(r * 7919 + t * 104729 + t * t * 31) % (vocab - 3) + 3 for t in range(seq)] for r in range(16)])
params = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(params, lr=1e-4, weight_decay=0.01)
seconds, losses = [], []
for i in range(steps):
    if i == 1: used = time.process_time()
    begin = time.perf_counter()
    ids = data[(i * batch) % 16:(i * batch) % 16 + batch]
    loss = model(ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()
    losses.append(loss.item())
    seconds.append(time.perf_counter() - begin)
used = (time.process_time() - used) / (steps - 1)
median = statistics.median(seconds[1:])
peak = next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM:"))
print(json.dumps({"seconds": median, "fastest": min(seconds[1:]), "cpu_seconds": used, "tokens_per_s": batch * seq / median, "peak_bytes": peak, "losses": losses}))
