"""What a command does that names no data set."""

from __future__ import annotations

from sslcurr.engine.demo import BACKBONE, EPOCHS, LABEL_FRACTION, demonstration
from sslcurr.spec.request import Request
from sslcurr.spec.target import TARGET


def test_what_is_not_said_is_small_and_what_is_said_stays():
    found = demonstration(Request(), ["mocov2", TARGET])
    assert (found.backbone, found.label_fraction) == (BACKBONE, LABEL_FRACTION)
    assert found.settings == (f"mocov2.epochs={EPOCHS}", "classification.epochs=40", "classification.batch_size=16")
    asked = Request(backbone="resnet18", label_fraction=0.5, settings=("mocov2.epochs=3",), batch_size=64)
    found = demonstration(asked, ["mocov2", "swav", TARGET])
    assert (found.backbone, found.label_fraction, found.batch_size) == ("resnet18", 0.5, 64)
    assert found.settings == ("mocov2.epochs=3", f"swav.epochs={EPOCHS}", "classification.epochs=40")
    assert demonstration(Request(epochs=1, batch_size=4), ["mocov2", TARGET]).settings == ()


def test_a_command_without_a_data_set_says_what_it_takes(sslcurr):
    result = sslcurr("chain", "rotation", "--dry-run")
    assert "no --dataset: clothes that come with sslcurr, 8% of their labels" in " ".join(result.stderr.split())
    assert "backbone test_resnet" in " ".join(result.stdout.split())
    named = sslcurr("chain", "rotation", "--dry-run", "--dataset", "fashion")
    assert "no --dataset" not in named.stderr
    assert "backbone resnet18" in " ".join(named.stdout.split())
