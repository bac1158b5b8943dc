"""OIALR as a callback of Hugging Face's Trainer: change-over, cuts, the same numbers resumed, best checkpoint, DDP."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from oialr_hpo.oialr import load_low_rank
from oialr_hpo.oialr.layers import LowRank

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
load_file = pytest.importorskip("safetensors.torch").load_file

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 50}


def build(kind: str = "bert"):
    torch.manual_seed(0)
    if kind == "vit":  # its layers are renamed when it is saved
        small = {key: value for key, value in SMALL.items() if key != "vocab_size"}
        return transformers.ViTForImageClassification(
            transformers.ViTConfig(**small, image_size=8, patch_size=4, num_channels=1, num_labels=3)
        )
    if kind == "bert":
        return transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, num_labels=3))
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=True)
    return transformers.LlamaForCausalLM(config)


def rows(kind: str = "bert") -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    if kind == "vit":
        return [{"pixel_values": torch.randn(1, 8, 8, generator=generator), "labels": i % 3} for i in range(64)]
    tokens = torch.randint(1, 50, (64, 6), generator=generator)
    return [{"input_ids": t, "labels": t if kind == "llama" else (t.sum() % 3)} for t in tokens]


def trainer(path: Path, kind: str = "bert", callback=None, **arguments):
    from oialr_hpo.trainers.huggingface import OIALRCallback

    callback = callback or OIALRCallback(delay=0.25, frequency=2, cutoff=0.6, step_fraction=1.0, max_cut=0.3)
    settings = {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 16, "use_cpu": True,
        "report_to": [], "save_strategy": "steps", "save_steps": 2, "disable_tqdm": True, "learning_rate": 1e-2,
        "logging_steps": 1, "seed": 3, "data_seed": 3, **arguments,
    }  # fmt: skip
    made = transformers.Trainer(
        build(kind),
        transformers.TrainingArguments(path, **settings),
        train_dataset=rows(kind),
        eval_dataset=rows(kind),
        callbacks=[callback],
    )
    return made, callback


def losses(trained) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in trained.state.log_history if "loss" in entry}


def low_rank(network) -> bool:
    return any(isinstance(module, LowRank) for module in network.modules())


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_change_over_cuts_and_merge(tmp_path, kind):
    trained, callback = trainer(tmp_path, kind, save_strategy="no")
    seen = []

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            seen.append((state.global_step, dict(callback.oialr.ranks)))

    trained.add_callback(Watch())
    trained.train()
    assert [bool(ranks) for _, ranks in seen] == [False] * 3 + [True] * 13
    first, last = seen[3][1], seen[-1][1]
    assert all(last[name] < rank for name, rank in first.items() if rank > 3)
    assert callback.oialr.steps == 16 and callback.oialr.updates == 6
    assert not low_rank(trained.model)
    trained.save_model(str(tmp_path / "merged"))
    again = load_low_rank(build(kind), load_file(tmp_path / "merged" / "model.safetensors")).eval()
    batch = torch.stack([row[again.main_input_name] for row in rows(kind)])
    torch.testing.assert_close(again(batch).logits, trained.model.eval()(batch).logits)


@pytest.mark.parametrize("kind", ["bert", "llama", "vit"])
@pytest.mark.parametrize("step", [2, 4, 10])
def test_resumed_to_the_same_numbers(tmp_path, kind, step):
    """From before the change-over, at it, and between two cuts."""
    whole, callback = trainer(tmp_path, kind)
    whole.train()
    ranks = callback.oialr.state_dict()
    again, resumed = trainer(tmp_path, kind)
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert resumed.oialr.state_dict() == ranks and resumed.oialr.steps == 16
    assert losses(again) == losses(whole)
    for (name, one), two in zip(whole.model.named_parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two), name


def test_the_callbacks_own_state_is_restored_where_the_trainer_does_that(tmp_path):
    whole, _ = trainer(tmp_path)
    whole.train()
    again, _ = trainer(tmp_path, restore_callback_states_from_checkpoint=True)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert losses(again) == losses(whole)


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_the_best_checkpoint_is_loaded_with_its_ranks(tmp_path, kind):
    arguments = {
        "load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "low",
        "greater_is_better": True,
    }  # fmt: skip
    trained, callback = trainer(tmp_path, kind, **arguments)
    trained.compute_metrics = lambda _: {"low": 1.0 if callback.oialr.steps == 6 else 0.0}
    trained.train()
    assert trained.state.best_model_checkpoint.endswith("checkpoint-6")
    saved = load_file(tmp_path / "checkpoint-6" / "model.safetensors")
    expected = load_low_rank(build(kind), saved).eval()
    batch = torch.stack([row[expected.main_input_name] for row in rows(kind)])
    assert not low_rank(trained.model) and low_rank(expected)
    torch.testing.assert_close(trained.model.eval()(batch).logits, expected(batch).logits, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_that_the_callback_did_not_see_is_refused(tmp_path):
    whole, callback = trainer(tmp_path)
    whole.train()
    again, _ = trainer(tmp_path, callback=transformers.TrainerCallback())
    again.add_callback(type(callback)(delay=0.25))
    with pytest.raises(ValueError, match="came unseen: give the trainer OIALRCallback when it is made"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))


SCRIPT = """
import sys, torch
import torch.distributed as dist
from tests.integrations.test_huggingface_trainer import losses, low_rank, trainer

out, step = sys.argv[1], sys.argv[2]
trained, callback = trainer(out)
trained.train(resume_from_checkpoint=step if step != "0" else None)
bits = torch.cat([p.detach().flatten() for p in trained.model.parameters()])
first = bits.clone()
dist.broadcast(first, 0)
assert torch.equal(bits, first), "processes differ"
assert dist.get_world_size() == 2 and callback.oialr.updates == 6 and not low_rank(trained.model)
if dist.get_rank() == 0:
    print("numbers", sorted(losses(trained).items()), bits.double().sum().item())
"""


def test_two_processes_agree_and_go_on(tmp_path):
    def run(step: str) -> str:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        file = tmp_path / "script.py"
        file.write_text(SCRIPT)
        done = subprocess.run([*command, str(file), str(tmp_path / "out"), step], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return next(line for line in done.stdout.splitlines() if line.startswith("numbers"))

    whole = run("0")
    assert run(str(tmp_path / "out" / "checkpoint-8")) == whole
