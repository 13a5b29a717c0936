"""Trains what job.json says, with Unsloth. Written by Rankscope; the values are all in job.json.

    python train.py [--out runs/run] [--rank R --alpha A --lr LR --seed S]
"""

import argparse
import json
import os
from pathlib import Path

from unsloth import FastLanguageModel  # isort: skip  (before trl and transformers, which it patches)

import torch
from datasets import load_dataset
from peft import PeftModel
from trl import SFTConfig, SFTTrainer

HERE = Path(__file__).resolve().parent
JOB = json.loads((HERE / "job.json").read_text())


class Trainer(SFTTrainer):
    def _get_train_sampler(self, *args, **kwargs):
        # The file has the order of the run.
        return torch.utils.data.SequentialSampler(self.train_dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="runs/run")
    parser.add_argument("--model", default=os.environ.get("MODEL") or JOB["model"])
    for name, kind in [("rank", int), ("alpha", float), ("lr", float), ("seed", int)]:
        parser.add_argument(f"--{name}", type=kind)
    asked = parser.parse_args()
    values, lora = dict(JOB["arguments"]), JOB["lora"]
    for key, value in [("learning_rate", asked.lr), ("seed", asked.seed)]:
        if value is not None:
            values[key] = value
    model, tokenizer = FastLanguageModel.from_pretrained(
        asked.model,
        max_seq_length=JOB["seq"],
        dtype=torch.bfloat16 if JOB["bf16"] else torch.float32,
        load_in_4bit=bool(JOB["quant"]),
        full_finetuning=lora is None,
    )
    checkpointing = values.pop("gradient_checkpointing")
    if lora and JOB["initial_adapter"] and asked.rank in (None, lora["r"]):
        model = PeftModel.from_pretrained(model, HERE / JOB["initial_adapter"], is_trainable=True)
    elif lora:
        model = FastLanguageModel.get_peft_model(
            model,
            r=asked.rank or lora["r"],
            lora_alpha=asked.alpha or lora["lora_alpha"],
            lora_dropout=lora["lora_dropout"],
            target_modules=lora["target_modules"],
            use_rslora=lora["use_rslora"],
            use_dora=lora["use_dora"],
            rank_pattern=lora["rank_pattern"],
            bias="none",
            random_state=values["seed"],
            use_gradient_checkpointing="unsloth" if checkpointing else False,
        )
    read = lambda file: load_dataset("json", data_files=str(HERE / file), split="train") if file else None  # noqa: E731
    config = SFTConfig(
        output_dir=str(HERE / asked.out),
        bf16=JOB["bf16"],
        max_length=JOB["seq"],
        completion_only_loss=True if JOB["texts"] else None,
        remove_unused_columns=JOB["texts"],
        dataset_kwargs={} if JOB["texts"] else {"skip_prepare_dataset": True},
        **values,
    )
    trainer = Trainer(
        model=model, args=config, train_dataset=read(JOB["data"]), eval_dataset=read(JOB["eval"]), processing_class=tokenizer
    )
    trainer.train(resume_from_checkpoint=os.environ.get("RESUME") or None)
    trainer.save_model()
    trainer.save_state()


main()
