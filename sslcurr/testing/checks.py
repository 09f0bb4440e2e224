"""The checks of the conformance suite.

Each is a function of a `Subject` that returns, or raises AssertionError with what is wrong; one that cannot be made
here raises unittest.SkipTest, which pytest understands. Its docstring says what must hold.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sslcurr.data.order import num_steps
from sslcurr.engine import loop, train
from sslcurr.engine.device import SLOWEST_BF16, bf16_slowdown, placement
from sslcurr.engine.selection import Selection
from sslcurr.engine.step import add_gradients
from sslcurr.engine.store import Stage, Store
from sslcurr.integrity import read_rows
from sslcurr.progress import Reporter
from sslcurr.spec.stage import key_of, stage_from_dict, to_dict
from sslcurr.tasks.base import Batch, Facts, Loss, Task, Tick
from sslcurr.testing.subject import EPOCHS, IMAGE_SIZES, Subject

# The environment variable that makes a check write a task's golden curve instead of comparing with it.
WRITE_GOLDEN = "SSLCURR_WRITE_GOLDEN"

CHECKS: dict[str, Callable[[Subject], None]] = {}
"""The checks by name; the docstring of each says what must hold."""


def register(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
    """Enter a function among the checks."""
    CHECKS[function.__name__] = function
    return function


def expect(holds: object, message: str) -> None:
    """Raise AssertionError with a message unless something holds."""
    if not holds:
        raise AssertionError(message)


# ---- what a task says of itself


@register
def it_says_what_it_is(subject: Subject) -> None:
    """It has a name, a version from 1, a summary of a line, a page that describes it, and a frozen Config."""
    kind = subject.kind
    expect(kind.name == subject.task, f"the class calls itself {kind.name!r}, not {subject.task!r}")
    expect(isinstance(kind.version, int) and kind.version >= 1, f"version is {kind.version!r}, not 1 or more")
    expect(0 < len(kind.summary) < 70, f"the summary has {len(kind.summary)} characters, not 1 to 69")
    expect("\n" not in kind.summary, "the summary has several lines")
    expect(kind.paper.startswith("https://"), f"paper is {kind.paper!r}, no address that begins with https://")
    expect(inspect.getdoc(kind), "the class has no docstring")
    expect(dataclasses.is_dataclass(kind.Config), "Config is no dataclass")
    config = kind.Config()
    expect(hasattr(config, "image_size"), "Config has no image_size: derive it from ViewConfig")
    with _raises(dataclasses.FrozenInstanceError, "Config can be changed: make it @dataclass(frozen=True)"):
        config.image_size = 1


@register
def its_settings_survive_the_store(subject: Subject) -> None:
    """A stage that is written as JSON and read again is the same stage, with the same key."""
    try:
        json.dumps(dataclasses.asdict(subject.kind.Config()), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"Config has values that JSON cannot hold: {error}") from error
    spec = subject.stage()
    again = stage_from_dict(json.loads(json.dumps(to_dict(spec), allow_nan=False)))
    expect(key_of(again) == key_of(spec), "the key is another: Config has values that JSON does not keep")
    config = subject.kind.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in again.config.items()})
    same = config == subject.kind.Config(**spec.config)
    expect(same, "a setting is not the same: give numbers, words, or tuples of them")


@register
def recipes_fit_any_size_of_data(subject: Subject) -> None:
    """The recipe gives settings and views for 4 to 1.3 million images, and keeps to the requested batch size."""
    kind = subject.kind
    for num_images in (4, 37, 300, 5_000, 100_000, 1_281_167):
        for batch_size in (None, 4, 512):
            facts = Facts(
                num_images=num_images,
                class_counts=(num_images // 2, num_images - num_images // 2),
                image_size=64,
                batch_size=batch_size,
            )
            recipe, where = kind.recipe(facts), f"for {num_images:,} images, batch size {batch_size or 'left to it'}"
            training = recipe.training
            expect(training.batch_size == (batch_size or training.batch_size), f"another batch size {where}")
            fits = training.batch_size <= max(4, num_images) or batch_size
            expect(fits, f"a batch has more images than there are {where}")
            queue = getattr(recipe.config, "queue_length", 0)
            expect(queue <= max(16, num_images // 2), f"the queue holds {queue:,} {where}")
            expect(kind.views(recipe.config), f"no views {where}")


@register
def its_pictures_are_of_every_image(subject: Subject) -> None:
    """`pictures` gives titled tensors with an image for each of the batch, for `sslcurr tasks show --out`."""
    spec = subject.stage()
    batch = subject.batch(spec, 5)
    shown = subject.module(spec).pictures(batch)
    expect(shown, "pictures() gives nothing")
    for title, images in shown.items():
        shape = tuple(images.shape)
        expect(len(shape) == 4 and shape[0] == 5, f"the picture {title!r} is {shape}, not [5, channels, height, width]")


# ---- state


@register
def loss_changes_no_state(subject: Subject) -> None:
    """`loss` changes no state but the running statistics of batch norms: memories change in `after_step`."""
    spec = subject.stage()
    module = subject.module(spec)
    statistics = {
        f"{name}.{buffer}"
        for name, part in module.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm)
        for buffer in ("running_mean", "running_var", "num_batches_tracked")
    }
    batch = subject.batch(spec)
    for step in (0, 30):  # in the frozen epochs and after them, queues in use
        tick = Tick(step, 60, 6)
        module.before_step(tick)
        before = {k: v.clone() for k, v in module.state_dict().items()}
        module.loss(batch, tick)
        changed = {k for k, v in module.state_dict().items() if not v.equal(before[k])} - statistics
        expect(not changed, f"loss() changed {', '.join(sorted(changed))} at step {step}: do that in after_step")


@register
def all_state_is_in_the_state_dict(subject: Subject) -> None:
    """Tensors are parameters or persistent buffers, so that a resume is exact."""
    for path, part in subject.module(subject.stage()).named_modules():
        where = path or subject.kind.__name__
        passing = part._non_persistent_buffers_set
        expect(not passing, f"{where} has buffers that are not saved: {', '.join(sorted(passing))}")
        loose = [name for name, value in vars(part).items() if isinstance(value, Tensor)]
        expect(not loose, f"{where} holds plain tensors ({', '.join(loose)}): use register_buffer")


@register
def nothing_but_the_tick_tells_the_time(subject: Subject) -> None:
    """The same step twice from the same state gives the same loss after it: a task does not count for itself."""
    spec = subject.stage()
    losses = []
    for _ in range(2):
        module = subject.module(spec)
        batch, tick = subject.batch(spec), Tick(3, 60, 6)
        torch.manual_seed(0)
        out = module.loss(batch, tick)
        module.after_step(batch, out, tick)
        losses.append(module.loss(batch, Tick(4, 60, 6)).value.item())
    expect(losses[0] == losses[1], f"the loss after the same step was {losses[0]}, then {losses[1]}")


@register
def killed_anywhere_and_run_again_equals_uninterrupted(subject: Subject) -> None:
    """A training that is killed at any place and begun again ends with the same log and weights, to the bit."""
    spec, runtime = subject.stage(), {"save_steps": 2, "log_steps": 1}
    whole = subject.train(spec, "whole", **runtime)
    steps = num_steps(whole.record.num_images, spec.training.batch_size)
    # In the middle of an epoch, in the step after a save, at the very end of an epoch, and just before the weights.
    for target, name, call in (
        (train, "one_step", 4),
        (train, "one_step", 2),
        (loop.Loop, "epoch_done", 1),
        (train, "finish", 1),
    ):
        killed = patch.object(target, name, killed_at(getattr(target, name), call))
        with killed, _raises(KeyboardInterrupt, f"{name} was never called {call} times"):
            subject.train(spec, "killed", **runtime)
        expect(Store(subject.folder / "killed").all() == [], f"killed in {name}, the stage counts as finished")
    again = subject.train(spec, "killed", **runtime)
    _expect_same_stage(again, whole)
    rows = len(log_rows(whole))
    expect(rows == whole.record.steps <= EPOCHS * steps, f"{rows} rows of {whole.record.steps} steps")
    expect(not (again.folder / "resume.pt").exists(), "the state to resume from is left behind")


# ---- training


@register
def every_size_of_batch_gives_a_finite_loss_and_gradients(subject: Subject) -> None:
    """Of 2, 3, 12 and 33 images: the loss is finite, every weight of the backbone has a finite gradient, and what
    `keep` holds has a row for each image."""
    spec = subject.stage()
    for size in (2, 3, 12, 33):
        module = subject.module(spec)
        tick = Tick(30, 60, 6)
        batch = subject.batch(spec, size)
        out = module.loss(batch, tick)
        out.value.backward()
        module.after_step(batch, out, tick)
        expect(out.value.isfinite(), f"the loss of {size} images is {out.value.item()}")
        for name, weight in module.backbone.named_parameters():
            gradient = weight.grad
            expect(gradient is not None, f"the backbone's {name} has no gradient from {size} images")
            finite = gradient is not None and gradient.isfinite().all()
            expect(finite, f"the gradient of the backbone's {name} from {size} images is not finite")
        for name, tensor in out.keep.items():
            expect(tensor.shape[0] == size, f"keep[{name!r}] has {tensor.shape[0]} rows for {size} images")


@register
def loss_curve_is_that_of_its_version(subject: Subject) -> None:
    """The losses are those noted for this version: a task whose results change needs a new version."""
    if subject.golden is None:
        raise SkipTest("no golden curve was given")
    spec = subject.stage()
    # A tenth of the learning rate: at the full one rounding errors of another processor grow, in fifteen steps, to
    # differences of a third (simsiam, barlow-twins); here they stay under 2e-4.
    spec = replace(spec, training=replace(spec.training, lr=spec.training.lr / 10))
    losses = losses_of(subject.train(spec, log_steps=1))
    if os.environ.get(WRITE_GOLDEN):
        subject.golden.write_text(json.dumps([round(x, 6) for x in losses]) + "\n")
    expect(subject.golden.is_file(), f"there is no {subject.golden}: run it once with {WRITE_GOLDEN}=1")
    np.testing.assert_allclose(losses, json.loads(subject.golden.read_text()), rtol=2e-3, atol=2e-3)


@register
def accumulation_sees_the_same_images_and_keeps_all_of_them(subject: Subject) -> None:
    """A step in two parts trains as many steps, with finite losses."""
    spec = subject.stage()
    parts = replace(spec, training=replace(spec.training, accumulate=2))
    stage = subject.train(parts, log_steps=1)
    expected = spec.training.epochs * num_steps(stage.record.num_images, spec.training.batch_size)
    expect(stage.record.steps == expected, f"{stage.record.steps} steps instead of {expected}")
    _expect_finite(stage)


@register
def a_step_in_parts_is_the_step_in_one(subject: Subject) -> None:
    """In float64, with norms and dropout as outside of training and random numbers all alike, a step in parts has the
    loss, the gradient and the kept tensors of the step in one. A task with a `coupling` has another gradient."""
    spec, coupling = subject.stage(), subject.kind.coupling
    batch = subject.batch(spec)
    with patch.object(Selection, "class_counts", lambda images: tuple(range(1, 1 + len(images.pack.classes)))):
        module = subject.module(spec).double().eval()  # the classes of the images are equally frequent
    sizes = [2, 3, len(batch.index) - 5]
    whole, gradient = _step_in_parts(module, batch, [len(batch.index)])
    parts, other = _step_in_parts(module, batch, sizes)
    apart = max(_apart(one, two) for one, two in zip(gradient, other, strict=True))
    if coupling:
        expect(apart > 1e-6, f"in parts the gradient is the same: no image's loss depends on {coupling!r}")
        return
    expect(
        apart < 1e-10 and _apart(whole.value, parts.value) < 1e-10,
        f"in parts of {sizes} images the loss is {parts.value.item():.6g} instead of {whole.value.item():.6g}, and the "
        f"gradient differs by {apart:.2g}: give Loss(weight=...) where the loss is a weighted mean, or say in "
        "`coupling` what an image's loss takes from the others",
    )
    expect(parts.keep.keys() == whole.keep.keys(), "keep has other tensors in parts")
    for name, kept in whole.keep.items():
        expect(_apart(kept, parts.keep[name]) < 1e-10, f"keep[{name!r}] is another in parts of {sizes} images")


@register
def logging_saving_recomputing_and_the_place_of_the_store_leave_the_results_alone(subject: Subject) -> None:
    """Whatever is logged, saved or computed twice, and wherever the store lies, the weights are the same to the bit."""
    a = subject.train(subject.stage(), "a", save_steps=1)
    tensorboard = find_spec("tensorboard") is not None
    b = subject.train(subject.stage(), "some/where", log_steps=5, tensorboard=tensorboard, recompute=True)
    expect(a.key == b.key, "the keys differ")
    expect(a.record.weights_sha256 == b.record.weights_sha256, "the weights differ")
    if tensorboard:
        expect(list((b.folder / "tensorboard").iterdir()), "TensorBoard got nothing")


@register
def bf16_trains_in_the_same_loop(subject: Subject) -> None:
    """In bf16 the first loss is near that of float32, later ones are finite, and the weights stay in float32."""
    # 64 px: on maps of one pixel, torch 2.15 gives bf16 gradients that are sometimes not finite, on a CPU.
    spec, losses = subject.stage(image_size=IMAGE_SIZES[1]), {}
    if bf16_slowdown() > SLOWEST_BF16:
        raise SkipTest("this CPU has no instructions for bf16")
    for precision in ("32", "bf16"):
        exact = replace(spec, training=replace(spec.training, precision=precision, epochs=1))
        stage = subject.train(exact, device="cpu", log_steps=1)
        expect(stage.record.precision == precision, f"it was trained in {stage.record.precision}")
        losses[precision] = losses_of(stage)
        weights = load_file(stage.weights).values()
        expect(all(tensor.dtype != torch.bfloat16 for tensor in weights), "weights are saved in bf16")
        _expect_finite(stage)
    first, reference = losses["bf16"][0], losses["32"][0]
    # Clusters of bf16 features, which are DeepCluster's labels, differ by an image or two.
    near = abs(first - reference) <= max(0.05 * abs(reference), 0.02)
    expect(near, f"the first loss is {first:.4f} in bf16, {reference:.4f} in float32: compute it in full_precision()")


@register
def a_gpu_sees_the_same_crops_and_losses(subject: Subject) -> None:
    """On a GPU the first losses are those of the CPU."""
    if not torch.cuda.is_available():
        raise SkipTest("no GPU here")
    spec = subject.stage()
    exact = replace(spec, training=replace(spec.training, precision="32", epochs=1))
    losses = {device: losses_of(subject.train(exact, device, device=device, log_steps=1)) for device in ("cpu", "cuda")}
    np.testing.assert_allclose(losses["cuda"][:3], losses["cpu"][:3], rtol=0.02)
    default = subject.train(spec, "default", device="cuda")
    expect(default.record.channels_last, "the weights do not lie channels last")
    expect(math.isfinite(default.record.metrics["loss"]), "the loss is not finite")


# ---- what the checks share


def _step_in_parts(module: Task, batch: Batch, sizes: list[int]) -> tuple[Loss, list[Tensor]]:
    """The loss of a step in parts of `sizes` images, and the gradient of each parameter, in float64."""
    module.zero_grad(set_to_none=True)
    tick, bounds = Tick(30, 60, 6), list(itertools.accumulate(sizes, initial=0))
    parts = [_images_of(batch, slice(*pair)) for pair in itertools.pairwise(bounds)]
    with _in_float64(), _AllAlike():
        module.before_step(tick)
        out, _ = add_gradients(module, parts, sum(sizes), tick, placement("cpu", "32"), Reporter())
    return out, [weight.grad for weight in module.parameters() if weight.grad is not None]


def _images_of(batch: Batch, chosen: slice) -> Batch:
    """Some images of a batch, with views in float64."""
    count = len(batch.index)
    views = (view.unflatten(0, (-1, count))[:, chosen].flatten(0, 1).double() for view in batch.views)
    return Batch(views=tuple(views), index=batch.index[chosen], labels=batch.labels[chosen])


@contextmanager
def _in_float64() -> Iterator[None]:
    """Let float64 be the default, also of what asks for float32 by `Tensor.float`."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with patch.object(Tensor, "float", Tensor.double):
            yield
    finally:
        torch.set_default_dtype(before)


class _AllAlike(TorchDispatchMode):
    """Random numbers are all the same one, so that those of an image do not depend on how many are drawn at once."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "randint":
            out.fill_(args[0] if "low" in func._overloadname else 0)
        elif name in ("rand", "rand_like", "randn", "randn_like"):
            out.fill_(0.5)
        return out


def _apart(one: Tensor, two: Tensor) -> float:
    """The largest difference of two tensors, as a share of the largest number where that is above 1."""
    if one.shape != two.shape:
        return math.inf
    return float((one - two).abs().max() / one.abs().max().clamp_min(1.0)) if one.numel() else 0.0


def log_rows(stage: Stage, name: str = "metrics.csv") -> list[dict[str, str]]:
    """A log without its clock."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_rows(stage.folder / name)]


def losses_of(stage: Stage) -> list[float]:
    """The losses that a stage logged."""
    return [float(row["loss"]) for row in log_rows(stage)]


def _expect_finite(stage: Stage) -> None:
    losses = losses_of(stage)
    expect(all(map(math.isfinite, losses)), f"a loss is not finite: {losses}")


def _expect_same_stage(a: Stage, b: Stage) -> None:
    """Two trainings of one stage have the same logs, and the same tensors in all their files."""
    for name in ("metrics.csv", "epochs.csv"):
        if name == "metrics.csv" or (a.folder / name).exists():
            same = log_rows(a, name) == log_rows(b, name)
            expect(same, f"{name} differs after a resume: {_first_difference(a, b, name)}")
    first, second = ({path.name: load_file(path) for path in sorted(s.folder.glob("*.safetensors"))} for s in (a, b))
    expect(first.keys() == second.keys(), f"the files are {sorted(first)} and {sorted(second)}")
    for name in first:
        expect(first[name].keys() == second[name].keys(), f"{name} holds other tensors")
        differ = [key for key, tensor in first[name].items() if not tensor.equal(second[name][key])]
        expect(not differ, f"after a resume {name} differs in {', '.join(differ[:3])}")


def _first_difference(a: Stage, b: Stage, name: str) -> str:
    rows, others = log_rows(a, name), log_rows(b, name)
    pairs = [f"{row} instead of {other}" for row, other in zip(rows, others, strict=False) if row != other]
    return pairs[0] if pairs else f"{len(rows)} rows instead of {len(others)}"


def killed_at(real: Callable[..., Any], call: int) -> Callable[..., Any]:
    """`real`, but its n-th call raises KeyboardInterrupt, as a kill between two saves would end a process."""
    calls = itertools.count(1)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    return wrapped


@contextmanager
def _raises(kind: type[BaseException], otherwise: str) -> Iterator[None]:
    """Expect an error in what follows."""
    try:
        yield
    except kind:
        return
    raise AssertionError(otherwise)
