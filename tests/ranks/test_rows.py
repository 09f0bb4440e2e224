"""Which rows of a batch a rank has, without other processes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from sslcurr.data.views.draw import draw_parameters, make_views
from sslcurr.data.views.view import View
from sslcurr.engine.ranks import Ranks, parts
from sslcurr.world import ALONE


@pytest.fixture
def rank_of(monkeypatch):
    def made(rank, size, whole):
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda: size)
        return Ranks(whole)

    return made


@pytest.mark.parametrize(("count", "size"), [(7, 2), (7, 3), (8, 4), (5, 5), (256, 3)])
def test_parts_follow_one_another_and_differ_by_one_at_most(count, size):
    found = parts(count, size)
    assert [number for part in found for number in range(part.start, part.stop)] == list(range(count))
    sizes = [part.stop - part.start for part in found]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("dim", [0, 2])
def test_rows_are_those_of_each_crop(rank_of, dim):
    whole = torch.arange(2 * 7 * 3).view(14, 3) if dim == 0 else torch.arange(2 * 9 * 7).view(2, 9, 7)
    for rank in range(3):
        ranks = rank_of(rank, 3, 7)
        own = ranks.rows(whole, dim)
        if dim == 0:
            expected = torch.cat([whole[crop * 7 : (crop + 1) * 7][ranks.own] for crop in range(2)])
        else:
            expected = whole[:, :, ranks.own]
        assert torch.equal(own, expected)
        assert ranks.total(len(own) if dim == 0 else ranks.num_own) == (14 if dim == 0 else 7)


def test_numbers_drawn_for_an_image_do_not_depend_on_the_ranks(rank_of):
    def draw(count):
        return torch.rand(count, 2)

    torch.manual_seed(0)
    alone = ALONE.drawn(14, draw)
    for rank in range(3):
        torch.manual_seed(0)
        ranks = rank_of(rank, 3, 7)
        assert torch.equal(ranks.drawn(2 * ranks.num_own, draw), ranks.rows(alone))


@pytest.mark.parametrize(("whole", "groups"), [(11, 4), (12, 3), (7, 7), (11, 2)])
def test_rows_go_to_the_groups_of_one_process_and_back(rank_of, monkeypatch, whole, groups):
    order = torch.randperm(whole, generator=torch.Generator().manual_seed(0))
    images = torch.arange(whole).double() * 10
    sent = {}

    def exchange(received, rows, counts, splits):
        sent[here] = rows.split(splits)
        if len(sent) == 3:
            received.copy_(torch.cat([sent[source][here] for source in range(3)]))
            assert [len(sent[source][here]) for source in range(3)] == counts

    monkeypatch.setattr(dist, "all_to_all_single", exchange)
    monkeypatch.setattr(Ranks, "gather", lambda self, x: images)
    for here in (0, 1, 2):  # all send before the first receives
        rank_of(here, 3, whole).of_groups(rank_of(here, 3, whole).rows(images), order, groups)
    held = []
    for here in (0, 1, 2):
        ranks = rank_of(here, 3, whole)
        held.append(ranks.of_groups(ranks.rows(images), order, groups))
    if groups < 3:  # each rank computes all of them
        assert all(torch.equal(rows, images[order]) and count == groups for rows, count in held)
    else:
        assert torch.equal(torch.cat([rows for rows, _ in held]), images[order])
        assert sum(count for _, count in held) == groups
    sent.clear()
    for here in (0, 1, 2):
        rank_of(here, 3, whole).from_groups(held[here][0], order, groups)
    for here in (0, 1, 2):
        ranks = rank_of(here, 3, whole)
        assert torch.equal(ranks.from_groups(held[here][0], order, groups), ranks.rows(images))


def test_views_of_some_images_are_those_of_the_whole_batch():
    images = torch.randint(0, 256, (7, 3, 20, 20), dtype=torch.uint8)
    sides = torch.full((7,), 20)
    view = View(size=12, count=2, jitter=0.8, blur=0.5, rotation=20.0, horizontal_flip=0.5)
    plain = {"mean": (0.5,) * 3, "std": (0.2,) * 3, "channels": 3}
    (whole,) = make_views(images, sides, sides, [view], torch.Generator().manual_seed(1), **plain)
    for own in parts(7, 3):
        generator = torch.Generator().manual_seed(1)
        (mine,) = make_views(images[own], sides, sides, [view], generator, own=own, **plain)
        expected = torch.cat([crop[own] for crop in whole.chunk(2)])
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-5)
    drawn = draw_parameters(view, sides, sides, 3, torch.Generator().manual_seed(1))
    assert drawn.of(slice(0, 7), 2) is drawn


def test_a_training_alone_knows_nothing_of_other_processes():
    code = "import sys, sslcurr.engine.train; print('sslcurr.engine.ranks' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False"]
