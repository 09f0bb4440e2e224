"""CKA of two networks against torch_cka and pytorch-cka: the same layers, images and batches, in one run.

    python benchmarks/cka.py [--json results.json] [--device cuda]

Peers: pip install torch-cka pytorch-cka. Added memory is the largest resident size of a process that does only this,
less that of one that only runs the forward passes; on a GPU it is what torch allocated at most. On a machine that is
shared, compare `cpu_seconds` of one thread (`--threads 1`): what other programs take is not in them.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import records
import timm
import torch

from sslcurr.analysis.evaluation.similarity import CkaSettings, GramExtractor
from sslcurr.analysis.measures.cka import Alignment, cka_of
from sslcurr.backbones.layers import POOLED, layer_names
from sslcurr.engine.models import Model
from sslcurr.spec.stage import BackboneSpec

METHODS = ("sslcurr", "pytorch-cka", "torch_cka")
GOALS = {"torch_cka": 12.0, "pytorch-cka": 1.5}


def networks(name: str, size: int, device: str) -> list[torch.nn.Module]:
    """Two untrained networks whose batch norms have seen images, so that all layers vary."""
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = timm.create_model(name, num_classes=0)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d) and not module.weight.any():
                torch.nn.init.ones_(module.weight)  # timm's last norm of a block is 0: all blocks would be alike
        with torch.no_grad():
            network.train()(torch.randn(64, 3, size, size))
        made.append(network.eval().to(device))
    return made


class Known(Model):
    """A model whose network is in `MADE`, at the place that its digest says."""

    def network(self) -> torch.nn.Module:
        """That network."""
        return MADE[int(self.digest)]


MADE: list[torch.nn.Module] = []


def ours(made: list[torch.nn.Module], layers: str, images: torch.Tensor, batch: int) -> np.ndarray:
    """CKA as `sslcurr cka` computes it; layers of the first network by layers of the second."""
    MADE[:] = made
    spec, device = BackboneSpec(name="resnet50"), images.device
    models = [Known(str(i), spec, images.shape[-1], None, str(i)) for i in range(2)]
    extractors = [GramExtractor(model, CkaSettings(layers=layers), device, images.shape[-1]) for model in models]
    alignment: Alignment | None = None
    for part in images.split(batch):
        part = part.contiguous(memory_format=torch.channels_last)
        grams = torch.stack([gram for extractor in extractors for gram in extractor.grams(part)])
        alignment = alignment or Alignment(len(grams))
        alignment.add(grams)
    assert alignment is not None
    found = cka_of(alignment.sums)
    return found[: len(extractors[0].names), len(extractors[0].names) :]


def loader(images: torch.Tensor, batch: int) -> Any:
    """What both peers take."""
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=batch)


def pytorch_cka(made: list[torch.nn.Module], names: list[str], images: torch.Tensor, batch: int) -> np.ndarray:
    """As its README does it."""
    here = str(Path(__file__).parent)
    sys.path = [path for path in sys.path if path != here]  # this file bears the name of their package
    from cka import CKA

    with CKA(made[0], made[1], layers=names, device=images.device.type) as compared:
        return compared._compare(loader(images, batch), progress=False).cpu().numpy()


def torch_cka(made: list[torch.nn.Module], names: list[str], images: torch.Tensor, batch: int) -> np.ndarray:
    """As its README does it."""
    from torch_cka import CKA

    compared = CKA(*made, "a", "b", model1_layers=names, model2_layers=names, device=images.device.type)
    compared.compare(loader(images, batch), loader(images, batch))
    return compared.hsic_matrix.detach().numpy()


def exact(made: list[torch.nn.Module], names: list[str], images: torch.Tensor, batch: int) -> np.ndarray:
    """The same estimator in float64, slowly."""
    from sslcurr.analysis.measures.cka import centre

    total = 0.0
    for part in images.split(batch):
        grams = []
        for network in made:
            network = network.double()
            seen: list[torch.Tensor] = []
            keep = functools.partial(lambda seen, m, i, o: seen.append(o.flatten(1).clone()), seen)
            hooks = [network.get_submodule(name).register_forward_hook(keep) for name in names]
            with torch.no_grad():
                network(part.double())
            for hook in hooks:
                hook.remove()
            grams += [x @ x.T for x in (each - each.mean(dim=0) for each in seen)]
        rows = centre(torch.stack(grams), "unbiased")
        total = total + (rows @ rows.T).cpu().numpy()
    for network in made:
        network.float()
    return cka_of(np.asarray(total))[: len(names), len(names) :]


def one(method: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time, memory and values of one method, in a process of its own."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    made = networks(options.backbone, options.size, options.device)
    names = [name for name in layer_names(made[0], options.layers) if name != POOLED]
    images = torch.randn(options.images, 3, options.size, options.size, generator=torch.Generator().manual_seed(2))
    images = images.to(options.device)
    few = images[: options.batch]
    with torch.no_grad():
        for network in made:
            network(few)
    cuda = options.device == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.max_memory_allocated()
    else:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu_start = time.perf_counter(), time.process_time()
    if method == "sslcurr":
        found = ours(made, options.layers, images, options.batch)
        found = found[: len(names), : len(names)]
    else:
        found = {"pytorch-cka": pytorch_cka, "torch_cka": torch_cka}[method](made, names, images, options.batch)
    if cuda:
        torch.cuda.synchronize()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    if cuda:
        added = (torch.cuda.max_memory_allocated() - before) / 2**20
    else:
        added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    with torch.inference_mode():
        start, cpu_start = time.perf_counter(), time.process_time()
        for part in images.split(options.batch):
            for network in made:
                network(part)
        if cuda:
            torch.cuda.synchronize()
        forward, cpu_forward = time.perf_counter() - start, time.process_time() - cpu_start
    num = min(options.images, 2 * options.batch)
    error = None
    if options.images <= num or options.check:
        error = float(np.abs(found - exact(made, names, images, options.batch)).max())
    return {
        "seconds": seconds,
        "forward": forward,
        "cpu_seconds": cpu_seconds,
        "cpu_forward": cpu_forward,
        "added_mib": added,
        "layers": len(names),
        "error": error,
    }


def main() -> None:
    """Run the rounds, print ratios and goals, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--layers", default="blocks")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--check", action="store_true", help="also compute the values in float64, slowly")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options)))
        return
    rounds: dict[str, list[dict[str, Any]]] = {method: [] for method in options.methods}
    for number in range(options.rounds):
        for method in options.methods:
            command = [sys.executable, *sys.argv, "--one", method]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rounds[method].append(json.loads(output.splitlines()[-1]))
            print(f"round {number + 1}, {method}: {rounds[method][-1]}", flush=True)
    results: dict[str, Any] = {"rounds": rounds, "ratios": {}, "cpu_ratios": {}, "added_mib": {}}
    for method, found in rounds.items():
        results["added_mib"][method] = records.ratio([each["added_mib"] for each in found])
    for method in options.methods[1:]:
        pairs = list(zip(rounds["sslcurr"], rounds[method], strict=True))
        for name, key in (("ratios", "seconds"), ("cpu_ratios", "cpu_seconds")):
            results[name][method] = records.ratio([theirs[key] / our[key] for our, theirs in pairs])
        reached = results["ratios"][method]["median"] >= GOALS[method]
        less = results["added_mib"]["sslcurr"]["median"] < results["added_mib"][method]["median"]
        print(
            f"{method}: {records.shown(results['ratios'][method])} times our time (goal {GOALS[method]:g}: "
            f"{'reached' if reached else 'not reached'}), {records.shown(results['cpu_ratios'][method])} times our "
            f"CPU seconds; added MiB {records.shown(results['added_mib'][method])} "
            f"against {records.shown(results['added_mib']['sslcurr'])} ({'less' if less else 'not less'} with ours)"
        )
    records.write(
        options.json,
        "CKA: seconds of others over ours, and added memory in MiB",
        results,
        packages=["torch", "timm", *(method.replace("_", "-") for method in options.methods[1:])],
        device=options.device,
        threads=options.threads,
        backbone=options.backbone,
        layers=options.layers,
        cpu=torch.backends.cpu.get_cpu_capability(),
        images=options.images,
        size=options.size,
        batch=options.batch,
    )


if __name__ == "__main__":
    main()
