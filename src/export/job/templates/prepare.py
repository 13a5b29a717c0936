"""Turns data/*.jsonl, ids and labels, into the tokenized dataset that LLaMA-Factory loads. Written by Rankscope."""

import os
import shutil
import tempfile
from pathlib import Path

from datasets import DatasetDict, load_dataset

HERE = Path(__file__).resolve().parent
sets = {"train": "train", "validation": "eval"}
files = {name: HERE / "data" / f"{file}.jsonl" for name, file in sets.items()}
read = {name: load_dataset("json", data_files=str(path), split="train") for name, path in files.items() if path.exists()}
# Whole or not at all: tasks of an array, and machines of one run, may all be at this.
made = tempfile.mkdtemp(prefix=".tokenized-", dir=HERE)
DatasetDict(read).save_to_disk(made)
try:
    os.rename(made, HERE / "tokenized")
except OSError:
    shutil.rmtree(made)
    if not (HERE / "tokenized").is_dir():
        raise
