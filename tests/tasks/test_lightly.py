"""Where lightly's losses and heads are used, and that the reasons for leaving the others out hold (architecture.md)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sslcurr.tasks import task_class
from sslcurr.tasks.base import Facts
from sslcurr.tasks.embedding import projector
from sslcurr.tasks.swav import sinkhorn
from tests.tasks.test_tasks import Pixels


def test_the_head_of_mocov2_is_that_of_lightly_under_the_names_that_saved_states_have():
    from lightly.models.modules.heads import MoCoProjectionHead

    kind = task_class("mocov2")
    config = kind.Config(image_size=4, dim=8, queue_length=16)
    torch.manual_seed(0)
    task = kind(Pixels(4), 16, Facts(num_images=40), config)
    assert [name for name, _ in task.head.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    torch.manual_seed(0)
    Pixels(4)
    theirs, x = MoCoProjectionHead(16, 16, 8), torch.randn(5, 16)
    assert torch.equal(task.head(x), theirs(x))


@pytest.mark.parametrize(
    ("head", "ours"),
    [
        ("SimCLRProjectionHead", lambda: projector(6, 5, 4, last_norm=True)),
        ("BYOLProjectionHead", lambda: projector(6, 5, 4)),
        ("SwaVProjectionHead", lambda: projector(6, 5, 4)),
        ("SimSiamPredictionHead", lambda: projector(6, 5, 4)),
        ("SimSiamProjectionHead", lambda: projector(6, 5, 5, 4, last_norm=True, affine=False)),
        ("BarlowTwinsProjectionHead", lambda: projector(6, 5, 5, 4)),
        ("VICRegProjectionHead", lambda: projector(6, 5, 5, 4)),
    ],
)
def test_other_heads_differ_by_the_biases_before_their_batch_norms(head, ours):
    from lightly.models.modules import heads

    theirs, mine = getattr(heads, head)(6, 5, 4).layers, ours()
    shapes = [{name: value.shape for name, value in each.state_dict().items()} for each in (theirs, mine)]
    missing = {name for name in shapes[1] if name not in shapes[0]}
    assert missing
    norms = {str(i + 1) for i, layer in enumerate(mine[1:]) if isinstance(layer, nn.BatchNorm1d)}
    assert missing <= {f"{int(place) - 1}.bias" for place in norms}
    # The function is the same: a batch norm takes off what a bias adds.
    theirs.load_state_dict({name: value for name, value in mine.state_dict().items() if name in shapes[0]})
    x = torch.randn(7, 6)
    torch.testing.assert_close(theirs(x), mine(x), rtol=1e-4, atol=1e-5)


def test_the_bank_of_lightly_is_not_saved_and_moves_in_the_loss():
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=0.2, memory_bank_size=(16, 8))
    assert not loss.state_dict()
    before = loss.memory_bank.bank.clone()
    loss(torch.randn(6, 8, requires_grad=True), torch.randn(6, 8))
    assert not torch.equal(loss.memory_bank.bank, before)


def test_the_codes_of_lightly_overflow_at_the_epsilon_for_small_data():
    from lightly.loss.swav_loss import sinkhorn as theirs

    epsilon = task_class("swav").recipe(Facts(num_images=2500)).config.epsilon
    scores = torch.tensor([[1.0, 0.2], [0.9, -0.3]])
    assert torch.isnan(theirs(scores, 3, epsilon)).any()
    assert torch.isfinite(sinkhorn(scores, epsilon, 3)).all()


def test_the_centre_of_lightly_moves_in_the_loss():
    from lightly.loss import DINOLoss

    loss = DINOLoss(output_dim=8)
    teacher, student = (list(F.normalize(torch.randn(2, 6, 8), dim=2)) for _ in range(2))
    loss(teacher, student)
    assert loss.center.abs().sum() > 0
