"""Turns data/*.jsonl, ids and labels, into the tokenized dataset that LLaMA-Factory loads. Written by Rankscope."""

from pathlib import Path

from datasets import DatasetDict, load_dataset

HERE = Path(__file__).resolve().parent
sets = {"train": "train", "validation": "eval"}
files = {name: HERE / "data" / f"{file}.jsonl" for name, file in sets.items()}
read = {name: load_dataset("json", data_files=str(path), split="train") for name, path in files.items() if path.exists()}
DatasetDict(read).save_to_disk(str(HERE / "tokenized"))
