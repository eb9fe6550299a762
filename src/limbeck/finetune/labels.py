"""Giving a class-conditional DiT the class table of another dataset."""

from collections.abc import Mapping, Sequence

import torch
from diffusers import DiTTransformer2DModel
from diffusers.models.embeddings import LabelEmbedding
from torch import nn

from limbeck.seeds import torch_generator

STD = 0.02  # of a DiT's class embeddings at the start of its training


@torch.no_grad()
def relabel(model: DiTTransformer2DModel, classes: Sequence[str], known: Mapping[str, int], seed: int) -> int:
    """Exchange every block's class table for one of ``classes``; returns how many of them the model knew.

    A class that the model knows by name keeps its embedding, and so does the null class. The others start from the null class's,
    plus N(0, 0.02²) to tell them apart.
    """
    null, generator = model.config.num_embeds_ada_norm, torch_generator(seed, "finetune.labels")
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, LabelEmbedding):
                setattr(module, name, _exchanged(child, classes, known, null, generator))
    model.register_to_config(num_embeds_ada_norm=len(classes))
    return sum(name in known for name in classes)


def _exchanged(
    embedding: LabelEmbedding, classes: Sequence[str], known: Mapping[str, int], null: int, generator: torch.Generator
) -> LabelEmbedding:
    old: nn.Embedding = embedding.embedding_table
    new = LabelEmbedding(len(classes), old.embedding_dim, embedding.dropout_prob).to(old.weight.device)
    table = new.embedding_table.weight
    table.copy_(old.weight[null] + STD * torch.randn(table.shape, generator=generator).to(table.device))
    for row, name in enumerate(classes):
        if name in known:
            table[row] = old.weight[known[name]]
    table[len(classes)] = old.weight[null]
    return new.eval()
