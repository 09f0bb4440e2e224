"""Layers by name, what taps see of them, and folded networks, on timm's networks and on small awkward ones."""

from __future__ import annotations

import copy
import math

import pytest
import timm
import torch
from torch import Tensor, nn

from sslcurr.backbones.build import stage_names
from sslcurr.backbones.fuse import folded
from sslcurr.backbones.layers import POOLED, Taps, layer_names
from sslcurr.errors import SpecError


def network_of(name, seed=0):
    torch.manual_seed(seed)
    return untamed(timm.create_model(name, num_classes=0))


def untamed(network, seed=0):
    """In evaluation mode, with batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    return network.eval()


def images(size=32, n=5, channels=3, seed=0):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def outputs(network, names, x):
    """What hooks that copy see, by name and the number of the call."""
    found = {}

    def see(name, output):
        number = sum(key.partition("#")[0] == name for key in found) + 1
        found[name if number == 1 else f"{name}#{number}"] = output.clone()

    hooks = [
        network.get_submodule(name).register_forward_hook(lambda m, i, output, name=name: see(name, output))
        for name in names
        if name != POOLED
    ]
    with torch.no_grad():
        output = network(x)
    if POOLED in names:
        found[POOLED] = output
    for hook in hooks:
        hook.remove()
    return found


def tapped(network, names, x):
    """What taps show: {name: a copy}, and which were said to be the same as before."""
    found, same = {}, []

    def see(name, output, again):
        assert name not in found
        found[name] = output.clone()
        if again:
            same.append(name)

    with Taps(network, names, see) as taps:
        taps(x)
    return found, same


def equal(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def num_hooks(network):
    return sum(len(module._forward_hooks) for module in network.modules())


# ---- names


@pytest.fixture(scope="module")
def resnet():
    return network_of("resnet18")


def test_names_of_a_resnet(resnet):
    assert layer_names(resnet, "stages") == ["act1", "layer1", "layer2", "layer3", "layer4", "pooled"]
    blocks = [f"layer{stage}.{block}" for stage in (1, 2) for block in (0, 1)]
    found = layer_names(resnet, "blocks")
    assert found[:7] == ["act1", blocks[0], blocks[1], "layer1", blocks[2], blocks[3], "layer2"]
    assert found[-1] == "pooled"
    assert len(found) == 5 + 8 + 1
    everything = layer_names(resnet, "all")
    assert everything[:4] == ["conv1", "bn1", "act1", "maxpool"]
    assert everything[-1] == "pooled"
    assert "layer1.0.bn2" in everything
    assert "layer1.0.drop_block" not in everything
    assert "fc" not in everything  # an Identity, without classes
    assert not {"layer1", "layer1.0"} & set(everything)
    convolutions = [name for name, module in resnet.named_modules() if isinstance(module, nn.Conv2d)]
    assert set(convolutions) < set(everything)
    assert len(set(everything)) == len(everything)


def test_names_of_a_network_with_blocks():
    network = network_of("convnext_atto")
    assert layer_names(network, "stages") == ["stages.0", "stages.1", "stages.2", "stages.3", "pooled"]
    found = layer_names(network, "blocks")
    assert found[:4] == ["stages.0.blocks.0", "stages.0.blocks.1", "stages.0", "stages.1.blocks.0"]
    assert len(found) == 4 + sum(len(stage.blocks) for stage in network.stages) + 1
    assert not any("drop_path" in name for name in layer_names(network, "all"))


def test_what_only_hands_on_is_not_among_all():
    network = timm.create_model("convnext_atto", num_classes=0, drop_path_rate=0.2, drop_rate=0.1).eval()
    kinds = {type(network.get_submodule(name)).__name__ for name in layer_names(network, "all") if name != POOLED}
    assert {"Conv2d", "LayerNorm2d", "GELU"} <= kinds
    assert not {"Identity", "Dropout", "DropPath"} & kinds
    assert "DropPath" in {type(module).__name__ for module in network.modules()}


def test_names_by_a_pattern(resnet):
    assert layer_names(resnet, "layer4") == ["layer4"]
    assert layer_names(resnet, "pooled") == ["pooled"]
    assert layer_names(resnet, "layer4.?") == ["layer4.0", "layer4.1"]
    assert layer_names(resnet, "layer[12].1.conv*") == [f"layer{i}.1.conv{j}" for i in (1, 2) for j in (1, 2)]
    every = layer_names(resnet, "*")
    assert every == [name for name, _ in resnet.named_modules() if name] + ["pooled"]


@pytest.mark.parametrize(("wrong", "near"), [("layer5", "layer4"), ("Layer4", "layer4"), ("pool", "pooled")])
def test_wrong_names_name_near_ones(resnet, wrong, near):
    with pytest.raises(SpecError, match=f"no layer is named '{wrong}'") as caught:
        layer_names(resnet, wrong)
    assert near in caught.value.hint
    assert "layer4.*" in caught.value.hint


def test_a_name_like_none_names_the_stages(resnet):
    with pytest.raises(SpecError) as caught:
        layer_names(resnet, "zzzz*")
    assert "there are act1, layer1, layer2, layer3, layer4, pooled and others" in caught.value.hint


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050", "regnetx_002", "densenet121"])
@pytest.mark.parametrize("which", ["stages", "blocks", "all"])
def test_taps_see_every_layer_of_timms_networks_in_the_order_of_the_names(name, which):
    network = network_of(name)
    wanted = layer_names(network, which)
    found, _ = tapped(network, wanted, images(64, 2))
    seen = [key for key in found if "#" not in key]
    if which == "all":
        assert set(seen) <= set(wanted)
        assert len(seen) > 0.9 * len(wanted)
    else:
        assert seen == wanted


# ---- taps


class InPlace(nn.Module):
    """As torchvision's: the ReLU overwrites what the norm gave, and is used twice."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(6)
        self.last = nn.Identity()

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(x + self.bn2(self.conv2(x)))
        return self.last(x).mean(dim=(2, 3))


@pytest.fixture
def in_place():
    torch.manual_seed(1)
    return untamed(InPlace())


ALL = ["conv1", "bn1", "relu", "conv2", "bn2", "last", "pooled"]


def test_taps_see_what_a_layer_gave_before_the_next_overwrote_it(in_place):
    found, same = tapped(in_place, ALL, images())
    equal(found, outputs(in_place, ALL, images()))
    assert list(found) == ["conv1", "bn1", "relu", "conv2", "bn2", "relu#2", "last", "pooled"]
    assert found["bn1"].min() < 0 <= found["relu"].min()
    assert torch.equal(found["bn1"].relu(), found["relu"])
    assert not torch.equal(found["relu"], found["relu#2"])
    # The norm's tensor is the ReLU's, but changed; what Identity hands on is not.
    assert same == ["last"]


def test_counts_begin_anew_with_every_batch(in_place):
    seen = []
    with Taps(in_place, ["relu", "last"], lambda name, output, again: seen.append((name, again))) as taps:
        taps(images(seed=1))
        taps(images(seed=2))
    assert seen == [("relu", False), ("relu#2", False), ("last", True)] * 2


def test_a_stage_gives_the_very_tensor_of_its_last_block(resnet):
    found, same = tapped(resnet, layer_names(resnet, "blocks"), images(64))
    assert same == ["layer1", "layer2", "layer3", "layer4"]
    assert torch.equal(found["layer2"], found["layer2.1"])


class Twice(nn.Module):
    """One module that changes what it is given and hands it on, several times."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.add = Adding()
        self.same = nn.Identity()

    def forward(self, x):
        x = self.conv(x)
        first = self.same(x)
        assert first is x
        self.add(x)
        self.add(x)
        self.same(x)
        return x.mean(dim=(2, 3))


class Adding(nn.Module):
    def forward(self, x):
        return x.add_(1)


def test_a_tensor_changed_in_place_is_not_the_one_before():
    network = Twice().eval()
    found, same = tapped(network, ["conv", "same", "add"], images())
    assert list(found) == ["conv", "same", "add", "add#2", "same#2"]
    assert same == ["same", "same#2"]
    torch.testing.assert_close(found["add#2"], found["conv"] + 2)


def test_the_same_tensor_after_another_is_not_again():
    class Back(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Identity()

        def forward(self, x):
            one = self.one(x)
            self.two(x)
            return self.three(one)

    assert tapped(Back().eval(), ["one", "two", "three"], images())[1] == []
    # Not tapped is not before.
    assert tapped(Back().eval(), ["one", "three"], images())[1] == ["three"]


def test_a_part_of_the_tensor_before_is_not_that_tensor():
    class Narrow(nn.Module):
        def forward(self, x):
            return x[:, :2]

    network = nn.Sequential(nn.Conv2d(3, 4, 1), Narrow()).eval()
    found, same = tapped(network, ["0", "1"], images())
    assert same == []
    assert torch.equal(found["1"], found["0"][:, :2])


def test_an_equal_tensor_of_another_batch_is_not_again():
    held = torch.zeros(5, 6, 4, 4)

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x):
            return self.layer(held)

    seen = []
    with Taps(Constant(), ["layer"], lambda name, output, again: seen.append(again)) as taps:
        taps(images())
        taps(images())
    assert seen == [False, False]


def test_only_pooled(in_place):
    found, same = tapped(in_place, ["pooled"], images())
    assert list(found) == ["pooled"]
    assert found["pooled"].shape == (5, 6)
    assert same == []


def test_hooks_are_gone_afterwards_and_after_an_error(in_place):
    def fail(name, output, again):
        raise KeyboardInterrupt

    with Taps(in_place, ALL, lambda *seen: None) as taps:
        taps(images())
        assert num_hooks(in_place) == 6
    assert num_hooks(in_place) == 0
    with pytest.raises(KeyboardInterrupt), Taps(in_place, ALL, fail) as taps:
        taps(images())
    assert num_hooks(in_place) == 0
    with taps:
        assert num_hooks(in_place) == 6  # it may be entered again
    assert num_hooks(in_place) == 0


def test_taps_keep_no_graph(in_place):
    grads = []
    with Taps(in_place, ALL, lambda name, output, again: grads.append(output.requires_grad)) as taps:
        taps(images())
    assert grads
    assert not any(grads)


class Pair(nn.Module):
    """A layer that gives two tensors, as DPN's blocks do."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.two = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), Splitting()

    def forward(self, x):
        one, two = self.two(self.bn(self.conv(x)))
        return (one + two).mean(dim=(2, 3))


class Splitting(nn.Module):
    def forward(self, x):
        return x, 2 * x


def test_a_layer_that_gives_no_tensor_is_a_mistake():
    network = Pair().eval()
    with pytest.raises(SpecError, match="the layer two gives no tensor but a tuple"):
        tapped(network, ["bn", "two"], images())
    assert num_hooks(network) == 0


# ---- folding


def fold(network, kept, example):
    """`folded` of copies of a network."""
    return folded(lambda: copy.deepcopy(network), kept, example)


def check_folded(network, names, x, *, folds):
    """A folded copy gives the same at all names; `folds` says how many batch norms are gone."""
    before = copy.deepcopy(network.state_dict())
    made = fold(network, [name for name in names if name != POOLED], torch.randn(2, *x.shape[1:]))
    expected, found = outputs(network, [*names, POOLED], x), outputs(made, [*names, POOLED], x)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert value.abs().max() > 0
        difference = (found[name] - value).abs().max() / value.abs().max()
        assert difference < 1e-5, (name, difference)
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert num_hooks(network) == num_hooks(made) == 0
    assert made is not network
    own = {id(parameter) for parameter in network.parameters()}
    assert not own & {id(parameter) for parameter in made.parameters()}
    norms = [sum(isinstance(module, nn.BatchNorm2d) for module in each.modules()) for each in (network, made)]
    assert norms[0] - norms[1] == folds
    return made


def test_a_resnet_is_folded_whole(resnet):
    made = check_folded(resnet, layer_names(resnet, "blocks"), images(64), folds=20)
    assert made.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_convolutions_that_are_kept_are_not_folded(resnet):
    made = check_folded(resnet, layer_names(resnet, "all"), images(64), folds=0)
    assert made.conv1.bias is None
    check_folded(resnet, ["conv1", "bn1", "layer2.0.conv2"], images(64), folds=18)
    # A norm may go: what stands in its place gives what it gave.
    made = check_folded(resnet, ["bn1", "layer1"], images(64), folds=20)
    assert isinstance(made.bn1, nn.Identity)


@pytest.mark.parametrize(
    ("name", "folds"),
    [("regnetx_002", None), ("convnext_atto", 0), ("densenet121", None), ("mobilenetv3_small_050", None)],
)
def test_timms_other_networks_give_the_same(name, folds):
    network = network_of(name)
    made = fold(network, stage_names(network), images(64, 2))
    norms = [sum(isinstance(module, nn.BatchNorm2d) for module in each.modules()) for each in (network, made)]
    check_folded(network, stage_names(network), images(64), folds=norms[0] - norms[1] if folds is None else folds)


class NormFirst(nn.Module):
    """Norm, ReLU, convolution, as in DenseNet: the norm after a convolution sees more than its output."""

    def __init__(self):
        super().__init__()
        self.conv0 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm1, self.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv0(x)
        y = torch.cat([x, self.conv1(self.norm1(x).relu())], dim=1)
        return self.norm3(self.conv2(self.norm2(y).relu())).mean(dim=(2, 3))


class Skip(nn.Module):
    """The convolution's output goes to the norm, and by another way round it."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return (x + self.bn(x).relu()).mean(dim=(2, 3))


class WeakSkip(Skip):
    """As Skip, with little of it."""

    def forward(self, x):
        x = self.conv(x)
        return (0.01 * x + self.bn(x).relu()).mean(dim=(2, 3))


class Hidden(nn.Module):
    """As Skip, with nothing of it in the network's output but in that of a layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.other = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh()

    def forward(self, x):
        x = self.conv(x)
        out = self.bn(x).mean(dim=(2, 3))
        self.other(x)
        return out


def in_a_row(*layers):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Shared(nn.Module):
    """One convolution before two norms, and one norm after two convolutions."""

    def __init__(self, order):
        super().__init__()
        self.order = order
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.m, self.n = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        for name in self.order:
            x = getattr(self, name)(x)
        return x.mean(dim=(2, 3))


class Between(nn.Module):
    """Something that is no module happens between convolution and norm."""

    def __init__(self, change):
        super().__init__()
        self.conv, self.bn, self.change = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), change

    def forward(self, x):
        x = self.conv(x)
        y = self.change(x)
        return self.bn(y).mean(dim=(2, 3))


class Resting(nn.BatchNorm2d):
    """A norm of another kind."""

    def forward(self, x):
        return super().forward(x).relu()


@pytest.mark.parametrize(
    ("network", "names", "folds"),
    [
        (NormFirst(), ["norm1", "norm2", "norm3"], 0),  # one of the pairs is wrong, so none is folded
        (Skip(), [], 0),
        (WeakSkip(), [], 0),
        (Hidden(), ["other"], 0),
        (Hidden(), [], 1),
        (in_a_row(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU()), ["1", "2"], 1),
        (in_a_row(nn.Conv2d(3, 6, 3, groups=3, bias=False), nn.BatchNorm2d(6, eps=0.1), nn.ReLU6()), ["2"], 1),
        (in_a_row(nn.Conv2d(3, 3, 3, groups=3, stride=2), nn.BatchNorm2d(3)), [], 1),
        (in_a_row(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), ["0"], 0),
        (in_a_row(nn.Conv2d(3, 4, 3), nn.Identity(), nn.BatchNorm2d(4)), ["0"], 0),
        (in_a_row(nn.Conv2d(3, 4, 3), nn.ReLU()), ["1"], 0),
        (in_a_row(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4)), ["1"], 1),
        (in_a_row(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)), ["1"], 1),
        (in_a_row(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)), ["0"], 0),
        (in_a_row(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), ["1", "2"], 1),
        (in_a_row(nn.Conv2d(3, 4, 3), Resting(4)), ["1"], 0),
        (in_a_row(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), ["1"], 0),
        (Shared("ambn"), ["m", "n"], 2),
        (Shared("aman"), ["m", "n"], 0),
        (Shared("ambm"), ["m"], 0),
        (Shared("ama"), ["m"], 0),
        (Between(torch.relu), ["bn"], 0),
        (Between(lambda x: x.mul_(2)), ["bn"], 0),
        (Between(lambda x: x), ["bn"], 1),
    ],
    ids=str,
)
def test_folded_gives_the_same(network, names, folds):
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    network = untamed(copy.deepcopy(network), 4)
    check_folded(network, names, images(16), folds=folds)


def test_folding_of_a_network_with_two_tensors_is_left_to_the_taps():
    made = fold(Pair().eval(), ["two"], images(16))
    with pytest.raises(SpecError, match="the layer two gives no tensor but a tuple"):
        tapped(made, ["two"], images(16))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_damaged_weights_give_what_the_network_gives(wrong):
    network = untamed(in_a_row(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    with torch.no_grad():
        network[1].weight[2] = wrong
    made = fold(network, ["1", "2"], images(16))
    expected, found = (outputs(each, ["1", "2", POOLED], images(16)) for each in (network, made))
    assert not torch.isfinite(expected["1"]).all()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, equal_nan=True)
    assert isinstance(made[1], nn.BatchNorm2d)


def test_a_network_that_fails_loses_its_hooks():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.conv(x)
            raise ValueError("broken")

    network = Broken().eval()
    with pytest.raises(ValueError, match="broken"):
        folded(lambda: network, [], images(16))
    assert num_hooks(network) == 0


@pytest.mark.parametrize(
    ("kept", "passes"),
    [(["0", "1", "2"], 0), (["0", "2"], 0), (["0"], 1), ([], 3)],
    ids=["all", "convolutions", "no norm follows", "none"],
)
def test_a_network_in_which_nothing_can_be_folded_is_not_tried(kept, passes):
    network = untamed(in_a_row(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)))
    calls = []

    def made():
        copied = copy.deepcopy(network)
        copied[0].register_forward_hook(lambda m, i, output: calls.append(output.shape))
        return copied

    found = folded(made, kept, images(16))
    assert len(calls) == passes
    assert found[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert isinstance(found[1], nn.Identity) == (kept == [])
