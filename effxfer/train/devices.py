"""Choose where training runs: CPU, one GPU, or several processes under `torchrun`; and its number format."""

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from effxfer.errors import SettingsError
from effxfer.runtime.threads import within_quota
from effxfer.train.settings import Amp

# Others wait while one process exports or searches; torch's own limits are 10 and 30 minutes.
LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Device:
    """The device of one process of a training run.

    Attributes:
        torch: Device of its tensors.
        rank: Number of this process, from 0.
        world: Number of processes that train together.
    """

    torch: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def autocast(self, amp: Amp) -> AbstractContextManager[None]:
        """Compute in half precision if `amp` requests it; `auto` means bf16 on a GPU that supports it, else off."""
        dtype = half_precision(self.torch, amp)
        return torch.autocast(self.torch.type, dtype or torch.bfloat16, enabled=dtype is not None)

    def draw_from(self, seed: int) -> None:
        """Seed the generators of the CPU and of this device.

        `torch.manual_seed` also seeds unused devices and formats the whole stack for each, which takes 0.1 ms or more.
        """
        torch.default_generator.manual_seed(seed)
        if self.torch.type == "cuda":
            torch.cuda.manual_seed(seed)

    def scaler(self, amp: Amp) -> GradScaler:
        """Scale losses under fp16; does nothing otherwise."""
        return GradScaler(self.torch.type, enabled=half_precision(self.torch, amp) is torch.float16)

    def parallel(self, module: nn.Module) -> nn.Module:
        """Wrap a module so that gradients are averaged over the processes; a single process keeps the module."""
        if self.world == 1:
            return module
        # Unused ones are looked for: gradual unfreezing and auxiliary heads leave parameters without gradients.
        return nn.parallel.DistributedDataParallel(
            module, device_ids=[self.torch.index] if self.torch.type == "cuda" else None, find_unused_parameters=True
        )

    def agree(self, vote: bool) -> bool:
        """Whether every process passed true."""
        if self.world == 1:
            return vote
        # The minimum of zeros and ones: true only if all are.
        votes = torch.tensor(float(vote), device=self.torch)
        torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MIN)
        return bool(votes)

    def broadcast(self, number: float) -> float:
        """Return the leader's number in every process, so that all decide alike."""
        if self.world == 1:
            return number
        shared = torch.tensor(number, device=self.torch)
        torch.distributed.broadcast(shared, 0)
        return float(shared)

    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Average the values of all processes, in place."""
        if self.world > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)
                tensor /= self.world

    def share_(self, tensors: Iterable[Tensor]) -> None:
        """Broadcast the leader's values to every process, in place."""
        if self.world > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)


def half_precision(device: torch.device, amp: Amp) -> torch.dtype | None:
    """Return the half-precision dtype that `amp` selects on a device, or None for float32."""
    if amp == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def slow_precision(device: torch.device, amp: Amp) -> str:
    """Say that a CPU computes in half precision without instructions for it; empty elsewhere.

    Products of matrices then take many times longer: on a CPU with AVX2 alone, 60 times in bf16 (measured).
    """
    dtype = half_precision(device, amp)
    if dtype is None or device.type != "cpu":
        return ""
    support = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}[dtype]
    if getattr(torch.ops.mkldnn, support)():
        return ""
    return f"this CPU has no instructions for {amp}, which is many times slower than float32 here: leave fit.amp out"


def pick_device(name: str = "auto") -> Device:
    """Choose a device: `auto` takes the GPU if there is one; under `torchrun`, this process's GPU.

    Raises:
        SettingsError: If there is no such device, or a variable of `torchrun` is not a number.
    """
    _keep_within_quota()
    rank, world = _read_number("RANK", "0"), _read_number("WORLD_SIZE", "1")
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return Device(torch=_parse_device("cpu" if name == "auto" else name), rank=rank, world=world)


def _keep_within_quota() -> None:
    """Limit torch's threads to the container's CPU quota, unless `OMP_NUM_THREADS` is set."""
    # In a container torch counts the host's cores: threads beyond the quota are stopped in the middle of their work.
    if "OMP_NUM_THREADS" not in os.environ and within_quota(torch.get_num_threads()) < torch.get_num_threads():
        torch.set_num_threads(within_quota(torch.get_num_threads()))


def _read_number(variable: str, default: str) -> int:
    """Read a number that `torchrun` sets in the environment.

    Raises:
        SettingsError: If it is not a whole number.
    """
    text = os.environ.get(variable) or default
    if not text.isdecimal():
        raise SettingsError(f"{variable} is {text!r}, not a whole number", f"torchrun sets it: unset {variable}")
    return int(text)


def _parse_device(name: str) -> torch.device:
    hint = "pass `device=cpu`, or see `effxfer doctor`"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingsError(f"no device is called {name!r}", "devices are auto, cpu, cuda, cuda:1 ...") from None
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        available = f"torch sees {count} GPUs" if count else "torch sees no GPU"
        raise SettingsError(f"no device {name!r}: {available}", hint)
    if device.type in ("cpu", "cuda"):
        return device
    try:
        # The only proof: torch parses names of devices that its build cannot use.
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, NotImplementedError, AssertionError) as error:  # each backend has its own type of error
        reason = str(error).partition("\n")[0][:200]
        raise SettingsError(f"torch cannot compute on {name!r} here: {reason}", hint) from None
    return device


@contextmanager
def process_group(device: Device) -> Iterator[None]:
    """Connect the processes that `torchrun` started, and wait for all of them at the end of the block.

    They stay connected until they exit: reconnecting at the same address would be a race.
    """
    if device.world > 1 and not torch.distributed.is_initialized():
        # Both: tensors are shared on GPUs, numbers of the host may lie on the CPU.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=LONGEST_WAIT)
        # Else torch warns of a process group that was not destroyed.
        atexit.register(torch.distributed.destroy_process_group)
    yield
    if device.world > 1:
        torch.distributed.barrier()
