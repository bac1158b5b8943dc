"""OIALR in Hugging Face's Trainer: a callback; the network, the data and the Trainer are as always.

    python examples/huggingface_trainer.py 12    # epochs; needs: pip install "oialr_hpo[huggingface]"

A small vision transformer learns scikit-learn's handwritten digits; nothing is downloaded. Checkpoints, resuming, the
best model at the end, several processes, and the same for Lightning: docs/library.md.
"""

import sys
from typing import Any

import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.utils import shuffle
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from oialr_hpo import load_low_rank
from oialr_hpo.trainers.huggingface import OIALRCallback

CONFIG = ViTConfig(
    image_size=8, patch_size=2, num_channels=1, num_labels=10,
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
)  # fmt: skip


def rows() -> list[dict[str, Any]]:
    images, labels = shuffle(*load_digits(return_X_y=True), random_state=0)
    pixels = torch.tensor(images / 8 - 1, dtype=torch.float32).view(-1, 1, 8, 8)
    return [{"pixel_values": image, "labels": int(label)} for image, label in zip(pixels, labels, strict=True)]


def main(epochs: int) -> None:
    data, callback = rows(), OIALRCallback(delay=0.33, cutoff=0.1)
    trainer = Trainer(
        ViTForImageClassification(CONFIG),
        TrainingArguments(
            "runs/huggingface",
            num_train_epochs=epochs,
            per_device_train_batch_size=32,
            learning_rate=3e-3,
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=data[:1400],
        eval_dataset=data[1400:],
        compute_metrics=lambda seen: {"accuracy": float((seen.predictions.argmax(-1) == seen.label_ids).mean())},
        callbacks=[callback],
    )
    trainer.train()
    assert callback.oialr is not None
    print(callback.oialr.report)

    # merged: plain layers, two thin ones where that is cheaper
    trainer.save_model("runs/huggingface")
    again = load_low_rank(ViTForImageClassification(CONFIG), load_file("runs/huggingface/model.safetensors"))
    images = torch.stack([row["pixel_values"] for row in data[1400:]])
    labels = torch.tensor([row["labels"] for row in data[1400:]])
    with torch.no_grad():
        accuracy = (again.eval()(images).logits.argmax(-1) == labels).float().mean()
    print(f"loaded again: accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main(epochs=int(sys.argv[1]))
