"""The crew on a cluster: the interface of `fittingroom.workers.Crew`, with the nodes of a Ray cluster in place of this machine's cores.

A run is trained in a folder on its node, and after every epoch the files that changed come back and are written into the caller's
folder, which can be gone on with at any time. When a worker or a whole node is lost, the run goes on elsewhere from the files that the
caller has. Orders and answers are JSON and plain bytes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fittingroom.cluster.connection import connected
from fittingroom.cluster.software import software
from fittingroom.cluster.transfer import Followed, Parcel, write_into
from fittingroom.errors import FittingRoomError, RunError, out_of_memory
from fittingroom.files import explain
from fittingroom.runs import Run
from fittingroom.workers import Event, Job
from fittingroom.workers.crew import ENVIRONMENT, RETRIES

__all__ = ["RayCrew"]

LOOK_SECONDS = 1.0
"""Between two looks at which nodes there are."""
PATIENCE_SECONDS = 60.0
"""How long jobs wait for a node when there is none any more."""

KINDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "step": {"epoch": int, "part": (int, float)},
    "epoch": {"record": dict},
    "note": {"line": str},
    "refused": {"reason": str},
    "failed": {"reason": str, "final": bool, "code": int},
    "done": {},
}
"""What nodes say, and what belongs to it."""


@dataclass
class _Node:
    """A node, and what of it is in use by this crew."""

    id: str
    name: str
    cores: int
    gpus: int
    cores_used: int = 0
    gpus_used: int = 0


@dataclass
class _Begun:
    """What the crew remembers of a job: where it is, what it takes there, how far it came, how often its worker died on the way.

    `moved` says that the node would not or could not begin it: another one will.
    """

    job: Job
    node: _Node | None = None
    places: int = 0
    stream: Any = None
    held: ExitStack | None = None
    epoch: int = 0
    deaths: int = 0
    stopping: bool = False
    moved: bool = False
    last: Event | None = None


class RayCrew:
    """Workers on a Ray cluster, to be used as a context.

    Args:
        address: ``HOST:PORT`` of the cluster's head, on which or on a node of which this process runs; None starts Ray on this
            machine alone, for as long as the crew is there.
        workers: how many jobs of one thread are under way at once; None takes the cores of all nodes.
        data_dir: where to look for data first.
        device: `cpu`; `cuda`, a GPU for each job; or `auto`, that is `cuda` where every node has a GPU.
        notify: called with a line for each node that is not used.

    Raises:
        ExtraMissing: Ray is not installed.
        RunError: nobody answers at the address.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        data_dir: Path | None = None,
        device: str = "auto",
        notify: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._most = workers
        self._data_dir = data_dir and data_dir.absolute()
        self._notify = notify
        self._nodes: dict[str, _Node] = {}
        self._refused: dict[str, str] = {}
        self._gone: set[str] = set()
        self._looked = float("-inf")
        self._data: dict[tuple[Any, ...], tuple[dict[str, Any], Any]] = {}
        self._waiting: deque[_Begun] = deque()
        self._running: dict[str, _Begun] = {}
        self._connection = ExitStack()
        self._connection.enter_context(connected(address, workers))
        self._task = _task()
        try:
            self._look()
            every = bool(self._nodes) and all(node.gpus for node in self._nodes.values())
            self._device = device if device != "auto" else "cuda" if every else "cpu"
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """How many jobs of one thread are under way at once; it can be changed."""
        return self._most or max(1, sum(node.cores for node in self._nodes.values()))

    @workers.setter
    def workers(self, workers: int) -> None:
        self._most = workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def add(self, job: Job) -> None:
        """Let a job wait for its turn; also while `events` is being read.

        Raises:
            ValueError: a job of this key is waiting or running.
        """
        if job.key in self._running or any(begun.job.key == job.key for begun in self._waiting):
            raise ValueError(f"there is a job '{job.key}' already")
        self._waiting.append(_Begun(job))

    def stop(self, key: str) -> None:
        """End a job before its time; its run folder stays as it came back last. What is not there any more is let be."""
        import ray

        if (begun := self._running.get(key)) is not None and not begun.stopping:
            begun.stopping = True
            ray.cancel(begun.stream, force=True)
        for begun in self._waiting:
            begun.stopping = begun.stopping or begun.job.key == key

    def events(self) -> Iterator[Event]:
        """Yield what happens, until no job is waiting or running.

        Raises:
            RunError: no node is left, or the cluster does not answer any more.
            FittingRoomError: what came back cannot be written.
        """
        alone_since = time.monotonic()
        while self._waiting or self._running:
            self._look()
            yield from self._hand_out()
            if self._running:
                yield from self._listen()
                alone_since = time.monotonic()
            elif self._waiting:
                self._wait_for_nodes(alone_since)

    def close(self) -> None:
        """End all jobs, and the cluster where it was started for them; what was under way can be gone on with."""
        for begun in self._running.values():
            _let_go(begun)
        self._running.clear()
        self._data.clear()
        self._connection.close()

    def _look(self) -> None:
        """Find out which nodes there are, once in a while."""
        import ray

        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        there = {}
        for seen in ray.nodes():
            resources, name = seen["Resources"], seen["NodeID"]
            cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
            if seen["Alive"] and cores and name not in self._gone | self._refused.keys():
                there[name] = self._nodes.get(name) or _Node(name, seen["NodeManagerAddress"], cores, gpus)
        self._nodes = there

    def _wait_for_nodes(self, since: float) -> None:
        """Wait a moment for a node to come.

        Raises:
            RunError: none can be used, or none has come for a long time.
        """
        if self._refused and not self._nodes:
            reasons = "; ".join(self._refused.values())
            raise RunError(f"no node of the cluster can be used: {reasons}")
        if time.monotonic() - since > PATIENCE_SECONDS:
            what = "with a GPU " if self._device == "cuda" and self._nodes else ""
            raise RunError(f"the cluster has no node {what}to train on; add one, and the same command goes on")
        time.sleep(LOOK_SECONDS)

    def _hand_out(self) -> Iterator[Event]:
        """Give jobs to nodes that have room, in the order in which they were added."""
        while self._waiting:
            begun = self._waiting[0]
            if begun.stopping:
                self._waiting.popleft()
                yield Event(begun.job, "stopped")
            elif (room := self._room(begun)) is not None:
                self._waiting.popleft()
                yield self._begin(begun, *room)
            else:
                return

    def _room(self, begun: _Begun) -> tuple[_Node, int] | None:
        """A node for a job, the emptiest, and how many of its cores the job takes; not the one that it died on, if there is another."""
        gpu = self._device == "cuda"
        nodes = [node for node in self._nodes.values() if node.gpus or not gpu]
        if not nodes:
            return None
        places = min(begun.job.threads, self.workers, max(node.cores for node in nodes))
        if sum(node.cores_used for node in self._nodes.values()) + places > self.workers:
            return None
        free = [node for node in nodes if node.cores - node.cores_used >= places and (node.gpus > node.gpus_used or not gpu)]
        elsewhere = [node for node in free if begun.node is None or node.id != begun.node.id]
        node = max(elsewhere or free, key=lambda node: node.cores - node.cores_used, default=None)
        return None if node is None else (node, places)

    def _begin(self, begun: _Begun, node: _Node, places: int) -> Event:
        """Send a job to a node, with the files that there are of its run."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        job = begun.job
        try:
            about, data = self._data_of(job)
            if job.do == "train":
                _own(begun)
            sent = Parcel(self._order(job, about), Followed.everything(job.folder) if job.do == "train" else {}).to_bytes()
        except FittingRoomError as error:
            _let_go(begun)
            return Event(job, "failed", {"reason": str(error), "final": False, "code": error.exit_code})
        begun.node, begun.places = node, places
        node.cores_used += places
        node.gpus_used += self._device == "cuda"
        begun.stream = self._task.options(
            num_cpus=places,
            num_gpus=int(self._device == "cuda"),
            max_retries=0,  # of Ray's own: it would begin anew
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
            runtime_env={"env_vars": ENVIRONMENT},
            name=f"fittingroom {job.key}",
        ).remote(sent, [data])
        self._running[job.key] = begun
        return Event(job, "started")

    def _order(self, job: Job, about: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "do": job.do,
            "recipe": job.loaded.recipe.values,
            "origins": job.loaded.origins,
            "folder": str(job.folder),
            "threads": job.threads,
            "test": job.test,
            "data_dir": str(self._data_dir) if self._data_dir else None,
            "device": self._device,
            "data": about,
            "software": software(),
        }

    def _data_of(self, job: Job) -> tuple[dict[str, Any], Any]:
        """What nodes are told of the data of a job, and Ray's reference to them: a node without a copy of its own fetches them once."""
        import ray

        from fittingroom.cluster import data

        settings = job.loaded.recipe.data
        key = (settings.name, settings.size, settings.channels)
        if key not in self._data:
            loaded = data.load(settings, self._data_dir)
            self._data[key] = data.describe(loaded), ray.put(data.pack(loaded))
        return self._data[key]

    def _listen(self) -> Iterator[Event]:
        """Hear what the next job, or several, have to say; or nothing, for a while."""
        import ray

        by_stream = {begun.stream: begun for begun in self._running.values()}
        ready, _ = ray.wait(list(by_stream), num_returns=1, timeout=LOOK_SECONDS)
        for stream in ready:
            yield from self._hear(by_stream[stream])
            # Whoever has been heard is asked last the next time.
            if (begun := self._running.pop(by_stream[stream].job.key, None)) is not None:
                self._running[begun.job.key] = begun

    def _hear(self, begun: _Begun) -> Iterator[Event]:
        import ray
        from ray.exceptions import NodeDiedError, RayError, RayTaskError, TaskUnschedulableError

        try:
            parcel = _checked(Parcel.from_bytes(ray.get(next(begun.stream))))
            if begun.job.do == "train":
                write_into(begun.job.folder, parcel.files, parcel.removed)
        except StopIteration:
            yield from self._ended(begun, "it ended without a word")
        except RayTaskError as error:  # before anything of ours could answer
            cause = error.cause or error
            if not begun.stopping and not out_of_memory(cause):
                self._refuse(begun, f"cannot carry out a run ({(str(cause).strip().splitlines() or [type(cause).__name__])[-1]})")
            yield from self._ended(begun, "not enough memory" if out_of_memory(cause) else "")
        except TaskUnschedulableError:  # the node had gone before the job came
            self._lost(begun)
            begun.moved = True
            yield from self._ended(begun, "")
        except RayError as error:
            if isinstance(error, NodeDiedError):
                self._lost(begun)
            yield from self._ended(begun, type(error).__name__)
        except RunError as error:  # what it sent is not to be believed
            begun.last = Event(begun.job, "failed", {"reason": str(error), "final": False, "code": error.exit_code})
            with suppress(RayError):
                ray.cancel(begun.stream, force=True)
            yield from self._ended(begun, "")
        else:
            yield from self._told(begun, dict(parcel.message))

    def _told(self, begun: _Begun, message: dict[str, Any]) -> Iterator[Event]:
        kind = message.pop("event")
        if kind in ("done", "failed"):
            begun.last = Event(begun.job, kind, message)  # told when the worker has gone and its place is free
        elif kind == "refused":
            self._refuse(begun, f"has other software than this machine ({message['reason']}); install the same there")
        else:
            if kind == "epoch" and (epoch := message["record"]["epoch"]) > begun.epoch:
                begun.epoch, begun.deaths = epoch, 0
            yield Event(begun.job, kind, message)

    def _refuse(self, begun: _Begun, why: str) -> None:
        """Use a node no more that cannot do what this machine does."""
        begun.moved = True
        assert begun.node is not None
        if begun.node.id not in self._refused:
            self._refused[begun.node.id] = f"{begun.node.name} {why}"
            self._notify(f"not used: {self._refused[begun.node.id]}")
            self._nodes.pop(begun.node.id, None)

    def _lost(self, begun: _Begun) -> None:
        """Use a node no more that is gone: the cluster may take a while to say so."""
        assert begun.node is not None
        self._gone.add(begun.node.id)
        self._nodes.pop(begun.node.id, None)

    def _ended(self, begun: _Begun, how: str) -> Iterator[Event]:
        del self._running[begun.job.key]
        assert begun.node is not None
        begun.node.cores_used -= begun.places
        begun.node.gpus_used -= self._device == "cuda"
        begun.stream = None
        _let_go(begun)
        if begun.last is not None:
            yield begun.last
        elif begun.stopping:
            yield Event(begun.job, "stopped")
        elif begun.moved:
            begun.moved = False
            self._waiting.appendleft(begun)
        else:
            yield self._died(begun, how)

    def _died(self, begun: _Begun, how: str) -> Event:
        begun.deaths += 1
        where = begun.node.name if begun.node else ""
        if begun.deaths > RETRIES:
            reason = f"its worker died {begun.deaths} times, the last time on {where} ({how})"
            return Event(begun.job, "failed", {"reason": reason, "final": False, "code": 1})
        self._waiting.appendleft(begun)
        return Event(begun.job, "died", {"reason": f"its worker on {where} died ({how}); it goes on from its last checkpoint"})


def _checked(parcel: Parcel) -> Parcel:
    """A message if it says what messages say.

    Raises:
        RunError: it does not.
    """
    told = parcel.message
    expected = KINDS.get(str(told.get("event")), {"event": dict})
    if not all(isinstance(told.get(name), kind) for name, kind in expected.items()):
        raise RunError("a node sent a message that means nothing here; is there something else at this address?")
    if told["event"] == "epoch" and not isinstance(told["record"].get("epoch"), int):
        raise RunError("a node sent an epoch without a number")
    return parcel


def _task() -> Any:
    """What nodes carry out, as Ray has it."""
    import ray

    from fittingroom.cluster.node import carry_out

    return ray.remote(carry_out)


def _own(begun: _Begun) -> None:
    """Own the run folder of a job as long as it is under way.

    Raises:
        RunError: another process owns it.
        FittingRoomError: it cannot be written.
    """
    folder = begun.job.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, folder) from error
    with ExitStack() as held:
        held.enter_context(Run(folder).owned())
        begun.held = held.pop_all()


def _let_go(begun: _Begun) -> None:
    """Own the run folder no more; where there never was a run, there is no folder either."""
    if begun.held is None:
        return
    folder = begun.job.folder
    with suppress(OSError), begun.held:
        if [path.name for path in folder.iterdir()] == [".lock"]:
            (folder / ".lock").unlink()
            folder.rmdir()
    begun.held = None
