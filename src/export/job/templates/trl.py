"""Trains what job.json says, with TRL and PEFT. Written by Rankscope; the values are all in job.json.

    python train.py [--out runs/run] [--rank R --alpha A --lr LR --seed S] [--cpu]

Under accelerate or torchrun every process runs this file.
"""

import argparse
import json
import os
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

HERE = Path(__file__).resolve().parent


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="runs/run")
    parser.add_argument("--model", default=os.environ.get("MODEL"))
    parser.add_argument("--rank", type=int)
    parser.add_argument("--alpha", type=float)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--cpu", action="store_true", help="also where there is a GPU")
    return parser.parse_args()


class Trainer(SFTTrainer):
    """Warms up as Rankscope does: step i of n has lr * (i + 1) / n; transformers would begin at 0."""

    def create_scheduler(self, num_training_steps, optimizer=None):
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        warmup = self.args.warmup_steps
        if JOB["warmup_from_one"] and not getattr(self, "shifted", False):
            self.shifted = True
            for at, schedule in enumerate(scheduler.lr_lambdas):
                scheduler.lr_lambdas[at] = lambda i, schedule=schedule: (i + 1) / warmup if i < warmup else schedule(i)
            for group, base, schedule in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas):
                group["lr"] = base * schedule(0)
        return scheduler

    def _get_train_sampler(self, *args, **kwargs):
        # The file has the order of the run.
        return torch.utils.data.SequentialSampler(self.train_dataset)


def model_of(job, name, cpu):
    kind = torch.bfloat16 if job["bf16"] and not cpu else torch.float32
    options = {"dtype": kind}
    if job["quant"]:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=job["quant"]["type"],
            bnb_4bit_use_double_quant=job["quant"]["double"],
            bnb_4bit_compute_dtype=kind,
            # Sharded weights must have the type of the rest.
            bnb_4bit_quant_storage=kind if "ACCELERATE_USE_FSDP" in os.environ else torch.uint8,
        )
    model = AutoModelForCausalLM.from_pretrained(name, **options)
    model.config.use_cache = False
    return model


def with_pairs(model, job, asked):
    if not job["lora"]:
        return model
    if job["quant"]:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if job["arguments"]["gradient_checkpointing"]:
        model.enable_input_require_grads()
    rank = asked.rank or job["lora"]["r"]
    if job["initial_adapter"] and rank == job["lora"]["r"]:
        folder = HERE / job["initial_adapter"]
        return PeftModel.from_pretrained(model, folder, is_trainable=True)
    torch.manual_seed(job["arguments"]["seed"])
    lora = dict(job["lora"], r=rank)
    if asked.alpha:
        lora["lora_alpha"] = asked.alpha
    # A and B are trained in f32, whatever the weights beside them are; sharded with weights of another type, in that type.
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return get_peft_model(model, LoraConfig(**lora), autocast_adapter_dtype=not sharded)


def main():
    asked = arguments()
    cpu = asked.cpu or not torch.cuda.is_available()
    values = dict(JOB["arguments"])
    for key, value in [("learning_rate", asked.lr), ("seed", asked.seed)]:
        if value is not None:
            values[key] = value
    JOB["arguments"] = values
    config = SFTConfig(
        output_dir=str(HERE / asked.out),
        use_cpu=cpu,
        bf16=JOB["bf16"] and not cpu,
        max_length=JOB["seq"],
        completion_only_loss=True if JOB["texts"] else None,
        remove_unused_columns=JOB["texts"],
        dataset_kwargs={} if JOB["texts"] else {"skip_prepare_dataset": True},
        dataset_num_proc=1,
        **values,
    )
    name = asked.model or JOB["model"]
    model = with_pairs(model_of(JOB, name, cpu), JOB, asked)
    tokenizer = AutoTokenizer.from_pretrained(name)
    if tokenizer.pad_token is None:
        # Padding is masked: any token will do.
        tokenizer.pad_token = tokenizer.eos_token
    read = lambda file: load_dataset("json", data_files=str(HERE / file), split="train") if file else None  # noqa: E731
    trainer = Trainer(
        model=model, args=config, train_dataset=read(JOB["data"]), eval_dataset=read(JOB["eval"]), processing_class=tokenizer
    )
    trainer.train(resume_from_checkpoint=os.environ.get("RESUME") or None)
    if JOB["eval"]:
        trainer.evaluate()
    trainer.save_model()
    trainer.save_state()
    if trainer.is_world_process_zero():
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        print(json.dumps({"steps": trainer.state.global_step, "first_loss": losses[0], "last_loss": losses[-1]}), flush=True)


JOB = json.loads((HERE / "job.json").read_text())

if __name__ == "__main__":
    main()
