"""Networks of Hugging Face: trained by its Trainer, saved and loaded by its own functions and by OIALR's."""

import pytest
import torch

from oialr_hpo.oialr import OIALR, load_low_rank
from oialr_hpo.oialr.layers import LowRank

transformers = pytest.importorskip("transformers")
load_file = pytest.importorskip("safetensors.torch").load_file

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 50}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SMALL, num_labels=3),
    "llama": lambda: transformers.LlamaConfig(**SMALL, num_key_value_heads=2, num_labels=3, pad_token_id=0),
    "vit": lambda: transformers.ViTConfig(
        **{k: v for k, v in SMALL.items() if k != "vocab_size"}, image_size=16, patch_size=8, num_labels=3
    ),
}
AUTO = {"vit": "AutoModelForImageClassification"}


def build(name: str):
    torch.manual_seed(0)
    auto = getattr(transformers, AUTO.get(name, "AutoModelForSequenceClassification"))
    return auto, auto.from_config(CONFIGS[name]())


def batch(name: str, rows: int = 8) -> dict:
    labels = torch.arange(rows) % 3
    if name == "vit":
        return {"pixel_values": torch.randn(rows, 3, 16, 16), "labels": labels}
    return {"input_ids": torch.randint(1, 50, (rows, 6)), "labels": labels}


def cut(name: str, cutoff: float):
    _, model = build(name)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    oialr = OIALR(model, optimizer, delay=1, frequency=1, cutoff=cutoff, step_fraction=1)
    for _ in range(3):
        optimizer.zero_grad()
        model(**batch(name)).loss.backward()
        optimizer.step()
        oialr.step()
    return model.eval(), oialr


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("renamed", [False, True])
def test_what_save_pretrained_writes_is_loaded(tmp_path, name, merged, renamed):
    """Low-rank or merged, `load_low_rank` gives a network made from the saved configuration the shapes of the file.

    In the hub's format, the default, a ViT's layers are renamed.
    """
    model, oialr = cut(name, 0.6)
    if merged:
        oialr.merge()
    inputs = batch(name)
    expected = model(**inputs).logits
    model.save_pretrained(tmp_path, save_original_format=renamed)
    saved = load_file(tmp_path / "model.safetensors")
    assert any(key.startswith("vit.encoder.layer.0.attention.attention.query.") for key in saved) == (
        renamed and name == "vit"
    )
    loaded = build(name)[0].from_config(transformers.AutoConfig.from_pretrained(tmp_path))
    load_low_rank(loaded, saved)
    torch.testing.assert_close(loaded.eval()(**inputs).logits, expected)


def test_one_that_came_by_from_pretrained_is_saved_and_loaded_too(tmp_path):
    build("vit")[1].save_pretrained(tmp_path / "dense")
    model = build("vit")[0].from_pretrained(tmp_path / "dense")
    OIALR(model, None, delay=0, frequency=1)
    model.eval().save_pretrained(tmp_path / "low_rank")
    loaded = build("vit")[0].from_pretrained(tmp_path / "dense")
    load_low_rank(loaded, load_file(tmp_path / "low_rank" / "model.safetensors"))
    inputs = batch("vit")
    torch.testing.assert_close(loaded.eval()(**inputs).logits, model(**inputs).logits)


def test_weights_that_are_split_when_saved_are_refused_with_the_remedy(tmp_path):
    config = transformers.MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=2)
    model = transformers.MixtralForCausalLM(config)
    OIALR(model, None, delay=0, frequency=1)
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="splits weights of this network when it saves them; save it by"):
        load_low_rank(transformers.MixtralForCausalLM(config), load_file(tmp_path / "model.safetensors"))
    model.save_pretrained(tmp_path, save_original_format=False)
    load_low_rank(transformers.MixtralForCausalLM(config), load_file(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_merged_into_dense_layers_comes_back_by_from_pretrained(tmp_path, name):
    model, oialr = cut(name, 0.0)  # full rank: `merge` makes dense layers
    oialr.merge()
    inputs = batch(name)
    model.save_pretrained(tmp_path)
    loaded = build(name)[0].from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-5)


def test_inside_the_trainer(tmp_path):
    pytest.importorskip("accelerate")
    _, model = build("bert")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    oialr = OIALR(model, optimizer, delay=3, frequency=2, cutoff=0.3, step_fraction=1)

    class Step(transformers.TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            oialr.step()

    rows = [{k: v[0] for k, v in batch("bert", 1).items()} for _ in range(64)]
    arguments = transformers.TrainingArguments(
        tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=8, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    transformers.Trainer(model, arguments, train_dataset=rows, optimizers=(optimizer, None), callbacks=[Step()]).train()
    assert oialr.steps == 8 and oialr.updates == 3
    assert all(module.sigma in optimizer.state for module in model.modules() if isinstance(module, LowRank))
