"""Sentences per second of `fit`, against a plain loop with `transformers` that pads to the batch's longest.

Same encoder (the size of MiniLM-L6, random weights), optimizer, batch size and thread count. Sentences are made up;
their lengths have the distribution of SST-2's: a median of 22 tokens and a 95th percentile of 45.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import row

SENTENCES, HELD_OUT, BATCH, EPOCHS, WORDS = 400, 0.2, 32, 3, 2000
MEDIAN, SPREAD = 20, 0.48  # of a lognormal count of words
CONFIG: dict[str, Any] = {
    "vocab_size": WORDS + 5, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
    "intermediate_size": 1536, "max_position_embeddings": 512,
}  # fmt: skip


def measure(folder: Path) -> dict[str, Any]:
    write_encoder(folder / "encoder")
    write_sentences(folder / "texts.csv")
    theirs_and_ours = zip(transformers_epochs(folder), effxfer_epochs(folder), strict=True)
    theirs, ours = zip(*theirs_and_ours, strict=True)
    # The first epoch warms both up.
    return row("fit, texts", ours[1:], "transformers loop", theirs[1:], "sentences/s", "at least 1.2")


def write_encoder(folder: Path) -> None:
    """Write a BERT of random weights, and a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig(**CONFIG)).save_pretrained(folder)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(WORDS))]
    tokenizer = Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(names[:5])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))


def write_sentences(file: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.normal(np.log(MEDIAN), SPREAD, SENTENCES)).clip(2, 100).astype(int)
    lines = [" ".join(f"w{word}" for word in rng.integers(WORDS, size=length)) for length in lengths]
    file.write_text("text,label\n" + "\n".join(f"{line},{number % 2}" for number, line in enumerate(lines)) + "\n")


def effxfer_epochs(folder: Path) -> Iterator[float]:
    """Give the sentences per second of each epoch of `fit`; texts were tokenized before."""
    from effxfer.data.load import load
    from effxfer.data.settings import DataSettings
    from effxfer.model_source import open_model
    from effxfer.net.heads.head_edits import set_head
    from effxfer.net.settings import BackboneSettings
    from effxfer.train.devices import pick_device
    from effxfer.train.fit import fit
    from effxfer.train.settings import FitSettings
    from effxfer.transfer.fine_tuning.full import Full

    net, _ = open_model(BackboneSettings(source=f"hf:{folder / 'encoder'}", size=128))
    settings = DataSettings(source=str(folder / "texts.csv"), val_fraction=HELD_OUT / 2, test_fraction=HELD_OUT / 2)
    task = load(settings, net.input, cache=folder / "cache")
    set_head(net, spec={}, features=CONFIG["hidden_size"], classes=task.classes)
    strategy = Full(batch=BATCH)
    learner = strategy.prepare(net, [task])
    epochs = strategy.draw(learner, [task], torch.device("cpu"))
    for _ in range(EPOCHS):
        began = time.perf_counter()
        fit(learner, epochs, strategy.loss, FitSettings(epochs=1), device=pick_device("cpu"), seed=0)
        yield len(task.train.labels) / (time.perf_counter() - began)


def transformers_epochs(folder: Path) -> Iterator[float]:
    """Give the sentences per second of each epoch of the loop of the course of Hugging Face."""
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedTokenizerFast

    make: Any = PreTrainedTokenizerFast  # is not typed
    tokenizer = make(tokenizer_file=str(folder / "encoder/tokenizer.json"), pad_token="[PAD]")
    net = AutoModelForSequenceClassification.from_pretrained(folder / "encoder", num_labels=2).train()
    lines = [line.rsplit(",", 1) for line in (folder / "texts.csv").read_text().splitlines()[1:]]
    # As many as effxfer trains on; which ones does not matter to the time.
    examples: Any = [
        {**tokenizer(text), "labels": int(label)} for text, label in lines[: round(SENTENCES * (1 - HELD_OUT))]
    ]
    loader: Any = torch.utils.data.DataLoader(
        examples, BATCH, shuffle=True, collate_fn=DataCollatorWithPadding(tokenizer)
    )  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4)
    for _ in range(EPOCHS):
        began = time.perf_counter()
        for batch in loader:
            optimizer.zero_grad()
            net(**batch).loss.backward()
            optimizer.step()
        yield len(examples) / (time.perf_counter() - began)
