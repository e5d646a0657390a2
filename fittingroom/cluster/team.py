"""Several workers that train one network together: Ray Train starts them, `fittingroom.cluster.parallel` shares the batches out.

A team stands in for the training loop. The data, the network's first weights and the checkpoint to go on from are sent to the workers,
who read no files; what comes back after each epoch is what the loop yields. So the run folder, its checkpoints, resuming and early
stopping are as with one process, and are kept where the caller is. When a worker is lost, the others cannot go on without it: all
begin again after the last epoch that came back, and, since the numbers do not depend on how many they are, without it if need be.
"""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
import torch.distributed as dist
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from fittingroom import experiment, models, native
from fittingroom.cluster.connection import connected
from fittingroom.cluster.parallel import Together
from fittingroom.cluster.software import difference, software
from fittingroom.data.resident import Resident
from fittingroom.errors import ExtraMissing, FittingRoomError, RunError, UsageError
from fittingroom.recipe import Recipe, load
from fittingroom.train.checkpoint import Checkpoint, under
from fittingroom.train.loop import Diverged, Epoch, Progress, fit
from fittingroom.train.precision import Precision, choose_device, settle

__all__ = ["Team", "check"]

RETRIES = 3
"""How often a team that lost a worker begins again without having come further in between."""

PATIENCE_SECONDS = 300
"""How long workers wait for one another before they take one for lost whose connection is still there."""

START_SECONDS = 60.0
"""After which a person is told that the workers have not begun."""

LISTEN_SECONDS = 1.0
LONGEST_REASON = 200

# A checkpoint on its way: epoch, tensors as in a safetensors file, values.
_Packed = tuple[int, bytes, dict[str, Any]]


def check(recipe: Recipe, workers: int) -> None:
    """Say no to what cannot be shared out.

    Raises:
        UsageError: a classical model, or a batch that has fewer images than there are workers.
    """
    if models.entry(recipe.model.name).kind == "classical":
        raise UsageError(f"{recipe.model.name} is a classical model, which one process fits as a whole; leave out --workers")
    if recipe.train.batch_size < workers:
        raise UsageError(
            f"{workers} workers cannot share batches of {recipe.train.batch_size}; take fewer workers, or a larger train.batch_size"
        )


class Team:
    """Workers to be used as a context; as `fittingroom.experiment.Setting.team` they train the network of a run.

    Args:
        workers: how many, at least 2.
        address: of a Ray cluster's head, ``host:port``; None starts one on this machine, for this team alone.
        threads: of each worker, who takes as many of a machine's cores; None shares this machine's cores out, and is 1 on a cluster.
        device: `auto`, `cpu`, or `cuda`: a GPU for each worker.
        notify: called with each notice, one line of text.

    Raises:
        ExtraMissing: Ray is not installed.
        RunError: nobody answers at the address, or the cluster has fewer cores or GPUs than the workers need.
    """

    def __init__(
        self,
        workers: int,
        address: str | None = None,
        threads: int | None = None,
        device: str = "auto",
        notify: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.workers = workers
        self.address = address
        self.threads = threads or (1 if address else max(1, torch.get_num_threads() // workers))
        self.device = choose_device(device).type
        self.notify = notify
        self._connection = ExitStack()
        if not (find_spec("ray") and find_spec("pyarrow")):  # Ray is there without what Ray Train needs where it was installed plain
            raise ExtraMissing("Ray Train is not installed", "ray", "leave out --workers")

    @property
    def description(self) -> dict[str, Any]:
        """What a run's record says of the workers that trained it."""
        return {
            "count": self.workers,
            "threads": self.threads,
            "engine": f"Ray Train {metadata.version('ray')}",
            "batch_norm": "over the whole batch",
            "dropout": "masks of the whole batch, by PyTorch",
        }

    def __enter__(self) -> Self:
        with ExitStack() as connection:
            connection.enter_context(connected(self.address, self.workers * self.threads))
            if (room := self._room()) < self.workers:
                needed = " and ".join(f"{amount} {what}" for what, amount in self._needs.items())
                fewer = "--workers or --threads" if self.device == "cpu" else "--workers, or --device cpu"
                raise RunError(f"{self.workers} workers need {needed} each, and there is room for {room}; take fewer {fewer}")
            self._connection = connection.pop_all()
        return self

    def __exit__(self, *problem: object) -> None:
        self._connection.close()

    def fit(
        self,
        model: nn.Module,
        training: Resident,
        validation: Resident | None,
        recipe: Recipe,
        classes: int,
        precision: Precision,
        resume: Checkpoint | None = None,
        progress: Progress = lambda epoch, step, steps: None,
    ) -> Iterator[Epoch]:
        """Train ``model`` and yield after each epoch, as `fittingroom.train.loop.fit` does.

        Raises:
            Diverged: the loss became infinite or not a number.
            RunError: workers were lost again and again, or no machine is left.
        """
        import ray

        order = _Order(
            software(),
            recipe.values,
            classes,
            precision,
            self.threads,
            native.active(),
            ray.put(_bytes(model.state_dict())),
            ray.put(_sent(training)),
            None if validation is None else ray.put(_sent(validation)),
        )
        lost, workers = 0, self.workers
        while True:
            try:
                for epoch in self._attempt(order, workers, resume, progress):
                    resume, lost = epoch.checkpoint(), 0
                    yield epoch
                break
            except _WorkerLost as loss:
                lost += 1
                workers = min(self.workers, self._room())
                if lost > RETRIES or not workers:
                    raise RunError(f"workers were lost {lost} times in a row, the last time: {loss}") from None
                after = f"after epoch {resume.epoch}" if resume else "at the first epoch"
                self.notify(f"a worker was lost ({loss}); going on {after} with {workers}")
        if resume is not None:
            model.load_state_dict(under("model", resume.tensors))

    def _attempt(self, order: _Order, workers: int, resume: Checkpoint | None, progress: Progress) -> Iterator[Epoch]:
        """Have a group of workers train; yield what they report until they are done or one of them is lost."""
        import ray
        from ray.exceptions import RayError
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)}
        reports = Queue(actor_options=here)
        with TemporaryDirectory(prefix="fittingroom-", ignore_cleanup_errors=True) as folder:
            work = partial(_work, order, None if resume is None else _packed(resume), reports)
            group = _Group(workers, self._needs, {} if self.address else _on_this_machine(), folder)
            # In a process of its own, for then all that it starts ends with it.
            leading = ray.remote(max_retries=0, **here)(_lead).remote(work, group)
            try:
                for kind, *values in self._heard(reports, leading, workers):
                    if kind == "step":
                        progress(*values)
                    elif kind == "failed":
                        raise _error(*values)
                    else:
                        yield _epoch(*values)
            except RayError as error:
                raise _WorkerLost(_line(error)) from None
            finally:
                if ray.is_initialized():  # else everything has ended with it
                    ray.cancel(leading, force=True)
                    reports.shutdown(force=True)

    def _heard(self, reports: Any, leading: Any, workers: int) -> Iterator[tuple[Any, ...]]:
        """Yield what workers report until they are done."""
        import ray
        from ray.util.queue import Empty

        wait_until = time.monotonic() + START_SECONDS
        while True:
            ended = bool(ray.wait([leading], timeout=0)[0])
            try:
                report = reports.get(timeout=LISTEN_SECONDS)
            except Empty:
                if ended:
                    raise _WorkerLost(ray.get(leading)) from None
                if self._room() < workers:
                    raise _WorkerLost("a machine is gone") from None
                if time.monotonic() > wait_until:
                    self.notify(f"still waiting for {workers} workers to begin; other work may have taken their places on the cluster")
                    wait_until = float("inf")
                continue
            wait_until = float("inf")
            if report == ("done",):
                return
            if report != ("begun",):
                yield report

    @property
    def _needs(self) -> dict[str, int]:
        """What of the cluster a worker takes."""
        return {"CPU": self.threads} | ({"GPU": 1} if self.device == "cuda" else {})

    def _room(self) -> int:
        """For how many workers there is room on the cluster's machines; Ray itself would wait for more for ever."""
        import ray

        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(min(int(machine.get(what, 0) // amount) for what, amount in self._needs.items()) for machine in machines)


@dataclass(frozen=True)
class _Order:
    """What workers are told; weights and images by reference to where Ray keeps them."""

    software: Mapping[str, str]
    recipe: Mapping[str, Any]
    classes: int
    precision: Precision
    threads: int
    kernels: bool
    weights: Any
    training: Any
    validation: Any


@dataclass(frozen=True)
class _Group:
    """Which workers are wanted: how many, what each takes, their environment variables, and a folder of this machine for Ray Train."""

    workers: int
    needs: Mapping[str, int]
    environ: Mapping[str, str]
    folder: str


class _WorkerLost(Exception):
    """A worker died, or failed in a way that another attempt may not."""


def _work(order: _Order, resume: _Packed | None, reports: Any) -> None:
    """Be a worker: train, and, the first of them, report."""
    import ray
    from ray.train.torch import get_device

    if different := difference(software(), order.software):
        reports.put(("failed", RunError.__name__, f"{platform.node()} would not compute the same ({different}); install the same there"))
        return
    torch.set_num_threads(order.threads)
    device = get_device()
    settle(device)
    recipe = load(order.recipe).recipe
    training, validation = (None if part is None else _resident(ray.get(part), device) for part in (order.training, order.validation))
    assert training is not None
    _, channels, height, width = training.pixels.shape
    model = experiment.new_model(recipe, (channels, height, width), order.classes, device)
    model.load_state_dict(load_tensors(ray.get(order.weights)))
    report = reports.put if dist.get_rank() == 0 else lambda message: None
    with native.enabled(order.kernels):
        try:
            report(("begun",))
            for epoch in fit(
                Together(model),
                training,
                validation,
                recipe,
                order.classes,
                order.precision,
                None if resume is None else _unpacked(*resume),
                lambda *numbers: report(("step", *numbers)),
            ):
                report(("epoch", epoch.record, epoch.final, _packed(epoch.checkpoint())))
            report(("done",))
        except FittingRoomError as error:  # the same in every worker
            report(("failed", type(error).__name__, str(error)))


def _lead(work: Callable[[], None], group: _Group) -> str:
    """Have a group of workers do their work; return how it ended."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = "GPU" in group.needs
    trainer = TorchTrainer(
        work,
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=PATIENCE_SECONDS),
        scaling_config=ScalingConfig(num_workers=group.workers, use_gpu=gpu, resources_per_worker=dict(group.needs)),
        run_config=RunConfig(storage_path=group.folder, worker_runtime_env={"env_vars": dict(group.environ)}),
    )
    try:
        trainer.fit()
    except Exception as error:
        return _cause(getattr(error, "worker_failures", {}), error)
    return "it said nothing"


def _cause(failures: Mapping[int, Exception], error: Exception) -> str:
    """Say which workers died; where none did, what went wrong first."""
    # What Ray Train reports of a worker that does not answer, in place of what its work raised: in that, others only miss the dead one.
    died = [str(rank + 1) for rank, failure in failures.items() if hasattr(failure, "health_check_failure")]
    return f"worker {' and '.join(died)} died" if died else _line(next(iter(failures.values()), error))


def _error(kind: str, message: str) -> FittingRoomError:
    return Diverged(message) if kind == Diverged.__name__ else RunError(message)


def _epoch(record: dict[str, Any], final: bool, packed: _Packed) -> Epoch:
    return Epoch(record["epoch"], record, final, partial(_unpacked, *packed))


def _packed(checkpoint: Checkpoint) -> _Packed:
    return checkpoint.epoch, _bytes(checkpoint.tensors), dict(checkpoint.values)


def _unpacked(epoch: int, tensors: bytes, values: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(epoch, load_tensors(tensors), values)


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    content: bytes = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return content


def _sent(images: Resident) -> bytes:
    return _bytes({name: getattr(images, name) for name in ("pixels", "labels", "scale", "offset")})


def _resident(content: bytes, device: torch.device) -> Resident:
    parts = load_tensors(content)
    scale, offset = (parts[name].flatten().numpy() for name in ("scale", "offset"))
    return Resident(parts["pixels"].to(device), parts["labels"].to(device), scale, offset)


def _line(error: Exception) -> str:
    """The last line of an error that says something, and not too much of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:LONGEST_REASON]


def _on_this_machine() -> dict[str, str]:
    """What has workers of one machine speak with one another by its loopback interface."""
    return {"GLOO_SOCKET_IFNAME": next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")}
