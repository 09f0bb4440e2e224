"""Documents of attention: as they were kept, their tables and charts, and what is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET, structs

from sslcurr.analysis.evaluation.attention import AttentionSettings
from sslcurr.analysis.evaluation.groups import MOST_CHAINS, document_of, remarks_of, subject_of
from sslcurr.analysis.results.attention import tables
from sslcurr.analysis.results.attention.document import AttentionDocument
from sslcurr.analysis.results.kinds import decode
from sslcurr.analysis.results.style import COLOURS
from sslcurr.errors import StoreError
from tests import REPOSITORY

KEPT = [
    REPOSITORY / "tests" / "documents" / "attend.json",
    REPOSITORY / "tests" / "documents" / "0.1.0" / "ham-attention.json",
]


def plain(path: Path = KEPT[0]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    document.pop("files", None)
    return document


def attention(path: Path = KEPT[0], **changes: Any) -> AttentionDocument:
    document = decode("attend", plain(path) | changes)
    assert isinstance(document, AttentionDocument)
    return document


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_documents_come_out_as_they_went_in(path):
    assert json.dumps(attention(path).to_json()) == json.dumps(plain(path))


def test_a_document_that_lacks_a_part_or_has_another_type_is_damaged():
    for name in plain():
        document = plain()
        del document[name]
        with pytest.raises(StoreError, match="kind attend is damaged"):
            decode("attend", document)
    for name in plain()["chains"][0]:
        document = plain()
        del document["chains"][0][name]
        with pytest.raises(StoreError, match=r"kind attend is damaged .*\$\.chains\[0\]"):
            decode("attend", document)
    with pytest.raises(StoreError, match="damaged"):
        attention(chains=[{**plain()["chains"][0], "coverage": "much"}])


def test_fields_say_what_they_hold():
    document = attention()
    (chain,) = document.chains
    assert document.seeds is UNSET  # an older version did not write them
    assert (chain.map_size, chain.seeds) == ((4, 4), [0])
    low, high = chain.attention.interval
    assert low < chain.attention.mean < high
    assert sum(each.num_images for each in chain.classes.values()) == chain.num_images == document.num_images


def test_new_documents_have_the_seeds_of_all_chains():
    settings = AttentionSettings("eigencam", "label")
    chains = [decode_chain(seeds=[3, 0], layer="b"), decode_chain(seeds=[1, 3], layer="a")]
    document = document_of(chains, settings, dataset="d", split="val", masks=None)
    assert (document.seeds, document.layer, document.masks) == ([0, 1, 3], "b, a", "those of the data set")
    assert (document.method, document.target) == ("eigencam", "label")
    assert document_of(chains, settings, dataset="d", split="val", masks=Path("a/b")).masks == "a/b"
    assert list(document.to_json())[-2:] == ["chains", "seeds"]


def decode_chain(**changes: Any):
    (chain,) = attention(chains=[{**plain()["chains"][0], **changes}]).chains
    return chain


def test_coarse_and_undefined_maps_are_remarked():
    fine, coarse = decode_chain(num_undefined=0), decode_chain(num_undefined=2, map_size=[3, 2], seeds=[0, 1])
    assert remarks_of([fine]) == []
    first, second = remarks_of([fine, coarse])
    assert first.startswith("the maps of layer1 have 3 x 2 cells, which is coarse")
    assert second.startswith("2 of 144 maps are zero everywhere")  # of 48 images, at one seed and at two


def test_a_run_of_many_chains_is_called_by_what_was_asked_for():
    assert subject_of(["a", "b"], ["run"]) == "a, b"
    assert subject_of(list("abcde"), ["x", "y"]) == "5 chains of x, y"
    assert subject_of(list("abcd"), ["x"]) == "a, b, c, d"
    assert MOST_CHAINS == 4


def test_classes_of_many_chains_are_left_to_json():
    def titled(number: int) -> list[dict[str, Any]]:
        return [{**plain()["chains"][0], "chain": f"c{n}"} for n in range(number)]

    few, many = attention(chains=titled(tables.MOST_CHAINS)), attention(chains=titled(tables.MOST_CHAINS + 1))
    assert [table.detail for table in few.tables()] == [False] * (1 + tables.MOST_CHAINS)
    assert [table.detail for table in many.tables()] == [False, *([True] * (1 + tables.MOST_CHAINS))]
    assert (few.closing_lines(), many.closing_lines()) == ([], ["By class: --json"])
    one_class = dict(list(plain()["chains"][0]["classes"].items())[:1])
    alone = attention(chains=[{**plain()["chains"][0], "classes": one_class}])
    assert [table.detail for table in alone.tables()] == [False, True]


def test_charts_are_drawn_on_axes_of_ones_own_and_without_maps_not_at_all():
    import matplotlib.figure

    chain = plain()["chains"][0]
    undefined = {"mean": None, "std": None, "interval": None}
    assert attention(chains=[]).figures() == {}
    assert attention(chains=[{**chain, "attention": undefined}]).figures() == {}
    for number in (1, len(COLOURS) + 1):
        chart = attention(chains=[{**chain, "chain": f"c{n}"} for n in range(number)]).figures()["attention"]
        axes = chart.draw(matplotlib.figure.Figure().add_subplot())
        drawn = [line for line in axes.lines if line.get_gid() == "attention"]
        assert len(drawn) == (4 if number == 1 else number)  # all images and three classes; or a row a chain
        assert drawn[0].get_xdata()[0] == pytest.approx(100 * chain["attention"]["mean"])
        assert len(axes.get_yticks()) == len(drawn)


def test_what_intervals_are_over_is_said():
    """Of one seed they are over images only."""
    document = attention()
    chain = document.chains[0]
    one, two = structs.replace(chain, seeds=[0]), structs.replace(chain, seeds=[0, 1])

    def notes(*chains: Any) -> str:
        return " ".join(structs.replace(document, split="test", chains=list(chains)).tables()[0].notes)

    alone = "One seed: intervals are over test images and hold for these models only."
    several = "± is the standard deviation over seeds; intervals are over images and seeds."
    assert alone in notes(one, one)
    assert several in notes(two, two)
    assert "Those of chains of one seed" not in notes(two, two)
    assert f"{several} Those of chains of one seed are over images only, and hold for those models." in notes(one, two)
