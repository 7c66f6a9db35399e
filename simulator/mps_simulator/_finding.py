"""What the checks of a kernel raise."""

from __future__ import annotations


class Finding(RuntimeError):
    """A kernel did what a GPU lets pass or punishes at random: a stray access, a race, a barrier that some never reach.

    Raised by the next call that waits for the device. The message names the kernel, the line of the ``.metal`` source,
    the threadgroup, the thread and the memory. The device goes on working.
    """
