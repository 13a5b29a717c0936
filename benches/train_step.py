"""The other side of train_step.rs: torch + peft (+ bitsandbytes), as a user would write it, on the CPU."""
import json, statistics, sys, time

folder, method, dtype, threads, targets, rank, checkpointing, batch, seq, steps = sys.argv[1:11]
import torch
torch.set_num_threads(int(threads))
import transformers
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from peft import LoraConfig, get_peft_model

batch, seq, steps, rank = int(batch), int(seq), int(steps), int(rank)
dtype = torch.bfloat16 if dtype == "bf16" else torch.float32
quantized = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype) if method == "qlora" else None
model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, quantization_config=quantized, device_map="cpu")
model.config.use_cache = False
if checkpointing == "on":
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
names = "all-linear" if targets == "all-linear" else targets.split(",")
model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"))
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
