"""The other side of card.rs: torch + peft (+ bitsandbytes) in bf16 on the GPU, as a user would write it."""
import json, statistics, sys, time

folder, device, method, dtype, checkpointing, batch, seq, steps = sys.argv[1:9]
import torch
if dtype != "bf16": sys.exit("bf16 only")
import transformers
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from peft import LoraConfig, get_peft_model

batch, seq, steps = int(batch), int(seq), int(steps)
quantized = None
if method == "qlora":
    quantized = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, quantization_config=quantized, device_map=device)
model.config.use_cache = False
if checkpointing == "on":
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"))
model.train()
vocab = model.config.vocab_size
data = torch.tensor([[(r * 7919 + t * 104729 + t * t * 31) % (vocab - 3) + 3 for t in range(seq)] for r in range(16)], device=device)
params = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(params, lr=1e-4, weight_decay=0.01)
seconds, losses = [], []
began = time.perf_counter()
for i in range(steps):
    if i > 3 and time.perf_counter() - began > 10: break
    torch.cuda.synchronize()
    begin = time.perf_counter()
    ids = data[(i * batch) % 16:(i * batch) % 16 + batch]
    loss = model(ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()
    losses.append(loss.item())
    torch.cuda.synchronize()
    seconds.append(time.perf_counter() - begin)
median = statistics.median(seconds[1:])
print(json.dumps({"seconds": median, "tokens_per_s": batch * seq / median, "gpu_peak_bytes": torch.cuda.max_memory_allocated(), "losses": losses}))
